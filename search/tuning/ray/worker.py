"""The process that trains trials one after the other for Ray Tune, and the reports that it sends."""

from collections.abc import Sequence
from typing import Any

from ray.actor import exit_actor
from ray.tune.result import SHOULD_CHECKPOINT, TIME_TOTAL_S
from ray.tune.trainable import wrap_function

from search.tuning.ray.internals import set_process_title
from search.tuning.ray.trainable import train_trial

MAX_REPORTS = 1000  # largest number of reports that are sent together
AGE = "age_s"  # seconds between a report and the last one that was sent with it
LOGGED = ("metrics", "rates", "pictures")  # parts of a report that Ray Tune itself does not need


class Worker(wrap_function(train_trial)):  # type: ignore[misc]  # Ray Tune has no types
    """A process that trains one trial after the other and shows the current trial in its process title.

    Each report is sent to the driver once, and without the trial's specification, which the driver already has.
    """

    _held: Sequence[dict[str, Any]] = ()  # reports that are sent later

    def step(self) -> Any:
        """Train until the next report."""
        set_process_title(f"ray::{self.trial_name}")
        return super().step()

    def train_buffered(self, *limits: Any) -> list[dict[str, Any]]:
        """Return the reports of some time, which the driver handles at once.

        The `limits` are ignored, because Ray 2.60 confuses their seconds with the number of reports. It would also
        continue training while it saves if a report with a checkpoint were sent together with others.
        """
        seconds = self.config["spec"].context.report_s
        results = self._held or add_ages(super().train_buffered(seconds, MAX_REPORTS))
        results, self._held = split_reports(results)
        return results

    def get_auto_filled_metrics(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the fields that Ray Tune adds to a report, without the specification of the trial."""
        return {
            name: value for name, value in super().get_auto_filled_metrics(*args, **options).items() if name != "config"
        }

    def save_checkpoint(self, checkpoint_dir: str = "") -> Any:
        """Return the checkpoint of the last report, whose metrics have been sent."""
        saved = super().save_checkpoint(checkpoint_dir)
        for name in LOGGED:
            saved.metrics.pop(name, None)
        return saved

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare for the next trial; end this process if the last trial does not stop.

        Otherwise Ray Tune would drop the next trial without calling the callbacks.
        """
        self._held = []
        if not super().reset_config(new_config):
            exit_actor()
        return True


def add_ages(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return reports that are sent together, each with the seconds since it was made."""
    now = max(result.get(TIME_TOTAL_S, 0.0) for result in results)
    return [result | {AGE: now - result.get(TIME_TOTAL_S, now)} for result in results]


def split_reports(results: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the reports to send and those to hold back: one that has a checkpoint is sent alone."""
    if len(results) > 1 and results[-1].get(SHOULD_CHECKPOINT):
        return [*results[:-1]], [results[-1]]
    return [*results], []
