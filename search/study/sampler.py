"""Who chooses the search's configurations, and how Optuna is told how they ended. Knows no Ray."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import default_gamma
from optuna.trial import TrialState

STUDY_NAME = "explore"
OPTIONS = {  # of TPE
    "n_startup_trials": 15,  # rejected ones among them: what is too large is learnt first
    "multivariate": True,
    "group": True,
    "constant_liar": True,
}
REJECTIONS, MOST_REJECTIONS = 100, 1000  # in a row, before rules are bent, and before the search ends
TOLD = {
    "completed": TrialState.COMPLETE,
    "timed_out": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
SHOWN = ("iou", "rmse_depth", "params", "macs", "fit_s")


def ending(status: str, reason: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Optuna is to show of a trial that has ended, beside its score: user attributes by name.

    Args:
        status: How it ended.
        reason: Why, where there is one.
        metrics: Its last.
    """
    shown = {name: metrics[name] for name in SHOWN if name in metrics}
    return {"status": status, **({"reason": reason} if reason else {}), **shown}


def name_score(study: optuna.Study) -> None:
    """Let Optuna call the value of a study's trials score."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(["score"])


class FeasibleTPE(TPESampler):
    """Multivariate TPE over a conditional space, told which trials are still running.

    Rejected configurations are known by how much they exceed their rules, and rank behind all others; the share of
    trials that counts as good is one of those that were trained.

    Attributes:
        rejected: How many configurations were.
        gamma: How many of so many trained trials count as good.
    """

    def __init__(self, seed: int, **options: Any) -> None:
        self.rejected, self.gamma = 0, default_gamma
        super().__init__(seed=seed, **(OPTIONS | options))
        self._gamma = lambda trials: self.gamma(trials - self.rejected)


def sampler(kind: str, seed: int, **options: Any) -> BaseSampler:
    """Return a sampler of a kind, "tpe" (with other options than OPTIONS, if stated) or "random"."""
    if kind == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return FeasibleTPE(seed, **options)
