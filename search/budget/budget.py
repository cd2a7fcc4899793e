"""The budget: what the user allows, its share for each stage, and the clock that everything obeys.

Pure functions and one small class over the wall clock; knows no trial, no Ray.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|trials|gpuh|cpuh)")
SHORTEST_S = 45.0


class BudgetError(ValueError):
    """A budget that cannot be read or kept; the message says what to write instead."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run may spend, all its processes together.

    Attributes:
        text: As the user wrote it.
        wall_s: Wall time in seconds, or None when counted otherwise.
        trials: Number of trials of the search, or None.
        device_s: Seconds of all its devices together, or None.
        device: What they are: "gpu" or "cpu" (a core).
    """

    text: str
    wall_s: float | None = None
    trials: int | None = None
    device_s: float | None = None
    device: str = ""

    def on(self, *, devices: Mapping[str, int], used_s: float = 0.0, used: Mapping[str, float]) -> "Budget":
        """Return the same budget as wall time, where it is device hours: what is left of them goes over all devices.

        Args:
            devices: How many there are of each kind.
            used_s: Seconds that the run has used.
            used: Device seconds of each kind that its processes before this one have used.

        Raises:
            BudgetError: There is no such device, or too little is left.
        """
        if self.device_s is None:
            return self
        if not devices[self.device]:
            raise BudgetError(f"--budget {self.text}: there is no GPU here; write it in core hours (2cpuh) or as time")
        left_s = (self.device_s - used[self.device]) / devices[self.device]
        if used_s + left_s < SHORTEST_S:
            raise BudgetError(
                f"--budget {self.text} is {left_s:.0f}s on {devices[self.device]} devices; "
                f"give {SHORTEST_S:.0f}s or more"
            )
        return replace(self, wall_s=used_s + left_s)

    def spent(self, *, used_s: float, trials: int) -> float:
        """Return the part that is spent, 1 being all of it; device hours are taken as wall time first, by `on`.

        Args:
            used_s: Seconds that the run has used.
            trials: How many trials its search has begun.
        """
        return used_s / self.wall_s if self.wall_s else trials / (self.trials or 1)


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
    if unit.endswith("puh"):
        return Budget(text=text, device_s=seconds, device=unit[:3])
    return Budget(text=text, wall_s=seconds)


def parse_amount(text: str) -> float:
    """Read "1M", "250k", "1.5G" or "20".

    Raises:
        BudgetError: Not of that form, or not above 0.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", text.strip().lower())
    if not found or not float(found[1]):
        raise BudgetError(f"{text!r} is not an amount; write 250k, 1M or 1.5G")
    return float(found[1]) * _AMOUNTS[found[2]]


def extended(budget: Budget, more: Budget, *, used_s: float, used: Mapping[str, float], trials: int) -> Budget:
    """Return the budget of a run that is given more: what it has used, and all of `more`.

    Args:
        budget: The one it had.
        more: In time, trials or device hours.
        used_s: What the run has used, in seconds.
        used: The same in device seconds of each kind.
        trials: How many trials its search has begun.
    """
    whole = replace(more, text=f"{budget.text}+{more.text}")
    if more.trials is not None:
        return replace(whole, trials=trials + more.trials)
    if more.device_s is not None:
        return replace(whole, device_s=used[more.device] + more.device_s)
    return replace(whole, wall_s=used_s + (more.wall_s or 0.0))


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Moments (seconds since the epoch) by which each stage has ended, and the run with them.

    A stage that ends early gives its rest to the next, for they are moments, not durations.
    """

    stages: Mapping[str, float]
    end: float

    def put_off(self, shares: Mapping[str, float], now: float) -> "Deadlines":
        """Return the deadlines where those of `shares` begin later than planned: what is left is divided among them.

        Args:
            shares: Of the stages that are still to come, in order.
            now: Seconds since the epoch.
        """
        left_s = max(max(self.stages.values()) - now, 0.0)
        return replace(self, stages={**self.stages, **divided(now, left_s, shares)})

    def since(self, began: float) -> dict[str, float]:
        """Return all of them as seconds since `began`."""
        return {name: round(at - began, 2) for name, at in {**self.stages, "end": self.end}.items()}

    @classmethod
    def after(cls, began: float, planned: Mapping[str, float]) -> "Deadlines":
        """Return what `since` returned, as moments."""
        moments = {name: began + at_s for name, at_s in planned.items()}
        return cls(end=moments.pop("end"), stages=moments)


def plan_deadlines(*, start: float, wall_s: float, shares: Mapping[str, float], now: float | None = None) -> Deadlines:
    """Divide what is left of the wall time among the stages, the wrap-up reserved first.

    Args:
        start: When the user pressed Enter, seconds since the epoch.
        wall_s: The whole budget in seconds.
        shares: Parts of the stages in order; one without a part takes what those before it leave.
        now: The moment the first stage begins; the present by default.

    Returns:
        Deadlines; the wrap-up (test metrics, samples, ending Ray) lies between the last stage and `end`.
    """
    begin = time.time() if now is None else now
    end = start + wall_s
    left_s = max(end - wrap_up_s(wall_s) - begin, 1.0)
    return Deadlines(stages=divided(begin, left_s, shares), end=end)


def divided(begin: float, left_s: float, shares: Mapping[str, float]) -> dict[str, float]:
    """Return when each stage ends if they follow each other from `begin` on and share `left_s` seconds."""
    total, done, ends = sum(shares.values()), 0.0, {}
    for name, share in shares.items():
        done += share
        ends[name] = begin + left_s * (done / total if total else 1.0)
    return ends


def wrap_up_s(wall_s: float) -> float:
    """Return the seconds kept for what follows the last stage: 6 s and 2 % of the budget, 60 s at most."""
    return min(6.0 + 0.02 * wall_s, 60.0)
