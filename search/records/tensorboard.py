"""What is told of every trial while it runs; and TensorBoard, which shows it.

TensorBoard gets one folder a trial, with its curves, its pictures and, at its end, hyperparameters beside its score.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from data.pack.pack import RawBatch
from data.visualize import render_predictions, render_truth
from search.records.trials import TrialRecord


class TrialLogger(Protocol):
    """Shows trials: of each, where it starts or goes on, every report, and its end."""

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Take note of a trial.

        Args:
            record: The trial.
            raw: The samples whose predictions its reports bring, if they do.
        """

    def report(
        self, record: TrialRecord, *, rates: Iterable[tuple[int, float]] = (), pictures: np.ndarray | None = None
    ) -> None:
        """Take note of one report.

        Args:
            record: The trial, with the metrics that it reported.
            rates: Steps of the optimizer since the last report, with their learning rates.
            pictures: Predicted mask and depth of the samples, 0..255 of shape (n, h, w, 2).
        """

    def finish(self, record: TrialRecord) -> None:
        """Take note of how a trial ended."""


class TensorBoard:
    """Writes event files below `folder`; each trial's writer is closed when the trial ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Add the samples whose predictions follow: image, true mask and true depth, a row each."""
        if raw is not None:
            self._writer(record.trial_id).add_image("pictures/truth", render_truth(raw), 0, dataformats="HWC")

    def report(
        self, record: TrialRecord, *, rates: Iterable[tuple[int, float]] = (), pictures: np.ndarray | None = None
    ) -> None:
        """Add what of a report makes a curve at its epoch, the learning rates at their steps, and the predictions."""
        writer, epoch = self._writer(record.trial_id), record.metrics["epochs"]
        for name, value in record.metrics.items():
            if isinstance(value, float) and math.isfinite(value) and not name.endswith("_s"):
                writer.add_scalar(_tag(name), value, epoch)
        for step, rate in rates:
            writer.add_scalar("lr/batch", rate, step)
        if pictures is not None:
            writer.add_image("pictures/prediction", render_predictions(pictures), epoch, dataformats="HWC")

    def finish(self, record: TrialRecord) -> None:
        """Add hyperparameters with the last score and close the trial's file."""
        writer = self._writer(record.trial_id)
        plain = {name: _plain(value) for name, value in {"stage": record.stage, **record.config}.items()}
        # not add_hparams, whose file of its own replaces this one if both are opened within a second
        for summary in hparams(plain, {_tag("score"): record.metrics.get("score", 0.0)}):
            writer.file_writer.add_summary(summary)
        writer.close()
        del self._writers[record.trial_id]

    def _writer(self, trial_id: str) -> SummaryWriter:
        if trial_id not in self._writers:
            self._writers[trial_id] = SummaryWriter(str(self.folder / trial_id))
        return self._writers[trial_id]


def _tag(name: str) -> str:
    """Return the tag of a figure; what stands before its stroke is its group on the page."""
    if name == "lr":
        return "lr/epoch"
    return name.replace("train_", "loss/") if name.startswith("train_") else f"metrics/{name}"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | tuple) else value
