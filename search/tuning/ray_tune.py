"""The ladder as one Ray Tune experiment: entries in, records and checkpoints out."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.trainable import wrap_function

from search.config.trial import TrialConfig
from search.records.run_state import RunState
from search.records.tensorboard import TrialLogger
from search.records.trials import TrialRecord, TrialTable
from search.tuning.checkpoints import CheckpointStore
from search.tuning.stages import GRACE, REDUCTION
from search.tuning.trainable import TrialSpec, outcome, train_trial


class RecordCallback(tune.Callback):
    """Writes what happens into the trial table and tells the boards.

    Args:
        table: The records.
        boards: They show trials with their curves and pictures.
        notes: They know the run's clock.
        shelf: Keeps weights.
        notify: Is told of every event.
    """

    def __init__(
        self,
        table: TrialTable,
        loggers: Sequence[TrialLogger],
        run_state: RunState,
        checkpoints: CheckpointStore,
        notify: Callable[[TrialRecord], None],
    ) -> None:
        self.table, self.loggers, self.run_state, self.checkpoints, self.notify = (
            table,
            loggers,
            run_state,
            checkpoints,
            notify,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its callbacks, but the records are on disk already."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Open the trial's record, unless it goes on."""
        spec: TrialSpec = trial.config["spec"]
        record = self.table.records.get(spec.trial_id) or self._opened(spec)
        shown, val = spec.context.stage.pictures, spec.context.data.val
        raw = val.gather(np.arange(min(shown, len(val)))) if shown else None
        for logger in self.loggers:
            logger.start(record, raw)
        self.notify(record)

    def _opened(self, spec: TrialSpec) -> TrialRecord:
        record = TrialRecord(
            trial_id=spec.trial_id,
            parent_id=spec.parent_id,
            stage=spec.context.stage.name,
            seed=spec.seed,
            config=TrialConfig.from_dict(spec.config).flat(),
            started_s=self.run_state.used_s,
        )
        self.table.start(record)
        return record

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Append the report; of learning rates and pictures no record is kept but the boards'."""
        if result.get("metrics"):
            metrics = dict(result["metrics"])
            metrics["epochs"] = metrics.pop("epoch")
            metrics["device_s"] = metrics["fit_s"] * metrics.pop("devices")
            metrics["ended_s"] = self.run_state.used_s
            record = self.table.report(trial.config["spec"].trial_id, metrics)
            for logger in self.loggers:
                logger.report(record, rates=result["rates"], pictures=result["pictures"])
            self.notify(record)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Close the record: completed, stopped by ASHA, timed out, or failed with its reason."""
        status, reason = outcome(trial.last_result, trial.last_result.get("metrics", {}))
        trial_id = trial.config["spec"].trial_id
        if trial.checkpoint is not None:
            self.checkpoints.put(trial_id, trial.checkpoint)
        self._close(trial_id, status, reason, trial.last_result.get("replay"))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Close the record of a trial whose worker raised or died."""
        text = str(trial.get_error() or "worker died").strip().splitlines()[-1]
        trial_id = trial.config["spec"].trial_id
        if trial.checkpoint is not None:
            self.checkpoints.put(trial_id, trial.checkpoint)
        self._close(trial_id, "failed", text)

    def _close(self, trial_id: str, status: str, reason: str, replay: dict[str, Any] | None = None) -> None:
        record = self.table.finish(trial_id, status, reason, replay=replay)
        self.checkpoints.end(record, self.table.of_stage(record.stage))
        for logger in self.loggers:
            logger.finish(record)
        self.notify(record)


class LadderScheduler(ASHAScheduler):
    """ASHA over the epochs of the entries that race; promoted and stated ones all run to their end.

    Source: Li et al. 2018, arXiv:1810.05934.
    """

    def __init__(self, epochs: int, workers: int) -> None:
        self._workers_to_keep = workers
        super().__init__(
            time_attr="epoch",
            metric="score",
            mode="max",
            max_t=epochs + 1,  # trials end themselves at their last epoch
            grace_period=GRACE,
            reduction_factor=REDUCTION,
        )

    def recall(self, reports: Iterable[tuple[str, int, float]]) -> None:
        """Take up what trials of an earlier process scored at the rungs.

        Args:
            reports: Trial, epoch and score.
        """
        rungs = {milestone: recorded for milestone, recorded in self._brackets[0]._rungs}
        for trial_id, epoch, score in reports:
            rungs.get(epoch, {})[trial_id] = score

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let Ray Tune keep all idle workers, not just one, while a stage waits for its last trial.

        It would end them for want of a staged trial and start them anew, seconds later, for the next stage.
        """
        super().on_trial_add(tune_controller, trial)
        cache = getattr(tune_controller, "_actor_cache", None)
        if cache is not None and self._workers_to_keep:
            cache.increase_max(trial.placement_group_factory, by=self._workers_to_keep)
            self._workers_to_keep = 0

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether the trial goes on."""
        if not trial.config["spec"].racing or result.get("failed"):
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Keep failed trials, and those that do not race, out of the rungs."""
        if trial.config["spec"].racing and not result.get("failed"):
            super().on_trial_complete(tune_controller, trial, result)


class Worker(wrap_function(train_trial)):  # type: ignore[misc]  # Ray Tune has no types
    """A process that trains one trial after the other, and bears the name of the one it trains.

    Ray gives a process that works for it a name anew before each call, and shows it in its dashboard.
    """

    def step(self) -> Any:
        """Train until the next report."""
        ray._raylet.setproctitle(f"ray::{self.trial_name}")
        return super().step()


def run_experiment(
    searcher: Searcher,
    scheduler: LadderScheduler,
    recorder: RecordCallback,
    *,
    folder: Path,
    workers: int,
    resources: dict[str, float],
) -> None:
    """Run one Ray Tune experiment to its end.

    Args:
        searcher: Where entries come from.
        scheduler: Which of them are stopped.
        recorder: Listens; holds the checkpoints afterwards.
        folder: Ray Tune's own folder, for this process.
        workers: Trials at the same time.
        resources: Of each worker: {"cpu": 1} or {"cpu": 2, "gpu": 0.25}.
    """
    trainable = tune.with_resources(Worker, resources)
    trainable.__name__ = trainable.__qualname__ = Worker.__name__  # for people; Ray Tune's own says less
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
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


def _trial_name(trial: Trial) -> str:
    spec: TrialSpec = trial.config["spec"]
    return f"{spec.trial_id}_{spec.config['model']['arch']}"
