"""The run's own figures among those that Ray gives to Prometheus; analysis/dashboards/grafana.json shows them."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from ray.util.metrics import Gauge

from search.records import STATUSES, TrialRecord, TrialTable

RUNNING = "running"
GAUGES = {  # name: what it is, and what it is told by beside the run
    "one_look_best_score": ("Best newest score of a trial that did not fail", ("stage",)),
    "one_look_trials": ("Trials of a stage by how they ended, and those that run", ("stage", "status")),
    "one_look_images_per_second": ("Training images a second, of all running trials together", ()),
    "one_look_budget_spent": ("Part of the budget that is spent, 0 to 1", ()),
}


class Gauges:
    """Sets the gauges, from the records, whenever something happens.

    Args:
        run: Its name.
        table: Its records.
        spent: Returns the part of the budget that is spent.
    """

    def __init__(self, run: str, table: TrialTable, spent: Callable[[], float]) -> None:
        self.run, self.table, self.spent = run, table, spent
        self._gauges: dict[str, Any] = {}

    def notify(self, record: TrialRecord) -> None:
        """Take note of a trial that started, reported or ended; Ray must be there."""
        if not self._gauges:
            self._gauges = {name: Gauge(name, text, ("run", *keys)) for name, (text, keys) in GAUGES.items()}
        for name, value, tags in self.values(record.stage):
            self._gauges[name].set(value, {"run": self.run, **tags})

    def values(self, stage: str) -> list[tuple[str, float, dict[str, str]]]:
        """Return name, value and tags of every gauge, of a stage where there is one for each."""
        begun = self.table.begun(stage)
        counts = Counter(record.status or RUNNING for record in begun)
        scores = [record.score for record in begun if record.figures and record.status != "failed"]
        best = [max(scores)] if scores else []
        return [
            *(("one_look_best_score", score, {"stage": stage}) for score in best),
            *(("one_look_trials", counts[how], {"stage": stage, "status": how}) for how in (RUNNING, *STATUSES)),
            ("one_look_images_per_second", sum(map(speed, self.table.records.values())), {}),
            ("one_look_budget_spent", self.spent(), {}),
        ]


def speed(record: TrialRecord) -> float:
    """Return the images a second that a trial trains on; 0 where it does not run, or has not reported yet."""
    if record.status or not record.figures.get("fit_s"):
        return 0.0
    return float(record.figures["images_seen"] / record.figures["fit_s"])
