"""ASHA for the stages of a run; it identifies trials by names that outlast a process."""

import itertools
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from data.reading.matching import natural_order
from search.config.stages import GRACE_PERIOD, REDUCTION_FACTOR
from search.tuning.ray.private_api import get_asha_rungs, keep_idle_workers, leave_out_of_snapshots
from search.tuning.ray.trial_spec import TrialSpec


def get_spec(trial: Trial) -> TrialSpec:
    """Return the specification of one of Ray Tune's trials."""
    spec: TrialSpec = trial.config["spec"]
    return spec


class StageScheduler(ASHAScheduler):
    """ASHA over the `epochs` of the stage with early stopping; trials of other stages run to their end.

    Source: Li et al. 2018, arXiv:1810.05934.
    """

    def __init__(self, epochs: int, workers: int) -> None:
        self._workers, self._kept = workers, None
        self._waiting: list[tuple[Any, int, Trial]] = []  # a heap; some of them may have begun
        self._numbers = itertools.count()
        super().__init__(
            time_attr="epoch",
            metric="score",
            mode="max",
            max_t=max(epochs + 1, GRACE_PERIOD),  # trials end themselves at their last epoch
            grace_period=GRACE_PERIOD,
            reduction_factor=REDUCTION_FACTOR,
        )

    def restore_reports(self, reports: Iterable[tuple[str, int, float]]) -> None:
        """Restore the rungs from the trials, epochs and scores that earlier processes reported."""
        rungs = get_asha_rungs(self)
        for trial_id, epoch, score in reports:
            rungs.get(epoch, {})[trial_id] = score

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Add a trial; the first one of a stage shows which workers to keep."""
        super().on_trial_add(tune_controller, trial)
        heappush(self._waiting, (natural_order(get_spec(trial).trial_id), next(self._numbers), trial))
        leave_out_of_snapshots(tune_controller)
        self._kept = keep_idle_workers(tune_controller, trial, self._workers, instead=self._kept)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the first trial that waits; Ray Tune would look for it among all trials, at every event."""
        while self._waiting and self._waiting[0][-1].status != Trial.PENDING:
            heappop(self._waiting)
        return self._waiting[0][-1] if self._waiting else None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether the trial continues.

        Trials are compared only at the epochs of the rungs: a resumed trial has a new name in Ray Tune and would enter
        its last rung again with the score of a later epoch.
        """
        if not self._is_compared(trial, result):
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Record the last score of a trial at its rung; skip failed trials and stages without early stopping."""
        if self._is_compared(trial, result):
            super().on_trial_complete(tune_controller, trial, result)

    def _is_compared(self, trial: Trial, result: dict[str, Any]) -> bool:
        """Return whether the score of a report belongs to a rung."""
        early_stopping = get_spec(trial).context.stage.early_stopping and not result.get("failed")
        return early_stopping and result["epoch"] in get_asha_rungs(self)
