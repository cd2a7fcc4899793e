"""The outcome of a trial as Optuna stores it: state, values of the objectives and attributes."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import TrialState

OPTUNA_STATES = {
    "completed": TrialState.COMPLETE,
    "ended_by_budget": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
SHOWN_METRICS = ("iou", "rmse_depth", "params", "macs", "fit_s")


def finish_trial(
    study: optuna.Study, trial: optuna.Trial, status: str, reason: str, metrics: Mapping[str, Any]
) -> None:
    """Report the outcome of a trial to Optuna."""
    for name, value in describe_outcome(status, reason, metrics).items():
        trial.set_user_attr(name, value)
    state = OPTUNA_STATES[status]
    study.tell(trial, read_objectives(study, state, metrics), state=state)


def describe_outcome(status: str, reason: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user attributes of an ended trial: status, reason and SHOWN_METRICS."""
    shown = {name: metrics[name] for name in SHOWN_METRICS if name in metrics}
    return {"status": status, **({"reason": reason} if reason else {}), **shown}


def read_objectives(study: optuna.Study, state: TrialState, metrics: Mapping[str, Any]) -> list[float] | None:
    """Return a trial's values of the objectives of a study; None unless it is complete."""
    names = study.metric_names or ["score"]  # a study of an older version has no names
    return [float(metrics[name]) for name in names] if state == TrialState.COMPLETE else None
