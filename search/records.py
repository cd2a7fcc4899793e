"""Trial records on disk and their provenance; standard library only.

Owns trials.csv, reports.jsonl and run.json of a run folder. Every write that replaces a file goes to a temporary name
and is renamed, so a reader (or a crash) never meets half a table.
"""

import csv
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

STATUSES = ("completed", "stopped", "failed", "timed_out")
LEADING_COLUMNS = tuple(
    "trial_id parent_id stage status reason score iou dice mae_mask rmse_depth epochs images_seen params macs "  # noqa: SIM905
    "receptive_field px train_images fit_s device_s seed started_s ended_s".split()
)
_PACKAGES = ("torch", "ray", "optuna", "albumentations", "pytorch-msssim", "opencv-python-headless", "numpy", "pandas")


@dataclass(kw_only=True)
class TrialRecord:
    """One trial at one stage: a row of trials.csv.

    Attributes:
        trial_id: Stage letter and a number, such as e0007.
        parent_id: The trial whose weights it started from, or "".
        stage: explore, confirm or final.
        config: Flat plain values with keys `section/field`.
        seed: Seed of the weights, the order and the augmentation.
        status: One of STATUSES; "" while it runs.
        reason: Why it failed or was cut; "" otherwise.
        figures: The last reported figures.
        started_s: When it started, seconds since the run began.
    """

    trial_id: str
    parent_id: str
    stage: str
    config: dict[str, Any]
    seed: int
    status: str = ""
    reason: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    started_s: float = 0.0

    @property
    def score(self) -> float:
        """The last validation score, or minus infinity where none was reported."""
        return float(self.figures.get("score", float("-inf")))

    def row(self) -> dict[str, Any]:
        """Return the row of trials.csv, leading columns first."""
        own = {name: getattr(self, name) for name in ("trial_id", "parent_id", "stage", "status", "reason", "seed")}
        values = {**self.figures, **own, "started_s": round(self.started_s, 3)}
        leading = {name: values.pop(name, "") for name in LEADING_COLUMNS}
        config = {key: json.dumps(value) if isinstance(value, list) else value for key, value in self.config.items()}
        return {**leading, **values, **config}


class TrialTable:
    """All records of a run, written as they happen to trials.csv and reports.jsonl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, TrialRecord] = {}

    def start(self, record: TrialRecord) -> None:
        """Register a trial that begins."""
        self.records[record.trial_id] = record

    def report(self, trial_id: str, figures: Mapping[str, Any]) -> TrialRecord:
        """Append one report to reports.jsonl and keep its figures as the trial's newest."""
        record = self.records[trial_id]
        record.figures.update(figures)
        line = {"trial_id": trial_id, "stage": record.stage, **figures}
        with (self.folder / "reports.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return record

    def finish(self, trial_id: str, status: str, reason: str = "") -> TrialRecord:
        """Close a trial and write trials.csv anew.

        Raises:
            ValueError: `status` is not one of STATUSES.
        """
        if status not in STATUSES:
            raise ValueError(f"status is {status!r}; choose from {', '.join(STATUSES)}")
        record = self.records[trial_id]
        record.status, record.reason = status, reason
        self.write()
        return record

    def of_stage(self, stage: str) -> list[TrialRecord]:
        """Return the finished records of a stage in the order they started."""
        return [r for r in self.records.values() if r.stage == stage and r.status]

    def write(self) -> None:
        """Write trials.csv from the finished records."""
        write_csv(self.folder / "trials.csv", [r.row() for r in self.records.values() if r.status])


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows whose columns are the union of their keys, in order of appearance, atomically."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row)) or list(LEADING_COLUMNS)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def provenance() -> dict[str, Any]:
    """Return what a figure depends on beside its config: command, versions, machine, time."""
    return {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
