"""TensorBoard: one folder a trial, with its curves, its pictures and, at its end, hyperparameters beside its score."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from data.pack import RawBatch
from search.pictures import prediction_sheet, truth_sheet
from search.records import TrialRecord


class Board:
    """Writes event files below `folder`; each trial's writer is closed when the trial ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def inputs(self, trial_id: str, raw: RawBatch) -> None:
        """Add, once, the samples whose predictions follow: image, true mask and true depth, a row each."""
        self._writer(trial_id).add_image("pictures/truth", truth_sheet(raw), 0, dataformats="HWC")

    def report(
        self,
        trial_id: str,
        figures: dict[str, Any],
        *,
        rates: Iterable[tuple[int, float]] = (),
        pictures: np.ndarray | None = None,
    ) -> None:
        """Add one report.

        Args:
            trial_id: Whose.
            figures: Every number of them is added at its epoch.
            rates: Steps of the optimizer with their learning rates.
            pictures: Predicted mask and depth of the samples given to `inputs`, 0..255 of shape (n, h, w, 2).
        """
        writer, epoch = self._writer(trial_id), figures["epochs"]
        for name, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                writer.add_scalar(name, value, epoch)
        for step, rate in rates:
            writer.add_scalar("lr/batch", rate, step)
        if pictures is not None:
            writer.add_image("pictures/prediction", prediction_sheet(pictures), epoch, dataformats="HWC")

    def finish(self, record: TrialRecord) -> None:
        """Add hyperparameters with the last score and close the trial's file."""
        writer = self._writer(record.trial_id)
        plain = {name: _plain(value) for name, value in {"stage": record.stage, **record.config}.items()}
        # not add_hparams, whose file of its own replaces this one if both are opened within a second
        for summary in hparams(plain, {"score": record.figures.get("score", 0.0)}):
            writer.file_writer.add_summary(summary)
        writer.close()
        del self._writers[record.trial_id]

    def _writer(self, trial_id: str) -> SummaryWriter:
        if trial_id not in self._writers:
            self._writers[trial_id] = SummaryWriter(str(self.folder / trial_id))
        return self._writers[trial_id]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | tuple) else value
