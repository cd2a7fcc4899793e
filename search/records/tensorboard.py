"""The interface of trial loggers, and the logger for TensorBoard."""

import math
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams, image, scalar

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
        self._files: dict[str, EventFile] = {}

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Add the samples as a sheet: image, true mask and true depth."""
        if raw is not None:
            self._open(record.trial_id).add(0, image("pictures/truth", render_truth(raw), dataformats="HWC"))

    def report(
        self, record: TrialRecord, *, rates: Iterable[tuple[int, float]] = (), pictures: np.ndarray | None = None
    ) -> None:
        """Add metrics at the epoch, learning rates at their steps, and the predictions."""
        file = self._open(record.trial_id)
        figures = {name: v for name, v in record.metrics.items() if isinstance(v, float) and not name.endswith("_s")}
        summaries = [scalar(_tag(name), value) for name, value in figures.items() if math.isfinite(value)]
        if pictures is not None:
            summaries.append(image("pictures/prediction", render_predictions(pictures), dataformats="HWC"))
        file.add(record.metrics["epochs"], *summaries)
        for step, rate in rates:
            file.add(step, scalar("lr/batch", rate))

    def finish(self, record: TrialRecord) -> None:
        """Add the hyperparameters with the last score and close the file."""
        file = self._open(record.trial_id)
        plain = {name: _plain(value) for name, value in {"stage": record.stage, **record.config}.items()}
        for summary in hparams(plain, {_tag("score"): record.metrics.get("score", 0.0)}):
            file.add(0, summary)
        file.close()
        del self._files[record.trial_id]

    def _open(self, trial_id: str) -> "EventFile":
        if trial_id not in self._files:
            self._files[trial_id] = EventFile(self.folder / trial_id)
        return self._files[trial_id]


class EventFile:
    """An event file of TensorBoard in a separate folder.

    SummaryWriter would start two threads per trial, send every value through a pipe, and wait for the disk at the end.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}").open("ab")
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, step: int, *summaries: Any) -> None:
        """Add summaries at a step."""
        event = Event(wall_time=time.time(), step=step)
        for summary in summaries:
            event.summary.MergeFrom(summary)
        self._write(event)

    def _write(self, event: Any) -> None:
        """Append an event as a record: its length, the checksum of that, the event, and its checksum."""
        content = event.SerializeToString()
        parts = struct.pack("<Q", len(content)), content
        self._file.write(b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in parts))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _tag(name: str) -> str:
    """Return the tag of a metric; TensorBoard groups tags by the part before the slash."""
    if name == "lr":
        return "lr/epoch"
    return name.replace("train_", "loss/") if name.startswith("train_") else f"metrics/{name}"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | tuple) else value
