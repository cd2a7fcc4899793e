"""Reconcile the Optuna study of a resumed run with its records: add lost trials, close stale ones, check the space."""

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from search.config.trial import TrialConfig
from search.records.run_dir import RunDirError
from search.records.trials import TrialRecord
from search.study.journal import create_study, find_study, open_trial
from search.study.trial_outcome import OPTUNA_STATES, describe_outcome, finish_trial, read_objectives

SearchSpace = Callable[[FixedTrial], object]
Encode = Callable[[TrialConfig], Mapping[str, Any]]


def reconcile_study(
    storage: BaseStorage,
    space: SearchSpace,
    records: Sequence[TrialRecord] = (),
    *,
    encode: Encode,
    objectives: Sequence[str] = ("score",),
) -> None:
    """Bring the search's study to the state of the records: close stale trials, and add those lost in a power failure.

    `encode` returns the parameters of a configuration. Raise RunDirError if the space has changed since the run began.
    """
    study = find_study(storage)
    if study is None:
        if not records:
            return
        study = create_study(storage, objectives=objectives)
    _add_lost_trials(study, space, records, encode)
    close_stale_trials(storage, study, records)
    kinds: dict[Hashable, FrozenTrial] = {}  # one trial for each combination of parameters and ranges
    for trial in filter(_is_complete, study.get_trials(deepcopy=False)):
        kinds.setdefault(frozenset(trial.distributions.items()), trial)
    for trial in kinds.values():
        fixed = _fix_parameters(trial.params, space)
        if fixed is None or fixed.distributions != trial.distributions:
            raise RunDirError(
                f"--resume: the search space has changed since trial {trial.number} of study.journal; start a new run, "
                "or resume with the version that began this one"
            )


def _add_lost_trials(study: optuna.Study, space: SearchSpace, records: Sequence[TrialRecord], encode: Encode) -> None:
    """Add a trial for each record that the study lacks and the space contains; one without a status is running."""
    known = {trial.user_attrs.get("trial_id") for trial in study.get_trials(deepcopy=False)}
    for record in [r for r in records if r.trial_id not in known]:
        fixed = _fix_parameters(record.config, space, lambda flat: encode(TrialConfig.from_flat(flat)))
        if fixed is None:
            continue
        state = OPTUNA_STATES[record.status] if record.status else TrialState.RUNNING
        outcome = describe_outcome(record.status, record.reason, record.metrics) if record.status else {}
        study.add_trial(
            create_trial(
                state=state,
                values=read_objectives(study, state, record.metrics),
                params={name: fixed.params[name] for name in fixed.distributions},
                distributions=fixed.distributions,
                intermediate_values={int(record.metrics["epochs"]): record.score} if record.metrics else {},
                user_attrs={"trial_id": record.trial_id, "stage": record.stage, **outcome},
            )
        )


def _fix_parameters(
    values: Mapping[str, Any], space: SearchSpace, encode: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
) -> FixedTrial | None:
    """Return a point of the space, encoded from values; None if the space or this version does not have it."""
    try:
        fixed = FixedTrial(dict(encode(values)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns of values out of range
            space(fixed)
    except (KeyError, ValueError):
        return None
    return fixed


def _is_complete(trial: FrozenTrial) -> bool:
    """Return False for an enqueued trial, and for one that a process did not finish suggesting before it died."""
    if trial.state == TrialState.FAIL:
        return "trial_id" in trial.user_attrs
    return trial.state != TrialState.WAITING


def close_stale_trials(storage: BaseStorage, study: optuna.Study, records: Sequence[TrialRecord]) -> None:
    """Close RUNNING trials left by a dead process; TPE would otherwise avoid their region as if they still ran.

    Trials with a recorded outcome get that state, trials whose record has no status will be resumed and stay RUNNING,
    all others are marked FAIL.
    """
    by_id = {record.trial_id: record for record in records}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        record = by_id.get(trial.user_attrs.get("trial_id", ""))
        if record is None:
            study.tell(trial.number, state=TrialState.FAIL)
        elif record.status:
            running = open_trial(storage, study, trial.number)
            finish_trial(study, running, record.status, record.reason, record.metrics)
