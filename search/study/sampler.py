"""Samplers of the search, and the trials to which they are fitted."""

import heapq
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.study.pareto import find_pareto_front

# Ended trials (failed ones excluded) after which TPE replaces random suggestions. Trials of the portfolio count, and so
# do rejected trials, because they show which networks are too large.
STARTUP_TRIALS = 15
MAX_GOOD = 25  # largest number of trials that TPE counts as good
MAX_RECENT = 500  # recent trials to which TPE is fitted: its time grows with their number, and recent trials weigh more
MAX_RUNNING = 200  # newest running trials, which TPE avoids
DRAWN_AT_ONCE = 16  # suggestions whose candidates TPE compares at once, few enough for the arrays to stay in the cache


class FeasibleTPE(TPESampler):
    """Multivariate TPE for a conditional space with constraints; running trials count as bad (constant liar).

    Optuna ranks rejected configurations below all others, by their excess over the constraints, but counts a tenth of
    all trials as good, including rejected ones. This class counts a tenth of `trained` trials: with a limit of 150 M
    multiply-adds, 42 of 54 suggestions were rejected, and Optuna would count 6 of the 12 trained trials as good instead
    of 2. The public argument `gamma` sets this number; it is deprecated since Optuna 4.9 and removed in 6.0.

    With many workers, `batch` suggestions are drawn from one fit, because a fit takes ten times as long as a draw. This
    uses private parts of Optuna, tried with 5.0.0: `_rng`, `_n_ei_candidates` and `_compute_acquisition_func`, which is
    called with the estimators of the fit, once for each group of parameters.
    """

    def __init__(self, seed: int) -> None:
        self.trained, self.batch = 0, 1  # ended trials, except failed and rejected ones; suggestions from one fit
        self._space: dict[str, BaseDistribution] = {}  # search space of the last fit
        self._drawn: list[dict[str, Any]] = []  # further suggestions from that fit
        self._drawing: list[dict[str, Any]] = []  # the same while a fit is made
        super().__init__(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,
            multivariate=True,
            group=True,
            constant_liar=True,
            gamma=lambda _: min(math.ceil(0.1 * self.trained), MAX_GOOD),  # Optuna's formula, for trained trials
        )

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are suggested together."""
        if not self._drawn:
            self._space = super().infer_relative_search_space(study, trial)
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next suggestion of the last fit, or the first one of a new fit."""
        if self._drawn:
            return self._drawn.pop()
        self._drawing = [{} for _ in range(self.batch - 1)]
        first = super().sample_relative(study, trial, search_space)
        self._drawn, self._drawing = self._drawing if first else [], []
        return first

    def _compute_acquisition_func(self, samples: dict[str, np.ndarray], good: Any, others: Any) -> np.ndarray:
        """Rank the candidates of a suggestion; draw further suggestions, each the best of as many candidates."""
        for begin in range(0, len(self._drawing), DRAWN_AT_ONCE):
            part = self._drawing[begin : begin + DRAWN_AT_ONCE]
            drawn = good.sample(self._rng.rng, len(part) * self._n_ei_candidates)
            best = super()._compute_acquisition_func(drawn, good, others).reshape(len(part), -1).argmax(axis=1)
            for values, row in zip(part, best + np.arange(len(part)) * self._n_ei_candidates, strict=True):
                values |= {n: self._space[n].to_external_repr(column[row].item()) for n, column in drawn.items()}
        ranked: np.ndarray = super()._compute_acquisition_func(samples, good, others)
        return ranked

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Count the trial if it was trained."""
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
        best = [completed[i] for i in front[:: -(-len(front) // MAX_GOOD)]]  # evenly spaced, at most MAX_GOOD
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
