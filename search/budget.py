"""The budget: what the user allows, its share for each stage, and the clock that everything obeys.

Pure functions and one small class over the wall clock; knows no trial, no Ray.
"""

import re
import time
from dataclasses import dataclass

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|trials|gpuh|cpuh)")
SHORTEST_S = 45.0


class BudgetError(ValueError):
    """A budget that cannot be read or kept; the message says what to write instead."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run may spend.

    Attributes:
        text: As the user wrote it.
        wall_s: Wall time in seconds, or None when counted otherwise.
        trials: Number of explore trials, or None.
        device_s: Device seconds over all workers (GPUs, or cores on a machine without), or None.
        used_s: Seconds that the run had used when it was given device hours.
    """

    text: str
    wall_s: float | None = None
    trials: int | None = None
    device_s: float | None = None
    used_s: float = 0.0

    def on(self, devices: float) -> "Budget":
        """Return the same budget with device hours turned into wall time over `devices` devices."""
        if self.device_s is None:
            return self
        wall_s = self.device_s / devices
        if wall_s < SHORTEST_S:
            raise BudgetError(
                f"--budget {self.text!r} is {wall_s:.0f}s on {devices:g} devices; give {SHORTEST_S:.0f}s or more"
            )
        return Budget(text=self.text, wall_s=self.used_s + wall_s)


def parse_budget(text: str) -> Budget:
    """Read "90s", "10m", "2h", "40trials" or "2gpuh".

    Raises:
        BudgetError: Not of that form, or too little for a search.
    """
    found = _PATTERN.fullmatch(text.strip().lower())
    if not found:
        raise BudgetError(f"--budget {text!r} is not a budget; write a time (90s, 10m, 2h), 40trials or 2gpuh")
    amount, unit = float(found[1]), found[2]
    if unit == "trials":
        if amount < 1 or amount != int(amount):
            raise BudgetError(f"--budget {text!r} must be a whole number of trials, at least 1")
        return Budget(text=text, trials=int(amount))
    seconds = amount * (3600.0 if unit.endswith("puh") else _UNITS[unit])
    if seconds < SHORTEST_S:
        raise BudgetError(f"--budget {text!r} is too short to search and train; give at least {SHORTEST_S:.0f}s")
    return Budget(text=text, device_s=seconds) if unit.endswith("puh") else Budget(text=text, wall_s=seconds)


def extended(budget: Budget, more: Budget, *, used_s: float, trials: int) -> Budget:
    """Return the budget of a run that is given more: what it has used, and all of `more`.

    Args:
        budget: The one it had.
        more: In time, trials or device hours.
        used_s: What the run has used, in seconds.
        trials: How many trials its search has begun.
    """
    text = f"{budget.text}+{more.text}"
    if more.trials is not None:
        return Budget(text=text, trials=trials + more.trials)
    if more.device_s is not None:
        return Budget(text=text, device_s=more.device_s, used_s=used_s)
    return Budget(text=text, wall_s=used_s + (more.wall_s or 0.0))


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The parts of the time after start-up that each stage gets; they and the wrap-up sum to 1."""

    explore: float = 0.40
    confirm: float = 0.26
    final: float = 0.34

    def __post_init__(self) -> None:
        total = self.explore + self.confirm + self.final
        if abs(total - 1) > 1e-9 or min(self.explore, self.confirm, self.final) <= 0:
            raise BudgetError(f"shares must be above 0 and sum to 1, not {total:.3f}")


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Moments (seconds since the epoch) by which each stage has ended, and the run with them."""

    explore: float
    confirm: float
    final: float
    end: float

    def of(self, stage: str) -> float:
        """Return the deadline of the stage of that name."""
        return float(getattr(self, stage))


def plan_deadlines(*, start: float, wall_s: float, shares: Shares, now: float | None = None) -> Deadlines:
    """Divide what is left of the wall time among the stages, the wrap-up reserved first.

    Args:
        start: When the user pressed Enter, seconds since the epoch.
        wall_s: The whole budget in seconds.
        shares: Parts of the stages.
        now: The moment the first stage begins; the present by default.

    Returns:
        Deadlines; the wrap-up (test figures, samples, ending Ray) lies between `final` and `end`.
    """
    begin = time.time() if now is None else now
    end = start + wall_s
    left = max(end - wrap_up_s(wall_s) - begin, 1.0)
    explore = begin + shares.explore * left
    confirm = explore + shares.confirm * left
    return Deadlines(explore=explore, confirm=confirm, final=begin + left, end=end)


def wrap_up_s(wall_s: float) -> float:
    """Return the seconds kept for what follows the last stage: 6 s and 2 % of the budget, 60 s at most."""
    return min(6.0 + 0.02 * wall_s, 60.0)
