"""The stages as one Ray Tune experiment, and the callback that records its trials."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ray import cloudpickle, tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Checkpoint, FailureConfig, RunConfig
from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter

from data.runtime.storage import StorageError
from search.records.disk import DiskFullError, describe_full, mentions_full_disk
from search.records.run_state import RunState
from search.records.tensorboard import TrialLogger
from search.records.trials import TrialRecord, TrialTable
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.nodes import NodeWatch
from search.tuning.ray.private_api import rotate_futures, skip_usage_statistics
from search.tuning.ray.scheduler import StageScheduler, get_spec
from search.tuning.ray.searchers import StageChain
from search.tuning.ray.trainable import AGE, Worker
from search.tuning.ray.trial_spec import TrialSpec, read_outcome

WAIT_S = 30.0  # seconds after the deadline for trials to end
MAX_RETRIES = 2  # times that a trial continues on another worker
MAX_REASON = 200  # characters


@dataclass(frozen=True)
class Failure:
    """Why a trial failed."""

    # True if its worker or node died or could not use the storage, so that another worker may continue the trial
    transient: bool
    reason: str  # one line
    text: str  # the whole error, with its traceback if an exception was raised


def read_failure(trial: Trial) -> Failure:
    """Return why Ray Tune ended a trial, from the error files in the trial's folder on this machine.

    `trial.get_error` reads Ray Tune's storage, where the files arrive later.
    """
    path = trial.error_file and Path(trial.error_file)
    text = path.read_text(encoding="utf-8", errors="replace") if path and path.is_file() else ""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text) if text.strip() else "no error was recorded"  # Ray adds colours
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    error = _load_error(trial)
    if isinstance(error, RayActorError):
        return Failure(True, f"worker died: {_find_cause(lines)}"[:MAX_REASON], text)
    cause = error.cause if isinstance(error, RayTaskError) else error
    words = "" if cause is None else str(cause).strip().partition("\n")[0]
    reason = f"{type(cause).__name__}: {words}" if words else lines[-1]
    return Failure(isinstance(cause, StorageError), reason[:MAX_REASON], text)


def _load_error(trial: Trial) -> BaseException | None:
    """Return the exception of a trial; None if there is none or its class cannot be imported here."""
    try:
        error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # a class of a worker may raise anything while it is loaded
        return None
    return error


def _find_cause(lines: list[str]) -> str:
    """Return the line of Ray's message on a dead worker that names the cause."""
    details = [line for line in lines if "exit detail:" in line]
    return details[-1].rpartition("exit detail:")[2].strip().partition(". ")[0] if details else lines[-1]


@dataclass
class RecordCallback(tune.Callback):
    """Writes the events of trials to the trial table and passes them to the loggers and to `notify`.

    A trial whose worker died, or could not use the storage, is handed out again by `searcher`, MAX_RETRIES times.
    """

    searcher: StageChain
    table: TrialTable
    loggers: Sequence[TrialLogger]
    run_state: RunState
    checkpoints: CheckpointStore
    notify: Callable[[TrialRecord], None]
    print_line: Callable[[str], None]

    def __getstate__(self) -> dict[str, Any]:
        """Return an empty state for Ray Tune to pickle; the records are on disk."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Prepare a trial while workers train."""
        self.searcher.prepare()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Add a record, unless the trial resumes."""
        spec = get_spec(trial)
        record = self.table.records.get(spec.trial_id) or self._add_record(spec)
        shown, val = spec.context.stage.samples, spec.context.data.val
        raw = val.gather(np.arange(min(shown, len(val)))) if shown else None
        for logger in self.loggers:
            logger.start(record, raw)
        self.notify(record)

    def _add_record(self, spec: TrialSpec) -> TrialRecord:
        record = TrialRecord(
            trial_id=spec.trial_id,
            parent_id=spec.parent_id,
            stage=spec.context.stage.name,
            seed=spec.seed,
            config=spec.config.flatten(),
            started_s=self.run_state.used_s,
        )
        self.table.start(record)
        return record

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Record the metrics of a report; its learning rates and sample images go to the loggers only."""
        if result.get("metrics"):
            metrics = dict(result["metrics"])
            metrics["epochs"] = metrics.pop("epoch")
            metrics["device_s"] = metrics["fit_s"] * metrics.pop("devices")
            metrics["ended_s"] = self.run_state.used_s - result.get(AGE, 0.0)
            record = self.table.report(get_spec(trial).trial_id, metrics)
            for logger in self.loggers:
                logger.report(record, metrics, rates=result["rates"], predictions=result["predictions"])
            del result["rates"], result["predictions"]  # Ray Tune keeps the last result of every trial
            self.notify(record)

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """Keep the last checkpoint of a trial only; Ray Tune calls this after the report has been recorded.

        With `num_to_keep`, Ray Tune would do the same but write a snapshot of the experiment at every report.
        """
        self.checkpoints.put(get_spec(trial).trial_id, checkpoint)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Close the record as completed, stopped by ASHA, ended by the budget, or failed with its reason."""
        status, reason = read_outcome(trial.last_result, trial.last_result.get("metrics", {}))
        self._close(trial, status, reason, trial.last_result.get("replay"))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Hand out a trial again if another worker may continue it; else close its record and keep the error.

        Ray Tune also calls this for a trial that has not started, because its worker or node died before. A full disk
        ends the run with DiskFullError; the trial remains unfinished and is resumed.
        """
        spec, failure = get_spec(trial), read_failure(trial)
        if mentions_full_disk(failure.text, self.table.folder):
            raise DiskFullError(describe_full(self.table.folder))
        if spec.trial_id not in self.table.records:
            self._add_record(spec)
        if failure.transient and spec.attempt < MAX_RETRIES:
            self._retry(trial, failure)
            return
        folder = self.table.folder / "errors"
        folder.mkdir(exist_ok=True)
        (folder / f"{spec.trial_id}.txt").write_text(failure.text, encoding="utf-8")
        times = f", {spec.attempt + 1} times" if spec.attempt else ""
        self.print_line(f"  {spec.trial_id} failed{times}: {failure.reason} (full text: errors/{spec.trial_id}.txt)")
        self.searcher.fail(trial.trial_id)
        self._close(trial, "failed", failure.reason)

    def _retry(self, trial: Trial, failure: Failure) -> None:
        """Continue a trial from its last checkpoint on another worker."""
        spec = get_spec(trial)
        reported = self.table.records[spec.trial_id].metrics.get("epochs", 0)
        state = self.checkpoints.recover(spec.trial_id, reported)
        epoch = state["epoch"] if state else 0
        self.table.rewind({spec.trial_id: epoch})
        self.print_line(f"  {spec.trial_id} continues after epoch {epoch}: {failure.reason}")
        own = self.checkpoints.get(spec.trial_id)
        self.searcher.retry(trial.trial_id, replace(spec, own=own, attempt=spec.attempt + 1))

    def _close(self, trial: Trial, status: str, reason: str, replay: dict[str, Any] | None = None) -> None:
        record = self.table.finish(get_spec(trial).trial_id, status, reason, replay=replay)
        self.checkpoints.finish(record)
        for logger in self.loggers:
            logger.finish(record)
        self.notify(record)


@dataclass
class Overtime(tune.Stopper):
    """Ends the experiment after `deadline` of time.monotonic(), for example if its trials fit on no remaining node.

    Running trials get WAIT_S more seconds. If none of them has reported yet and another trial already has a model, the
    experiment stops at once.
    """

    deadline: float
    recorder: RecordCallback

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: trials end themselves."""
        return False

    def stop_all(self) -> bool:
        """Return whether the time is over."""
        late_s = time.monotonic() - self.deadline
        if late_s <= 0:
            return False
        reported = [record for record in self.recorder.table.records.values() if record.metrics]
        return late_s > WAIT_S or (bool(reported) and all(record.status for record in reported))


def run_experiment(
    searcher: StageChain,
    scheduler: StageScheduler,
    recorder: RecordCallback,
    *,
    name: str,
    workers: int,
    count_workers: Callable[[], int] | None = None,
    deadline: float = float("inf"),
) -> None:
    """Run one Ray Tune experiment to its end, in a folder `name` beside those of earlier processes.

    At most `workers` trials run at the same time; with `count_workers`, the limit follows its value as nodes come and
    go. At the latest WAIT_S after `deadline`, a moment of time.monotonic(), running trials are left unfinished.
    """
    place, limiter = recorder.checkpoints.place, ConcurrencyLimiter(searcher, max_concurrent=workers)
    watch = [NodeWatch(limiter, count_workers, recorder.print_line)] if count_workers else []
    skip_usage_statistics()
    rotate_futures()
    trainable = tune.with_resources(
        Worker, lambda params: tune.PlacementGroupFactory([dict(params["spec"].context.reserved)])
    )
    trainable.__name__ = trainable.__qualname__ = Worker.__name__  # the name that Ray's dashboard shows
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=limiter,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name_trial,
            trial_dirname_creator=_name_folder,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=place.path,
            storage_filesystem=place.filesystem,
            callbacks=[recorder, *watch],
            stop=Overtime(deadline, recorder),
            verbose=0,
            failure_config=FailureConfig(max_failures=0),  # `RecordCallback` hands out trials again
        ),
    ).fit()


def _name_trial(trial: Trial) -> str:
    spec = get_spec(trial)
    return f"{spec.trial_id}_{spec.config.model.arch}"


def _name_folder(trial: Trial) -> str:
    """Return the name of a trial's folder; each attempt has its own."""
    attempt = get_spec(trial).attempt
    return _name_trial(trial) + (f"_{attempt}" if attempt else "")
