"""The interface of trial loggers, and the logger for TensorBoard."""

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import hparams, image, scalar

from data.loading.visualize import render_predictions, render_truth
from data.pack.pack import RawBatch
from search.records.trials import TrialRecord

Metrics = Mapping[str, Any]
Rates = Iterable[tuple[int, float]]  # learning rates by optimizer step
Predictions = np.ndarray | None  # of the samples, as uint8 of shape (n, h, w, 2)


class TrialLogger(Protocol):
    """Logs trials: the start or continuation of each, every report, and its end."""

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Log a trial that starts or continues; its reports contain predictions of the samples `raw`."""

    def report(self, record: TrialRecord, metrics: Metrics, *, rates: Rates, predictions: Predictions) -> None:
        """Log the metrics, the learning rates and the predictions of an epoch."""

    def finish(self, record: TrialRecord) -> None:
        """Log the end of a trial."""


class TensorBoard:
    """Writes event files with curves, images and hyperparameters, in one folder below `folder` for each trial.

    SummaryWriter would start two threads per trial, send every value through a pipe, and wait for the disk at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, EventsWriter] = {}

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Add the samples as a sheet: image, true mask and true depth."""
        if raw is not None:
            self._add(record, [(0, image("pictures/truth", render_truth(raw), dataformats="HWC"))])

    def report(self, record: TrialRecord, metrics: Metrics, *, rates: Rates, predictions: Predictions) -> None:
        """Add metrics at the epoch, learning rates at their steps, and the predictions."""
        figures = {name: v for name, v in metrics.items() if isinstance(v, float) and not name.endswith("_s")}
        summaries = [scalar(_tag(name), value) for name, value in figures.items() if math.isfinite(value)]
        if predictions is not None:
            summaries.append(image("pictures/prediction", render_predictions(predictions), dataformats="HWC"))
        epoch = metrics["epochs"]
        at_steps = [(step, scalar("lr/batch", rate)) for step, rate in rates]
        self._add(record, [*((epoch, summary) for summary in summaries), *at_steps])

    def finish(self, record: TrialRecord) -> None:
        """Add the hyperparameters with the best score and close the file."""
        config = {"stage": record.stage, **record.config}
        plain = {name: str(value) if isinstance(value, list) else value for name, value in config.items()}
        self._add(record, [(0, each) for each in hparams(plain, {_tag("score"): record.metrics.get("score", 0.0)})])
        self._files.pop(record.trial_id).close()

    def _add(self, record: TrialRecord, summaries: Iterable[tuple[int, Any]]) -> None:
        """Write summaries at their steps, and flush them, so that they are shown while the trial trains."""
        if record.trial_id not in self._files:
            folder = self.folder / record.trial_id
            folder.mkdir(parents=True, exist_ok=True)
            self._files[record.trial_id] = EventsWriter(str(folder / "events"))
        for step, summary in summaries:
            self._files[record.trial_id].write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._files[record.trial_id].flush()


def _tag(name: str) -> str:
    """Return the tag of a metric; TensorBoard groups tags by the part before the slash."""
    if name == "lr":
        return "lr/epoch"
    return name.replace("train_", "loss/") if name.startswith("train_") else f"metrics/{name}"
