"""TensorBoard: one folder a trial, with its curves and, at its end, its hyperparameters beside its score."""

import math
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from search.records import TrialRecord


class Board:
    """Writes event files below `folder`; each trial's writer is closed when the trial ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def report(self, record: TrialRecord, figures: dict[str, Any]) -> None:
        """Add every number of one report, at its epoch."""
        writer = self._writer(record.trial_id)
        for name, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                writer.add_scalar(name, value, figures["epochs"])

    def finish(self, record: TrialRecord) -> None:
        """Add hyperparameters with the last score and close the trial's file."""
        writer = self._writer(record.trial_id)
        plain = {name: _plain(value) for name, value in {"stage": record.stage, **record.config}.items()}
        score = record.figures.get("score", 0.0)
        writer.add_hparams(plain, {"score": score}, name=".")
        writer.close()
        del self._writers[record.trial_id]

    def _writer(self, trial_id: str) -> SummaryWriter:
        if trial_id not in self._writers:
            self._writers[trial_id] = SummaryWriter(str(self.folder / trial_id))
        return self._writers[trial_id]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | tuple) else value
