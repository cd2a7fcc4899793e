"""Trial records of a run: trials.csv, trials.jsonl and reports.jsonl.

trials.jsonl has a line for the start and for the end of each trial. Together with reports.jsonl, it is all that a
killed run needs to resume.
"""

import csv
import io
import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data.runtime.files import sync
from search.records.run_dir import append_line, read_lines, require_fields, write_lines, write_text

MAX_WRITE_SHARE = 0.01  # largest share of a stage's time that is spent on writing trials.csv
STATUSES = ("completed", "stopped", "failed", "ended_by_budget")
LEADING_COLUMNS = tuple(
    "trial_id parent_id stage status reason score iou dice mae_mask rmse_depth epochs images_seen params macs "  # noqa: SIM905
    "receptive_field px train_images fit_s device_s seed started_s ended_s".split()
)
_BEGUN: dict[str, Any] = {
    **{"trial_id": str, "parent_id": str, "stage": str, "config": dict, "seed": int},
    **{"metrics": dict, "started_s": (int, float)},
}
_ENDED = {"trial_id": str, "status": str, "reason": str}
_REPORTED = {"trial_id": str, "stage": str, "epochs": int}


@dataclass(kw_only=True)
class TrialRecord:
    """One trial at one stage: a row of trials.csv."""

    trial_id: str  # stage letter and a number, such as e0007
    parent_id: str  # trial whose weights this trial started from, or ""
    stage: str  # explore, confirm, final or repeat
    config: dict[str, Any]  # flat plain values with keys `section/field`
    seed: int  # seed of the weights, the order and the augmentation
    status: str = ""  # one of STATUSES; "" while it runs
    reason: str = ""  # why the trial failed or was stopped; "" otherwise
    # metrics of the last report; those measured on the validation images are of the best epoch so far
    metrics: dict[str, Any] = field(default_factory=dict)
    started_s: float = 0.0  # start in seconds of run time

    @classmethod
    def from_line(cls, line: Mapping[str, Any], path: Path) -> "TrialRecord":
        """Return the record of a trial from the line of its start in trials.jsonl, without fields of other versions."""
        require_fields({"metrics": {}, "started_s": 0.0} | dict(line), _BEGUN, path)
        return cls(**{name: line[name] for name in {f.name for f in fields(cls)} & line.keys()})

    @property
    def score(self) -> float:
        """The validation score of the best epoch so far; minus infinity before the first report."""
        return float(self.metrics.get("score", float("-inf")))

    @property
    def number(self) -> int:
        """The number of the trial in its stage."""
        return int(self.trial_id[1:])

    def build_row(self) -> dict[str, Any]:
        """Return the row of trials.csv, leading columns first."""
        own = {name: getattr(self, name) for name in ("trial_id", "parent_id", "stage", "status", "reason", "seed")}
        values = {**self.metrics, **own, "started_s": round(self.started_s, 3)}
        values = {name: value for name, value in values.items() if name not in ("last", "out_of_time")}  # see reason
        leading = {name: values.pop(name, "") for name in LEADING_COLUMNS}
        config = {key: json.dumps(value) if isinstance(value, list) else value for key, value in self.config.items()}
        return {**leading, **values, **config}


def yield_free_numbers(records: Iterable[TrialRecord]) -> Iterator[int]:
    """Yield the numbers that no trial of a stage has, lowest first.

    Trials need not begin in the order of their numbers: if a run is killed while two are about to begin, the second may
    have begun alone.
    """
    taken = {record.number for record in records}
    return (number for number in itertools.count(1) if number not in taken)


class TrialTable:
    """All records of a run, written to trials.jsonl and reports.jsonl as they happen, and to trials.csv.

    `orphans` counts the lines that `load` ignored because trials.jsonl lacks their trials, as after a power failure.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, TrialRecord] = {}
        self.orphans = 0
        self._stale = False  # True if trials.csv lacks a trial that has ended
        self._write_again = float("-inf")  # moment of time.monotonic() from which trials.csv may be written again

    @classmethod
    def load(cls, folder: Path) -> "TrialTable":
        """Return the table of a run, with the trials that ran when it ended; raise RunDirError if a file is damaged."""
        table, path = cls(folder), folder / "trials.jsonl"
        for line in read_lines(path):
            if "config" in line:
                record = TrialRecord.from_line(line, path)
                table.records[record.trial_id] = record
            else:
                require_fields(line, _ENDED, path)
                if table._has(line):
                    record = table.records[line["trial_id"]]
                    record.status, record.reason = line["status"], line["reason"]
        path = folder / "reports.jsonl"
        for line in read_lines(path):
            require_fields(line, _REPORTED, path)
            if table._has(line):
                table.records[line["trial_id"]].metrics.update(merge_best_epoch(line))
        return table

    def _has(self, line: Mapping[str, Any]) -> bool:
        """Return whether there is a record for a line of a file; count the line if not."""
        self.orphans += line["trial_id"] not in self.records
        return line["trial_id"] in self.records

    def start(self, record: TrialRecord) -> None:
        """Add a trial that begins."""
        self.records[record.trial_id] = record
        append_line(self.folder / "trials.jsonl", asdict(record))

    def report(self, trial_id: str, metrics: Mapping[str, Any]) -> TrialRecord:
        """Append a report to reports.jsonl and update the trial's metrics."""
        record = self.records[trial_id]
        record.metrics.update(merge_best_epoch(metrics))
        append_line(self.folder / "reports.jsonl", {"trial_id": trial_id, "stage": record.stage, **metrics})
        return record

    def rewind(self, epochs: Mapping[str, int]) -> None:
        """Delete reports of unfinished trials after the epoch from which they continue, and reports without a trial."""
        lines = [line for line in read_lines(self.folder / "reports.jsonl") if line["trial_id"] in self.records]
        kept = [line for line in lines if line["epochs"] <= epochs.get(line["trial_id"], math.inf)]
        for trial_id in epochs:
            self.records[trial_id].metrics.clear()
        for line in kept:
            self.records[line["trial_id"]].metrics.update(merge_best_epoch(line))
        write_lines(self.folder / "reports.jsonl", kept)

    def finish(
        self, trial_id: str, status: str, reason: str = "", *, replay: Mapping[str, Any] | None = None
    ) -> TrialRecord:
        """Record the end of a trial with one of STATUSES; rewrite trials.csv, for at most MAX_WRITE_SHARE of the time.

        `replay` is the state that reproduces the epoch in which the trial failed; for other epochs, the reports contain
        it.
        """
        record = self.records[trial_id]
        record.status, record.reason = status, reason
        line = {"trial_id": trial_id, "status": status, "reason": reason}
        if record.metrics:
            with (self.folder / "reports.jsonl").open("ab") as reports:  # before the line that ends the trial
                sync(reports)
        append_line(self.folder / "trials.jsonl", line | ({"replay": replay} if replay else {}), durable=True)
        self._stale = True
        if time.monotonic() >= self._write_again:
            self.write()
        return record

    def list_ended(self, stage: str) -> list[TrialRecord]:
        """Return the finished records of a stage in the order they started."""
        return [r for r in self.records.values() if r.stage == stage and r.status]

    def list_begun(self, stage: str) -> list[TrialRecord]:
        """Return all records of a stage, finished or not, in the order they started."""
        return [r for r in self.records.values() if r.stage == stage]

    def write(self) -> None:
        """Write trials.csv from the finished records, unless it already contains all of them."""
        if not self._stale:
            return
        began = time.monotonic()
        write_csv(self.folder / "trials.csv", [r.build_row() for r in self.records.values() if r.status])
        ended, self._stale = time.monotonic(), False
        self._write_again = ended + (ended - began) / MAX_WRITE_SHARE


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows whose columns are the union of their keys, in order of appearance, atomically."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row)) or list(LEADING_COLUMNS)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def merge_best_epoch(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of a trial after a line of reports.jsonl, in which those of the best epoch replace its own."""
    own = {name: value for name, value in line.items() if name not in ("trial_id", "stage", "replay", "best")}
    return {**own, **line.get("best", {})}
