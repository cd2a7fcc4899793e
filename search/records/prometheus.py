"""The run's own figures among those that Ray gives to Prometheus; analysis/assets/grafana.json shows them."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ray.util.metrics import Gauge

from search.records.trials import STATUSES, TrialRecord, TrialTable

RUNNING = "running"
BEAT_S = 5.0  # Ray forgets what it has not been told for a while
GAUGES = {  # name: what it is, and what it is told by beside the run
    "one_look_best_score": ("Best newest score of a trial that did not fail", ("stage",)),
    "one_look_trials": ("Trials of a stage by how they ended, and those that run", ("stage", "status")),
    "one_look_images_per_second": ("Training images a second, of all running trials together", ()),
    "one_look_budget_spent": ("Part of the budget that is spent, 1 being all of it", ()),
}
Value = tuple[str, float, dict[str, str]]


class PrometheusExporter:
    """Tells Ray every BEAT_S what the records say.

    Args:
        run: Its name.
        table: Its records.
        spent: Returns the part of the budget that is spent.
    """

    def __init__(self, run: str, table: TrialTable, spent: Callable[[], float]) -> None:
        self.run, self.table, self.spent = run, table, spent
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_telling, daemon=True)

    def start(self) -> None:
        """Begin; Ray must be there."""
        self._thread.start()

    def stop(self) -> None:
        """End, before Ray does."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep_telling(self) -> None:
        gauges = {name: Gauge(name, text, ("run", *keys)) for name, (text, keys) in GAUGES.items()}
        while True:
            self.tell(gauges)
            if self._ended.wait(BEAT_S):
                return

    def tell(self, gauges: dict[str, Any]) -> None:
        """Set every gauge, by name."""
        for name, value, tags in self.values():
            gauges[name].set(value, {"run": self.run, **tags})

    def values(self) -> Iterator[Value]:
        """Yield name, value and tags of every gauge."""
        records = list(self.table.records.values())  # which another thread adds to
        for stage in dict.fromkeys(record.stage for record in records):
            yield from of_stage(stage, [record for record in records if record.stage == stage])
        yield "one_look_images_per_second", sum(map(speed, records)), {}
        yield "one_look_budget_spent", self.spent(), {}


def of_stage(stage: str, records: list[TrialRecord]) -> Iterator[Value]:
    """Yield the gauges of a stage from its trials."""
    scores = [record.score for record in records if record.metrics and record.status != "failed"]
    if scores:
        yield "one_look_best_score", max(scores), {"stage": stage}
    counts = Counter(record.status or RUNNING for record in records)
    for status in (RUNNING, *STATUSES):
        yield "one_look_trials", counts[status], {"stage": stage, "status": status}


def speed(record: TrialRecord) -> float:
    """Return the images a second that a trial trains on; 0 where it does not run, or has not reported yet."""
    if record.status or not record.metrics.get("fit_s"):
        return 0.0
    return float(record.metrics["images_seen"] / record.metrics["fit_s"])
