"""The searcher: OptunaSearch that respects the clock and tells Optuna the truth about how trials ended."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from search.config import TrialConfig
from search.trainable import Entry, StageContext, new_entry

STUDY_NAME = "explore"
FINISHED: str = Searcher.FINISHED
REJECTIONS = 100


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
    for; after REJECTIONS in a row the next is taken as it is. RUNNING trials left by a search that died are swept,
    for constant_liar would avoid them for ever.
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
    ) -> None:
        sweep_running(storage)
        self._suggest_config, self._context, self._closed, self._fits = suggest, context, closed, fits
        self._base_seed, self._asked = seed, 0
        super().__init__(
            space=self._define,
            metric="score",
            mode="max",
            points_to_evaluate=points,
            sampler=sampler(seed),
            storage=storage,
            study_name=STUDY_NAME,
        )

    def _define(self, trial: optuna.Trial) -> dict[str, Any]:
        return {"config": self._suggest_config(trial).to_dict()}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next entry for the trainable, or FINISHED once nothing new may start."""
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


def sweep_running(storage: BaseStorage) -> int:
    """Mark trials that a dead search left RUNNING as failed; return how many there were."""
    names = {s.study_name for s in storage.get_all_studies()}
    if STUDY_NAME not in names:
        return 0
    study_id = storage.get_study_id_from_name(STUDY_NAME)
    running = storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
    return len(running)
