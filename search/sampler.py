"""Who chooses the search's configurations, and how Optuna is told how they ended. Knows no Ray."""

import warnings

import optuna
from optuna.trial import TrialState

STUDY_NAME = "explore"
REJECTIONS, MOST_REJECTIONS = 100, 1000  # in a row, before rules are bent, and before the search ends
TOLD = {
    "completed": TrialState.COMPLETE,
    "timed_out": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def sampler(kind: str, seed: int, *, startup_trials: int = 15) -> optuna.samplers.BaseSampler:
    """Return a sampler of a kind, "tpe" or "random".

    "tpe" is multivariate TPE over a conditional space, told which trials are still running; it reads by how much those
    that were rejected exceed their rules.
    """
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=startup_trials,
            multivariate=True,
            group=True,
            constant_liar=True,
        )
