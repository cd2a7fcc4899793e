"""Report trials to MLflow or Weights & Biases through the callbacks of Ray Tune."""

import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ray.tune.logger import LoggerCallback
from ray.tune.result import TRAINING_ITERATION

from data.pack.pack import RawBatch
from data.runtime.cli import first_line
from search.records.tensorboard import Metrics, Predictions, Rates
from search.records.trials import TrialRecord

WAIT_S = 10.0  # seconds at the end of a run for reports that are still being sent
DEFAULTS = {  # environment variables of the trackers: short waits for a server, and no output of their own
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "WANDB_SILENT": "true",
}


@dataclass(frozen=True, eq=False)
class TrackedTrial:
    """The attributes of a trial that Ray Tune's callbacks read, with settings as plain values."""

    trial_id: str
    name: str
    config: dict[str, Any]
    experiment_dir_name: str
    local_path: str  # where the tracker may write

    def __str__(self) -> str:
        """Return the name that the tracker shows."""
        return self.name


class Tracker:
    """Passes the events of trials to a tracker in order, from a separate thread.

    The failure of a tracker is reported once by `tell`, and the tracker gets no further reports: the run does not
    depend on it.
    """

    def __init__(self, address: str, folder: Path, tell: Callable[[str], None]) -> None:
        self.address, self.folder, self._tell = address, folder, tell
        self._trials: dict[str, TrackedTrial] = {}
        self._events: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)  # must not keep the process alive
        self._thread.start()

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Report a trial that starts, with its settings; one that continues on another worker is known already."""
        if record.trial_id in self._trials:
            return
        run, name = self.folder.name, f"{record.trial_id}_{record.config['model/arch']}"
        about = {"stage": record.stage, "seed": record.seed, "parent_id": record.parent_id}
        self._trials[record.trial_id] = trial = TrackedTrial(
            f"{run}-{record.trial_id}", name, {**record.config, **about}, run, str(self.folder)
        )
        self._put(lambda: self._callback.log_trial_start(trial))

    def report(self, record: TrialRecord, metrics: Metrics, *, rates: Rates, predictions: Predictions) -> None:
        """Report the metrics of an epoch."""
        trial, epoch = self._trials[record.trial_id], int(metrics["epochs"])
        numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float) and math.isfinite(v)}
        self._put(lambda: self._callback.log_trial_result(epoch, trial, {**numbers, TRAINING_ITERATION: epoch}))

    def finish(self, record: TrialRecord) -> None:
        """Report the end of a trial."""
        if (trial := self._trials.pop(record.trial_id, None)) is not None:
            failed = record.status == "failed"
            self._put(lambda: self._callback.log_trial_end(trial, failed=failed))

    def close(self) -> None:
        """Wait for reports that are being sent, and drop reports that take too long."""
        self._put(lambda: self._callback.on_experiment_end([]))
        self._put(None)
        self._thread.join(WAIT_S)
        if self._thread.is_alive():
            self._tell(f"warning: --track {self.address}: the last reports were not taken within {WAIT_S:.0f} s")

    def _put(self, event: Callable[[], object] | None) -> None:
        if self._thread.is_alive():  # not after a failure
            self._events.put(event)

    def _pass_on(self) -> None:
        try:
            os.environ.update({name: os.environ.get(name, value) for name, value in DEFAULTS.items()})
            self._callback = build_callback(self.address, self.folder.name)
            self._callback.setup()
            while (event := self._events.get()) is not None:
                event()
        except Exception as error:
            self._tell(f"warning: --track {self.address}: {first_line(error)}; the run continues without it")


def build_callback(address: str, run: str) -> LoggerCallback:
    """Return Ray Tune's callback for `mlflow:URI` or `wandb:PROJECT`; the run names the experiment or the group."""
    kind, _, place = address.partition(":")
    if kind == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        return MLflowLoggerCallback(tracking_uri=place, experiment_name=run)
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project=place, group=run)
