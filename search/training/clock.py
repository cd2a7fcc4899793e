"""How far a run is: by its steps, or by its time where that is further. Knows nothing of what is trained.

Whatever depends on progress depends on time, which no repetition meets again. So progress by time moves in thousandths,
and each reading that moved a run on is kept: a run that is given these readings makes the same progress, bit for bit.
"""

import math
import time
from collections.abc import Sequence

GRID = 1000  # readings count in parts of so many; a run keeps so many of them at most
_VALIDATION_COST = 0.4  # of a training step on as many images: no backward pass, no optimizer

Readings = list[tuple[int, int]]  # steps since the epoch began, and progress in parts of GRID


class Clock:
    """Progress of a run: the larger of steps done / steps planned and time used / time allowed. It never goes back.

    Attributes:
        steps: Done so far.
        moved: Progress by time, as far as it was ahead of the steps.
        reserve: Seconds kept for the closing validation.
        readings: Of this epoch, those that moved the run on; none where its steps were always ahead.

    Args:
        steps: Planned.
        limit: Seconds allowed, or None.
        validation: Steps that train on as many images as one validation sees: by them the first validation is foreseen.
    """

    def __init__(self, steps: int, limit: float | None, *, validation: float = 0.0) -> None:
        self.steps_planned, self.steps = steps, 0
        self.allowed = math.inf if limit is None else max(limit, 1e-3)
        self.started = time.monotonic()
        self.moved, self.reserve = 0.0, 0.0
        self.readings: Readings = []
        self._validation, self._foreseen, self._warm_s = validation, True, 0.0
        self._epoch_began, self._stepped, self._fastest_s = 0, 0.0, math.inf

    @property
    def used(self) -> float:
        """Seconds since the start, those before a resume included."""
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Part of the run that is done, in [0, 1]."""
        return min(max(self.steps / self.steps_planned, self.moved), 1.0)

    def begin_epoch(self) -> None:
        """Take the time before the first step of an epoch."""
        self._epoch_began, self.readings, self._stepped = self.steps, [], self.used
        self._read()

    def step(self) -> None:
        """Count a step and take the time."""
        self.steps += 1
        if self.steps > 1:  # the first warms things up
            self._fastest_s = min(self._fastest_s, self.used - self._stepped)
        self._stepped = self.used
        if self._foreseen:
            self._foresee_validation()
        self._read()

    def validated(self, seconds: float) -> None:
        """Keep as many seconds for the next validation as this one took."""
        self.reserve, self._foreseen = seconds, False

    def state(self) -> dict[str, float]:
        """Return what `load` needs to go on at the end of an epoch."""
        return {"steps": self.steps, "used": self.used, "moved": self.moved, "reserve": self.reserve}

    def load(self, state: dict[str, float]) -> None:
        """Take up a state that `state` returned."""
        self.steps, self.moved = int(state["steps"]), state["moved"]
        self.started = time.monotonic() - state["used"]
        self.validated(state["reserve"])

    def _foresee_validation(self) -> None:
        """Guess the time of the first validation from the steps behind the first, which also warms things up."""
        if self.steps == 1:
            self._warm_s = self.used
        else:
            self.reserve = _VALIDATION_COST * self._validation * (self.used - self._warm_s) / (self.steps - 1)

    def _read(self) -> None:
        step = self.steps - self._epoch_began
        mark = self._mark(step)
        if mark / GRID > self.progress:
            self.moved = mark / GRID
            self.readings.append((step, mark))

    def _mark(self, step: int) -> int:
        """Return progress by time, in parts of GRID, `step` steps after the epoch began: all, if none fits any more."""
        del step
        allowed = max(self.allowed - self.reserve, 1e-3)
        next_s = self._fastest_s if math.isfinite(self._fastest_s) else 0.0
        return GRID if self.used + next_s > allowed else int(GRID * self.used / allowed)


class RecordedClock(Clock):
    """The clock of an earlier run: time is what that run's readings say.

    Args:
        steps: Planned.
        epochs: The readings of each epoch, from the first.
    """

    def __init__(self, steps: int, epochs: Sequence[Readings]) -> None:
        super().__init__(steps, None)
        self._epochs = iter(epochs)
        self._marks: dict[int, int] = {}

    def begin_epoch(self) -> None:
        """Turn to the readings of the next epoch."""
        self._marks = dict(next(self._epochs, []))
        super().begin_epoch()

    def _mark(self, step: int) -> int:
        return self._marks.get(step, 0)
