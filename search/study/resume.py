"""Resume an Optuna study: close trials left running by a dead process and check that the search space is unchanged."""

import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from search.records.run_dir import RunDirError
from search.records.trials import TrialRecord
from search.study.sampler import OPTUNA_STATES, outcome_attributes
from search.study.storage import find_study, open_trial

SearchSpace = Callable[[FixedTrial], object]


def resume_study(storage: BaseStorage, space: SearchSpace, records: Sequence[TrialRecord] = ()) -> None:
    """Close the stale trials of the search's study, if there is one, and check that its space is unchanged.

    Raises:
        RunDirError: The search space has changed since the run began.
    """
    study = find_study(storage)
    if study is None:
        return
    close_stale_trials(storage, study, records)
    for trial in study.get_trials(deepcopy=False):
        if _is_complete(trial) and not _fits(trial, space):
            raise RunDirError(
                f"--resume: the search space has changed since trial {trial.number} of study.journal; start a new run, "
                "or resume with the version that began this one"
            )


def _is_complete(trial: FrozenTrial) -> bool:
    """Return False for an enqueued trial, and for one that a process did not finish suggesting before it died."""
    if trial.state == TrialState.FAIL:
        return "trial_id" in trial.user_attrs
    return trial.state != TrialState.WAITING


def _fits(trial: FrozenTrial, space: SearchSpace) -> bool:
    """Return whether the space suggests a trial's parameters from the same distributions as when it was stored."""
    fixed = FixedTrial(trial.params)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns of values out of range
            space(fixed)
    except (ValueError, KeyError):
        return False
    return fixed.distributions == trial.distributions


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
            finish_trial(open_trial(storage, study, trial.number), study, record)


def finish_trial(trial: optuna.Trial, study: optuna.Study, record: TrialRecord) -> None:
    """Report the recorded outcome of a trial to Optuna."""
    for name, value in outcome_attributes(record.status, record.reason, record.metrics).items():
        trial.set_user_attr(name, value)
    state = OPTUNA_STATES[record.status]
    study.tell(trial, record.score if state == TrialState.COMPLETE else None, state=state)
