"""Who chooses the search's configurations, and how Optuna is told how they ended. Knows no Ray."""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import default_gamma
from optuna.trial import TrialState

STUDY_NAME = "explore"
STARTUP_TRIALS = 15  # rejected ones among them: what is too large is learnt first
REJECTIONS, MOST_REJECTIONS = 100, 1000  # in a row, before rules are bent, and before the search ends
TOLD = {
    "completed": TrialState.COMPLETE,
    "timed_out": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class FeasibleTPE(TPESampler):
    """Multivariate TPE over a conditional space, told which trials are still running.

    Rejected configurations are known by how much they exceed their rules, and rank behind all others; the share of
    trials that counts as good is one of those that were trained.
    """

    def __init__(self, seed: int, *, startup_trials: int) -> None:
        self.rejected = 0
        super().__init__(
            seed=seed,
            n_startup_trials=startup_trials,
            multivariate=True,
            group=True,
            constant_liar=True,
        )
        self._gamma = lambda trials: default_gamma(trials - self.rejected)


def sampler(kind: str, seed: int, *, startup_trials: int = STARTUP_TRIALS) -> BaseSampler:
    """Return a sampler of a kind, "tpe" or "random"."""
    if kind == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return FeasibleTPE(seed, startup_trials=startup_trials)
