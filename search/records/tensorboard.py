"""The interface of trial loggers, and the logger for TensorBoard."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from data.loading.visualize import render_predictions, render_truth
from data.pack.pack import RawBatch
from search.records.trials import TrialRecord


class TrialLogger(Protocol):
    """Logs trials: the start or continuation of each, every report, and its end."""

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Log a trial that starts or continues; its reports contain predictions of the samples `raw`."""

    def report(
        self, record: TrialRecord, *, rates: Iterable[tuple[int, float]] = (), pictures: np.ndarray | None = None
    ) -> None:
        """Log one report: metrics, learning rates by optimizer step, and predictions as uint8 of shape (n, h, w, 2)."""

    def finish(self, record: TrialRecord) -> None:
        """Log the end of a trial."""


class TensorBoard:
    """Writes event files with curves, images and hyperparameters, in one folder below `folder` for each trial."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Add the samples as a sheet: image, true mask and true depth."""
        if raw is not None:
            self._writer(record.trial_id).add_image("pictures/truth", render_truth(raw), 0, dataformats="HWC")

    def report(
        self, record: TrialRecord, *, rates: Iterable[tuple[int, float]] = (), pictures: np.ndarray | None = None
    ) -> None:
        """Add metrics at the epoch, learning rates at their steps, and the predictions."""
        writer, epoch = self._writer(record.trial_id), record.metrics["epochs"]
        for name, value in record.metrics.items():
            if isinstance(value, float) and math.isfinite(value) and not name.endswith("_s"):
                writer.add_scalar(_tag(name), value, epoch)
        for step, rate in rates:
            writer.add_scalar("lr/batch", rate, step)
        if pictures is not None:
            writer.add_image("pictures/prediction", render_predictions(pictures), epoch, dataformats="HWC")

    def finish(self, record: TrialRecord) -> None:
        """Add the hyperparameters with the last score and close the file."""
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
    """Return the tag of a metric; TensorBoard groups tags by the part before the slash."""
    if name == "lr":
        return "lr/epoch"
    return name.replace("train_", "loss/") if name.startswith("train_") else f"metrics/{name}"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | tuple) else value
