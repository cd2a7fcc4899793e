"""Samplers of the search, and the states and attributes with which trials are reported to Optuna."""

import heapq
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.study.pareto import find_pareto_front
from search.study.storage import STUDY_NAME

STARTUP_TRIALS = 15  # random trials before TPE; rejected ones count, since they show which networks are too large
MAX_GOOD = 25  # largest number of trials that TPE takes as good
MAX_RECENT = 500  # recent trials for the fit of TPE: its time grows with them, and it gives recent ones more weight
MAX_RUNNING = 200  # newest running trials, which TPE avoids
MAX_REJECTIONS_IN_TIME = 100  # consecutive rejections after which a network that is only too slow is accepted
MAX_REJECTIONS = 1000  # consecutive rejections after which the search ends
OPTUNA_STATES = {
    "completed": TrialState.COMPLETE,
    "ended_by_budget": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
SHOWN_METRICS = ("iou", "rmse_depth", "params", "macs", "fit_s")


def describe_outcome(status: str, reason: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user attributes of an ended trial: status, reason and SHOWN_METRICS."""
    shown = {name: metrics[name] for name in SHOWN_METRICS if name in metrics}
    return {"status": status, **({"reason": reason} if reason else {}), **shown}


def create_study(
    storage: BaseStorage,
    name: str = STUDY_NAME,
    *,
    objectives: Sequence[str] = ("score",),
    sampler: BaseSampler | None = None,
) -> optuna.Study:
    """Open or create a study that maximises the first of its objectives, the score, and minimises the others."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * (len(objectives) - 1)],
        sampler=sampler,
        pruner=NopPruner(),
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(objectives))
    return study


def list_values(study: optuna.Study, state: TrialState, metrics: Mapping[str, Any]) -> list[float] | None:
    """Return a trial's values of the objectives of a study; None unless it is complete."""
    names = study.metric_names or ["score"]  # a study of an older version has no names
    return [float(metrics[name]) for name in names] if state == TrialState.COMPLETE else None


class FeasibleTPE(TPESampler):
    """Multivariate TPE for a conditional space with constraints; running trials count as bad (constant liar).

    Optuna ranks rejected configurations below all others, by their excess over the constraints, but takes a tenth of
    all trials as good, including rejected ones. This class takes a tenth of the trained trials: with a limit of 150 M
    multiply-adds, 42 of 54 suggestions were rejected, and Optuna would take 6 of the 12 trained trials as good instead
    of 2. The public argument `gamma` sets this number; it is deprecated since Optuna 4.9 and removed in 6.0 (tested
    with optuna 5.0.0).

    With many workers, several suggestions are drawn from one fit, because a fit takes ten times as long as a draw. This
    extends `_sample` and `_build_parzen_estimator`, private methods of Optuna.

    Attributes:
        trained: Number of ended trials in the study, except failed and rejected ones.
        batch: Number of suggestions from one fit; with 1 they are Optuna's own.
    """

    def __init__(self, seed: int) -> None:
        self.trained, self.batch, self._asked = 0, 1, 0
        self._space: dict[str, BaseDistribution] = {}  # inferred with the fit
        self._fit: dict[tuple[str, ...], list[Any]] = {}  # estimators of good and of other trials, by parameters
        self._drawn: dict[tuple[str, ...], list[dict[str, Any]]] = {}  # values from that fit for further suggestions
        super().__init__(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,
            multivariate=True,
            group=True,
            constant_liar=True,
            gamma=lambda _: min(math.ceil(0.1 * self.trained), MAX_GOOD),  # Optuna's formula, for trained trials
        )

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are suggested together; begin a new fit after `batch` suggestions."""
        self._asked = self._asked % self.batch + 1
        if self._asked == 1:
            self._fit, self._drawn = {}, {}
            self._space = super().infer_relative_search_space(study, trial)
        return self._space

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values of parameters, from the estimators of this fit if it has them."""
        names = tuple(search_space)
        if names not in self._fit:
            self._fit[names] = []
            return super()._sample(study, trial, search_space)
        if not self._drawn.get(names):
            self._drawn[names] = self._draw(search_space, self.batch - self._asked + 1, *self._fit[names])
        return self._drawn[names].pop()

    def _draw(
        self, search_space: dict[str, BaseDistribution], count: int, good: Any, others: Any
    ) -> list[dict[str, Any]]:
        """Return the values of `count` suggestions, each the best of as many candidates as Optuna draws for one.

        All are drawn at once: most of Optuna's computation depends on the fitted trials, not on the number of draws.
        """
        drawn = good.sample(self._rng.rng, count * self._n_ei_candidates)
        scores = self._compute_acquisition_func(drawn, good, others).reshape(count, -1)
        best = scores.argmax(axis=1) + np.arange(count) * self._n_ei_candidates
        return [
            {name: values.to_external_repr(drawn[name][row].item()) for name, values in search_space.items()}
            for row in best
        ]

    def _build_parzen_estimator(
        self, study: optuna.Study, search_space: dict[str, BaseDistribution], *trials: Any, **options: Any
    ) -> Any:
        """Return the estimator of good or of other trials, and keep it for this fit."""
        estimator = super()._build_parzen_estimator(study, search_space, *trials, **options)
        self._fit[tuple(search_space)].append(estimator)
        return estimator

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Count a trained trial."""
        super().after_trial(study, trial, state, values)
        self.trained += is_trained(trial, state)


def is_trained(trial: FrozenTrial, state: TrialState) -> bool:
    """Return whether a trial that ends, or has ended, in `state` was neither rejected nor failed."""
    rejected = max(trial.constraints.values(), default=0.0) > 0
    return state in (TrialState.COMPLETE, TrialState.PRUNED) and not rejected


def select_fitted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials to which TPE is fitted, in order: running trials, the best and the most recent ones."""
    ended = [trial for trial in trials if trial.state.is_finished()]
    running = [trial for trial in trials if not trial.state.is_finished()][-MAX_RUNNING:]
    earlier, recent = ended[:-MAX_RECENT], ended[-MAX_RECENT:]
    completed = [trial for trial in earlier if trial.state == TrialState.COMPLETE]
    if completed and len(completed[0].values) > 1:
        front = find_pareto_front([t.values[0] for t in completed], [tuple(t.values[1:]) for t in completed])
        best = [completed[i] for i in front[:: -(-len(front) // MAX_GOOD)]]
    else:
        best = heapq.nlargest(MAX_GOOD, completed, key=lambda trial: float(trial.value or 0.0))
    return sorted([*running, *best, *recent], key=lambda trial: trial.number)


def build_sampler(kind: str, seed: int) -> BaseSampler:
    """Return a "tpe" or a "random" sampler."""
    if kind == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return FeasibleTPE(seed)
