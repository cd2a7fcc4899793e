"""How far a run is: by its steps, or by its time where that is shorter. Knows nothing of what is trained."""

import math
import time

_VALIDATION_COST = 0.4  # of a training step on as many images: no backward pass, no optimizer


class Clock:
    """Progress of a run: the larger of steps done / steps planned and time used / time allowed."""

    def __init__(self, steps: int, limit: float | None) -> None:
        self.steps_planned, self.steps = steps, 0
        self.allowed = math.inf if limit is None else max(limit, 1e-3)
        self.started = time.monotonic()
        self.reserve = 0.0
        self._warm = (0.0, 0)

    @property
    def used(self) -> float:
        """Seconds since the start, those before a resume included."""
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Part of the run that is done, in [0, 1]; the time of the closing validation is kept in reserve."""
        by_time = self.used / max(self.allowed - self.reserve, 1e-3)
        return min(max(self.steps / self.steps_planned, by_time), 1.0)

    def foresee_validation(self, trained: int, validated: int) -> None:
        """Before the first validation, guess its time from the steps behind the first, which also warms things up.

        Args:
            trained: Images trained on so far.
            validated: Images that the validation will see.
        """
        if self.steps == 0:
            return
        if self.steps == 1:
            self._warm = (self.used, trained)
            return
        per_image = (self.used - self._warm[0]) / (trained - self._warm[1])
        self.reserve = _VALIDATION_COST * per_image * validated
