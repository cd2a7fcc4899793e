"""What Optuna remembers of a run that goes on: the dead are settled, and of a changed space is kept what still fits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from search.records.trials import TrialRecord
from search.study.sampler import STUDY_NAME, TOLD, ending

WHOLE = "whole"  # set once a copy of a study is complete
Space = Callable[[FixedTrial], object]


@dataclass(frozen=True, kw_only=True)
class ResumedStudy:
    """The study that a search goes on with.

    Attributes:
        study_name: In the storage.
        kept: Trials that it knows.
        dropped: Why each of the others does not fit the space, by trial.
    """

    study_name: str
    kept: int
    dropped: dict[str, str]


def resume_study(storage: BaseStorage, space: Space, past: Sequence[TrialRecord] = ()) -> ResumedStudy:
    """Return the study that a search goes on with: the newest there is, or a copy of what of it fits a changed space.

    RUNNING trials left by a process that died are settled, for constant_liar would avoid them for ever.

    Args:
        storage: Of the journal.
        space: Suggests a configuration and raises ValueError for values that it does not have.
        past: Trials of the run; those without a status will go on.
    """
    newest = newest_study(storage)
    if newest is None:
        return ResumedStudy(study_name=STUDY_NAME, kept=0, dropped={})
    study_id = storage.get_study_id_from_name(newest)
    close_stale_trials(storage, study_id, past)
    trials = [trial for trial in storage.get_all_trials(study_id, deepcopy=False) if _is_whole(trial)]
    moved = [(trial, _fitted(trial, space)) for trial in trials]
    if all(not isinstance(new, str) and new.distributions == old.distributions for old, new in moved):
        return ResumedStudy(study_name=newest, kept=len(trials), dropped={})
    known = sum(study.study_name.startswith(STUDY_NAME) for study in storage.get_all_studies())
    name = f"{STUDY_NAME}-{known + 1}"
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    kept = [new for _, new in moved if not isinstance(new, str)]
    for new in kept:
        storage.create_new_trial(study._study_id, template_trial=new)
    storage.set_study_user_attr(study._study_id, WHOLE, True)
    dropped = {_name(old): new for old, new in moved if isinstance(new, str)}
    return ResumedStudy(study_name=name, kept=len(kept), dropped=dropped)


def newest_study(storage: BaseStorage) -> str | None:
    """Return the name of the newest study, half-made copies left out; None where there is none."""
    studies = storage.get_all_studies()
    names = [s.study_name for s in studies if s.study_name == STUDY_NAME or WHOLE in s.user_attrs]
    return names[-1] if names else None


def _is_whole(trial: FrozenTrial) -> bool:
    """Return whether a trial was asked for in full: not one that waits, or whose asking a process did not survive."""
    if trial.state == TrialState.FAIL:
        return "trial_id" in trial.user_attrs
    return trial.state != TrialState.WAITING


def _name(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("trial_id", f"rejected {trial.number}"))


class _Again(FixedTrial):
    """Suggests what a trial had, and refuses what the space has no more."""

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self._params:
            raise ValueError(f"{name} is new")
        value = self._params[name]
        if isinstance(distribution, CategoricalDistribution):
            if value not in distribution.choices:
                raise ValueError(f"{name}={value} is gone")
        elif not distribution._contains(distribution.to_internal_repr(value)):
            raise ValueError(f"{name} has another range")
        return super()._suggest(name, distribution)


def _fitted(trial: FrozenTrial, space: Space) -> FrozenTrial | str:
    """Return a trial as the space has it now, or why it does not fit."""
    fixed = _Again(trial.params)
    try:
        space(fixed)
    except ValueError as error:
        return str(error).splitlines()[0]
    return create_trial(
        state=trial.state,
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        intermediate_values=trial.intermediate_values,
        params={name: trial.params[name] for name in fixed.distributions},
        distributions=dict(fixed.distributions),
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
    )


def close_stale_trials(storage: BaseStorage, study_id: int, past: Sequence[TrialRecord]) -> None:
    """End the RUNNING trials of a study that nobody will end.

    Those whose end is on record end so, those that will go on are left, of the others nothing is known but that they
    failed.

    Args:
        storage: Of the study.
        study_id: In that storage.
        past: Trials of the run; those without a status will go on.
    """
    records = {record.trial_id: record for record in past}
    for trial in storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
        record = records.get(trial.user_attrs.get("trial_id", ""))
        if record is None or record.status:
            state = TOLD[record.status] if record else TrialState.FAIL
            told = ending(record.status, record.reason, record.metrics) if record else {}
            for name, value in told.items():
                storage.set_trial_user_attr(trial._trial_id, name, value)
            values = [record.score] if record and state == TrialState.COMPLETE else None
            storage.set_trial_state_values(trial._trial_id, state=state, values=values)
