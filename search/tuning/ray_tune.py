"""The stages as one Ray Tune experiment: the callback that records trials, the scheduler and the worker."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.trainable import wrap_function

from search.records.run_state import RunState
from search.records.tensorboard import TrialLogger
from search.records.trials import TrialRecord, TrialTable
from search.tuning.checkpoints import CheckpointStore
from search.tuning.ray_internals import asha_rungs, keep_idle_workers, set_process_title
from search.tuning.stages import GRACE_PERIOD, REDUCTION_FACTOR
from search.tuning.trainable import read_outcome, train_trial
from search.tuning.trial_specs import TrialSpec


@dataclass
class RecordCallback(tune.Callback):
    """Writes the events of trials to the trial table and passes them to the loggers and to `notify`."""

    table: TrialTable
    loggers: Sequence[TrialLogger]
    run_state: RunState
    checkpoints: CheckpointStore
    notify: Callable[[TrialRecord], None]

    def __getstate__(self) -> dict[str, Any]:
        """Return an empty state for Ray Tune to pickle; the records are on disk."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Add a record, unless the trial resumes."""
        spec = _spec_of(trial)
        record = self.table.records.get(spec.trial_id) or self._add_record(spec)
        shown, val = spec.context.stage.pictures, spec.context.data.val
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
            config=spec.config.flat(),
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
            metrics["ended_s"] = self.run_state.used_s
            record = self.table.report(_spec_of(trial).trial_id, metrics)
            for logger in self.loggers:
                logger.report(record, rates=result["rates"], pictures=result["pictures"])
            self.notify(record)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Close the record as completed, stopped by ASHA, timed out, or failed with its reason."""
        status, reason = read_outcome(trial.last_result, trial.last_result.get("metrics", {}))
        self._close(trial, status, reason, trial.last_result.get("replay"))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Close the record of a trial whose worker raised an exception or died."""
        self._close(trial, "failed", str(trial.get_error() or "worker died").strip().splitlines()[-1])

    def _close(self, trial: Trial, status: str, reason: str, replay: dict[str, Any] | None = None) -> None:
        trial_id = _spec_of(trial).trial_id
        if trial.checkpoint is not None:
            self.checkpoints.put(trial_id, trial.checkpoint)
        record = self.table.finish(trial_id, status, reason, replay=replay)
        self.checkpoints.finish(record, self.table.of_stage(record.stage))
        for logger in self.loggers:
            logger.finish(record)
        self.notify(record)


class StageScheduler(ASHAScheduler):
    """ASHA over the `epochs` of the trials with early stopping; all others run to their end.

    Source: Li et al. 2018, arXiv:1810.05934.
    """

    def __init__(self, epochs: int, workers: int) -> None:
        self._workers_to_keep = workers
        super().__init__(
            time_attr="epoch",
            metric="score",
            mode="max",
            max_t=epochs + 1,  # trials end themselves at their last epoch
            grace_period=GRACE_PERIOD,
            reduction_factor=REDUCTION_FACTOR,
        )

    def restore_reports(self, reports: Iterable[tuple[str, int, float]]) -> None:
        """Restore the rungs from the trials, epochs and scores that earlier processes reported."""
        rungs = asha_rungs(self)
        for trial_id, epoch, score in reports:
            rungs.get(epoch, {})[trial_id] = score

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Add a trial; the first one shows which workers to keep between stages."""
        super().on_trial_add(tune_controller, trial)
        if self._workers_to_keep and keep_idle_workers(tune_controller, trial, self._workers_to_keep):
            self._workers_to_keep = 0

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether the trial continues."""
        if not _spec_of(trial).early_stopping or result.get("failed"):
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Record the last score of a trial at its rung; skip failed trials and those without early stopping."""
        if _spec_of(trial).early_stopping and not result.get("failed"):
            super().on_trial_complete(tune_controller, trial, result)


class Worker(wrap_function(train_trial)):  # type: ignore[misc]  # Ray Tune has no types
    """A process that trains one trial after the other and has the name of the current one."""

    def step(self) -> Any:
        """Train until the next report."""
        set_process_title(f"ray::{self.trial_name}")
        return super().step()


def run_experiment(
    searcher: Searcher,
    scheduler: StageScheduler,
    recorder: RecordCallback,
    *,
    folder: Path,
    workers: int,
    resources: dict[str, float],
) -> None:
    """Run one Ray Tune experiment to its end.

    `folder` is Ray Tune's own folder for this process; `resources` are those of each worker: {"cpu": 1, "gpu": 0.25}.
    """
    trainable = tune.with_resources(Worker, resources)
    trainable.__name__ = trainable.__qualname__ = Worker.__name__  # shown in Ray's dashboard
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
            trial_name_creator=_name_trial,
            trial_dirname_creator=_name_trial,
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.resolve()),
            callbacks=[recorder],
            verbose=0,
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=0),
        ),
    ).fit()


def _spec_of(trial: Trial) -> TrialSpec:
    spec: TrialSpec = trial.config["spec"]
    return spec


def _name_trial(trial: Trial) -> str:
    spec = _spec_of(trial)
    return f"{spec.trial_id}_{spec.config.model.arch}"
