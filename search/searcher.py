"""The searcher: OptunaSearch that respects the clock and tells Optuna the truth about how trials ended."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from search.config import TrialConfig
from search.records import TrialRecord
from search.trainable import Entry, StageContext, new_entry

STUDY_NAME = "explore"
FINISHED: str = Searcher.FINISHED
REJECTIONS = 100
TOLD = {
    "completed": TrialState.COMPLETE,
    "timed_out": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def sampler(seed: int, *, startup_trials: int = 15) -> optuna.samplers.BaseSampler:
    """Return the sampler: multivariate TPE over a conditional space, told which trials are still running."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=startup_trials,
            multivariate=True,
            group=True,
            constant_liar=True,
        )


class StudySearch(OptunaSearch):
    """Asks Optuna for the next configuration until `closed` says that nothing new may start.

    Trials that ASHA stopped are told as PRUNED, for their low-epoch score told as COMPLETE would bias TPE; diverged
    ones as FAIL. A configuration that does not fit is told as PRUNED before it costs anything, and the next is asked
    for; after REJECTIONS in a row the next is taken as it is. RUNNING trials left by a search that died are settled,
    for constant_liar would avoid them for ever; those of `unfinished` are handed out first and told when they end.
    """

    def __init__(
        self,
        suggest: Callable[[optuna.Trial], TrialConfig],
        context: StageContext,
        *,
        closed: Callable[[int], bool],
        fits: Callable[[TrialConfig], bool],
        storage: BaseStorage,
        points: list[dict[str, Any]],
        seed: int,
        past: Sequence[TrialRecord] = (),
        unfinished: Sequence[Entry] = (),
    ) -> None:
        settle(storage, past)
        self._suggest_config, self._context, self._closed, self._fits = suggest, context, closed, fits
        self._base_seed, self._asked, self._unfinished = seed, len(past), list(unfinished)
        super().__init__(
            space=self._define,
            metric="score",
            mode="max",
            points_to_evaluate=[] if past else points,
            sampler=sampler(seed + len(past)),  # a search that goes on must not draw again what it drew
            storage=storage,
            study_name=STUDY_NAME,
        )

    def _define(self, trial: optuna.Trial) -> dict[str, Any]:
        return {"config": self._suggest_config(trial).to_dict()}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next entry for the trainable, first those to go on with; FINISHED once nothing new may start."""
        if self._unfinished:
            entry = self._unfinished.pop(0)
            self._ot_trials[trial_id] = self._told_of(entry.trial_id)
            return {"entry": entry}
        if self._closed(self._asked):
            return FINISHED
        for _ in range(REJECTIONS):
            config = super().suggest(trial_id)["config"]
            if self._fits(TrialConfig.from_dict(config)):
                break
            self._ot_study.tell(self._ot_trials.pop(trial_id), state=TrialState.PRUNED)
        else:  # better one that the clock will cut than none
            config = super().suggest(trial_id)["config"]
        self._asked += 1
        entry = new_entry(self._context, self._asked, config, seed=self._base_seed, racing=True)
        self._ot_trials[trial_id].set_user_attr("trial_id", entry.trial_id)
        return {"entry": entry}

    def _told_of(self, trial_id: str) -> optuna.Trial:
        """Return Optuna's trial behind one of ours that an earlier process began."""
        frozen = next(t for t in self._ot_study.get_trials(deepcopy=False) if is_running(t, trial_id))
        return optuna.Trial(self._ot_study, frozen._trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended: COMPLETE only when it came to its planned end."""
        if trial_id in self._completed_trials or trial_id not in self._ot_trials:
            return
        trial = self._ot_trials[trial_id]
        if error or not result or result.get("failed"):
            self._ot_study.tell(trial, state=TrialState.FAIL)
        elif result.get("last"):
            self._ot_study.tell(trial, result["score"])
        else:
            self._ot_study.tell(trial, state=TrialState.PRUNED)
        self._completed_trials.add(trial_id)


class Queue(Searcher):
    """Hands out entries that are already decided: the promoted trials of a stage."""

    def __init__(self, entries: list[Entry]) -> None:
        super().__init__(metric="score", mode="max")
        self._entries = list(entries)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next entry, or FINISHED."""
        return {"entry": self._entries.pop(0)} if self._entries else FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: who goes up is decided by `ladder` when all have ended."""


class Climb(Searcher):
    """Chains the searchers of the stages: the next opens when the last trial of the stage below has ended.

    One experiment climbs the whole ladder, so workers stay warm from the first trial to the last.
    """

    def __init__(self, stages: Iterator[Searcher]) -> None:
        super().__init__(metric="score", mode="max")
        self._stages = stages
        self._current: Searcher | None = next(stages)
        self._running: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next entry, None while a stage waits for its last trials, FINISHED at the top."""
        while self._current is not None:
            suggested: dict[str, Any] | str = self._current.suggest(trial_id)
            if suggested != FINISHED:
                self._running.add(trial_id)
                return suggested
            if self._running:
                return None
            self._current = next(self._stages, None)
        return FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass a report on."""
        if self._current is not None:
            self._current.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass an ending on."""
        self._running.discard(trial_id)
        if self._current is not None:
            self._current.on_trial_complete(trial_id, result, error)

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: records and journal on disk are the state, not what Tune pickles."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write nothing, as `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing, as `__getstate__`."""


def settle(storage: BaseStorage, past: Sequence[TrialRecord] = ()) -> int:
    """Tell Optuna the end of trials that a dead search left RUNNING; return how many it told.

    Those whose end is on record end so; those that will go on are left; of the others nothing is known but that they
    failed.
    """
    if STUDY_NAME not in {s.study_name for s in storage.get_all_studies()}:
        return 0
    study_id = storage.get_study_id_from_name(STUDY_NAME)
    records, told = {record.trial_id: record for record in past}, 0
    for trial in storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
        record = records.get(trial.user_attrs.get("trial_id", ""))
        if record is None or record.status:
            state = TOLD[record.status] if record else TrialState.FAIL
            values = [record.score] if record and state == TrialState.COMPLETE else None
            storage.set_trial_state_values(trial._trial_id, state=state, values=values)
            told += 1
    return told


def is_running(trial: optuna.trial.FrozenTrial, trial_id: str) -> bool:
    """Return whether an Optuna trial is RUNNING and stands for ours of that name."""
    return trial.state == TrialState.RUNNING and trial.user_attrs.get("trial_id") == trial_id
