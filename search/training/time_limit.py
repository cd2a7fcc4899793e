"""Progress of a training toward its number of steps and its time limit, whichever is nearer.

Schedules depend on the time used, which is not reproducible. Progress by time is therefore rounded down to thousandths,
and each reading that advances the progress is recorded: a training given these readings makes the same progress.
"""

import math
import time
from collections.abc import Sequence

GRID = 1000  # progress by time advances in parts of this size, so a training keeps at most this many readings
VALIDATION_COST = 0.4  # cost of validation relative to a training step on as many images: no backward pass

Readings = list[tuple[int, int]]  # steps since the epoch began, and progress in parts of GRID


class Clock:
    """Progress as the larger of steps done / steps planned and time used / time limit. It never decreases.

    `validation_steps` is the number of training steps with as many images as a validation, for the first estimate of
    its time. `recorded` are the readings of an earlier training, one list per epoch; they replace the time.
    """

    def __init__(
        self,
        steps: int,
        limit_s: float | None,
        *,
        validation_steps: float = 0.0,
        recorded: Sequence[Readings] | None = None,
    ) -> None:
        self.steps_planned, self.steps = steps, 0
        self.limit_s = math.inf if limit_s is None else max(limit_s, 1e-3)
        self.started = time.monotonic()
        self.moved = 0.0  # largest progress by time that was ahead of the steps
        self.reserve = 0.0  # seconds kept for the last validation
        self.readings: Readings = []  # readings of this epoch; empty if the steps were always ahead
        self._validation_steps, self._validated, self._first_step_s = validation_steps, False, 0.0
        self._epoch_began, self._last_step_s, self._fastest_s = 0, 0.0, math.inf
        self._recorded, self._marks = None if recorded is None else iter(recorded), dict[int, int]()

    @property
    def used(self) -> float:
        """Seconds since the start, including those before a resume."""
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Progress of the training in [0, 1]."""
        return min(max(self.steps / self.steps_planned, self.moved), 1.0)

    def begin_epoch(self) -> None:
        """Read the time before the first step of an epoch."""
        if self._recorded is not None:
            self._marks = dict(next(self._recorded, []))
        self._epoch_began, self.readings, self._last_step_s = self.steps, [], self.used
        self._read()

    def step(self) -> None:
        """Count a step and read the time."""
        self.steps += 1
        if self.steps > 1:  # the first step warms up caches
            self._fastest_s = min(self._fastest_s, self.used - self._last_step_s)
        self._last_step_s = self.used
        if not self._validated:
            self._estimate_validation()
        self._read()

    def end_validation(self, seconds: float) -> None:
        """Reserve for the next validation the seconds that this one took."""
        self.reserve, self._validated = seconds, True

    def state_dict(self) -> dict[str, float]:
        """Return the state at the end of an epoch."""
        return {"steps": self.steps, "used": self.used, "moved": self.moved, "reserve": self.reserve}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore a state that `state_dict` returned."""
        self.steps, self.moved = int(state["steps"]), state["moved"]
        self.started = time.monotonic() - state["used"]
        self.end_validation(state["reserve"])

    def _estimate_validation(self) -> None:
        """Estimate the time of the first validation from all steps but the first, which warms up caches."""
        if self.steps == 1:
            self._first_step_s = self.used
        else:
            step_s = (self.used - self._first_step_s) / (self.steps - 1)
            self.reserve = VALIDATION_COST * self._validation_steps * step_s

    def _read(self) -> None:
        step = self.steps - self._epoch_began
        mark = self._mark(step)
        if mark / GRID > self.progress:
            self.moved = mark / GRID
            self.readings.append((step, mark))

    def _mark(self, step: int) -> int:
        """Return progress by time in parts of GRID, `step` steps into the epoch: GRID if no further step fits."""
        if self._recorded is not None:
            return self._marks.get(step, 0)
        training_s = max(self.limit_s - self.reserve, 1e-3)
        next_s = self._fastest_s if math.isfinite(self._fastest_s) else 0.0
        return GRID if self.used + next_s > training_s else int(GRID * self.used / training_s)
