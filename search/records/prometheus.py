"""Export metrics of a run to Prometheus through Ray; analysis/assets/grafana.json displays them."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ray.util.metrics import Gauge

from search.records.trials import STATUSES, TrialRecord, TrialTable

RUNNING = "running"
BEAT_S = 5.0  # Ray drops gauges that are not set for a while
GAUGES = {  # name: (description, label names besides `run`)
    "one_look_best_score": ("Best score of a trial that did not fail", ("stage",)),
    "one_look_trials": ("Trials of a stage by status", ("stage", "status")),
    "one_look_images_per_second": ("Training images per second of all running trials", ()),
    "one_look_budget_spent": ("Spent fraction of the budget", ()),
}
Value = tuple[str, float, dict[str, str]]


class PrometheusExporter:
    """Sets the gauges every BEAT_S while Ray runs, from the records and the spent fraction of the budget."""

    def __init__(self, run: str, table: TrialTable, spent: Callable[[], float]) -> None:
        self.run = run.encode("ascii", "backslashreplace").decode()  # Ray's metrics accept only ASCII
        self.table, self.spent = table, spent
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._export, daemon=True)

    def __enter__(self) -> "PrometheusExporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _export(self) -> None:
        gauges = {name: Gauge(name, text, ("run", *keys)) for name, (text, keys) in GAUGES.items()}
        while True:
            with contextlib.suppress(Exception):  # a failed export must not print into the output of the run
                self.set(gauges)
            if self._ended.wait(BEAT_S):
                return

    def set(self, gauges: dict[str, Any]) -> None:
        """Set every gauge, by name."""
        for name, value, tags in self.values():
            gauges[name].set(value, {"run": self.run, **tags})

    def values(self) -> Iterator[Value]:
        """Yield name, value and tags of every gauge."""
        records = list(self.table.records.values())  # another thread adds records
        for stage in dict.fromkeys(record.stage for record in records):
            yield from collect_stage_values(stage, [record for record in records if record.stage == stage])
        yield "one_look_images_per_second", sum(map(compute_images_per_second, records)), {}
        yield "one_look_budget_spent", self.spent(), {}


def collect_stage_values(stage: str, records: list[TrialRecord]) -> Iterator[Value]:
    """Yield the gauges of a stage."""
    scores = [record.score for record in records if record.metrics and record.status != "failed"]
    if scores:
        yield "one_look_best_score", max(scores), {"stage": stage}
    counts = Counter(record.status or RUNNING for record in records)
    for status in (RUNNING, *STATUSES):
        yield "one_look_trials", counts[status], {"stage": stage, "status": status}


def compute_images_per_second(record: TrialRecord) -> float:
    """Return a trial's training images per second; 0 if it does not run or has not reported yet."""
    if record.status or not record.metrics.get("fit_s"):
        return 0.0
    return float(record.metrics["images_seen"] / record.metrics["fit_s"])
