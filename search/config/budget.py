"""The budget of a run, and the deadlines that divide it over the stages."""

import argparse
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|trials|gpuh|cpuh)")
SHORTEST_S = 45.0
FORMS = "write a time (90s, 10m, 1h30m), 40trials or 2gpuh"
SLOW_START = 1 / 3  # a start that takes a larger fraction of the time is reported as slow


class BudgetError(argparse.ArgumentTypeError, ValueError):
    """A budget cannot be read or met; the message gives a remedy, and argparse prints it."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The limit for all processes of a run together."""

    text: str  # as the user wrote it
    wall_s: float | None = None  # wall time in seconds, or None
    trials: int | None = None  # number of trials of the search, or None
    device_s: float | None = None  # device seconds over all devices, or None
    device: str = ""  # kind of these devices: "gpu" or "cpu" (a core)

    def as_wall_time(self, *, devices: Mapping[str, int], used_s: float = 0.0, used: Mapping[str, float]) -> "Budget":
        """Convert the remaining device hours to wall time, shared over the devices; return other budgets unchanged.

        `used_s` are the seconds that the run has used, `used` the device seconds of each kind of its earlier processes.
        Raise BudgetError if there is no such device, or too little is left.
        """
        if self.device_s is None:
            return self
        count = devices[self.device]
        if not count:
            raise BudgetError(f"--budget {self.text}: there is no GPU here; write it in core hours (2cpuh) or as time")
        left_s = (self.device_s - used[self.device]) / count
        if used_s + left_s < SHORTEST_S:
            raise BudgetError(
                f"--budget {self.text} is {left_s:.0f}s on {count} devices; give {SHORTEST_S:.0f}s or more"
            )
        return replace(self, wall_s=used_s + left_s)


def parse_budget(text: str) -> Budget:
    """Parse "90s", "1h30m", "40trials" or "2gpuh"; raise BudgetError for other forms and too short budgets."""
    plain = text.strip().lower()
    parts = [(float(amount), unit) for amount, unit in _AMOUNT.findall(plain)]
    is_sum = all(unit in _UNITS for _, unit in parts)
    if not parts or _AMOUNT.sub("", plain).strip() or not (is_sum or len(parts) == 1):
        raise BudgetError(f"--budget {text!r} is not a budget; {FORMS}")
    amount, unit = parts[0]
    if unit == "trials":
        if amount < 1 or amount != int(amount):
            raise BudgetError(f"--budget {text!r} must be a whole number of trials, at least 1")
        return Budget(text=text, trials=int(amount))
    seconds = sum(n * _UNITS[each] for n, each in parts) if is_sum else 3600.0 * amount
    if seconds < SHORTEST_S:
        raise BudgetError(f"--budget {text!r} is too short to search and train; give at least {SHORTEST_S:.0f}s")
    return Budget(text=text, wall_s=seconds) if is_sum else Budget(text=text, device_s=seconds, device=unit[:3])


def parse_amount(text: str) -> float:
    """Parse "1M", "250k", "1.5G" or "20"; raise BudgetError if it has another form or is not above 0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", text.strip().lower())
    if not found or not float(found[1]):
        raise BudgetError(f"{text!r} is not an amount; write 250k, 1M or 1.5G")
    return float(found[1]) * _AMOUNTS[found[2]]


def extend_budget(budget: Budget, more: Budget, *, used_s: float, used: Mapping[str, float], trials: int) -> Budget:
    """Return the budget of a run that gets `more` in addition to what it has used.

    `used` are its device seconds of each kind, `trials` the trials that its search has begun.
    """
    whole = replace(more, text=f"{budget.text}+{more.text}")
    if more.trials is not None:
        return replace(whole, trials=trials + more.trials)
    if more.device_s is not None:
        return replace(whole, device_s=used[more.device] + more.device_s)
    return replace(whole, wall_s=used_s + (more.wall_s or 0.0))


def check_time_left(budget: Budget, *, used_s: float) -> None:
    """Raise BudgetError if a new run has no time left after its start, which took `used_s` seconds."""
    if budget.wall_s is not None and _compute_left_s(budget.wall_s, used_s) <= 0:
        raise BudgetError(f"--budget {budget.text} is too short here: starting took {used_s:.0f} s; use a longer one")


def describe_slow_start(budget: Budget, *, earlier_s: float, used_s: float) -> str:
    """Return a sentence if the start of a process took much of a time budget, else "".

    `used_s` are the seconds that the run has used, `earlier_s` those of its earlier processes.
    """
    if budget.wall_s is None or used_s - earlier_s < SLOW_START * (budget.wall_s - earlier_s):
        return ""
    left_s = max(_compute_left_s(budget.wall_s, used_s), 0.0)
    return f"starting took {used_s - earlier_s:.0f} s; {left_s:.0f} s of {budget.text} are left for training"


def _compute_left_s(wall_s: float, used_s: float) -> float:
    """Return the seconds until the last stage ends, given those that the run has used; negative after that."""
    return wall_s - compute_wrap_up_s(wall_s) - used_s


def plan_deadlines(
    *, start: float, wall_s: float, shares: Mapping[str, float], now: float | None = None
) -> dict[str, float]:
    """Divide the remaining wall time over the stages, after reserving time to wrap up; return the end of each stage.

    `start` of the process, `now`, the start of the first stage, and the ends are moments of time.monotonic(), so a
    stage that ends early leaves its time to the next one. A stage with share 0 gets the time that earlier stages do not
    use. Test metrics, samples and the end of Ray follow the last stage.
    """
    begin = time.monotonic() if now is None else now
    left_s = max(start + wall_s - compute_wrap_up_s(wall_s) - begin, 1.0)
    return _divide(begin, left_s, shares)


def reschedule(deadlines: Mapping[str, float], shares: Mapping[str, float], now: float) -> dict[str, float]:
    """Divide the time left at `now` over the remaining stages, in the order of `shares`."""
    left_s = max(max(deadlines.values()) - now, 0.0)
    return {**deadlines, **_divide(now, left_s, shares)}


def _divide(begin: float, left_s: float, shares: Mapping[str, float]) -> dict[str, float]:
    """Return the end of each stage if they follow each other from `begin` and share `left_s` seconds."""
    total, done, ends = sum(shares.values()), 0.0, {}
    for name, share in shares.items():
        done += share
        ends[name] = begin + left_s * (done / total if total else 1.0)
    return ends


def compute_wrap_up_s(wall_s: float) -> float:
    """Return the seconds reserved after the last stage: 6 s plus 2 % of the budget, at most 60 s."""
    return min(6.0 + 0.02 * wall_s, 60.0)
