"""The searcher: OptunaSearch that respects the clock and tells Optuna the truth about how trials ended."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from search.budget.constraints import TIME, Feasibility
from search.config.trial import TrialConfig
from search.records.trials import TrialRecord, free_numbers
from search.study.sampler import MOST_REJECTIONS, REJECTIONS, STUDY_NAME, TOLD, FeasibleTPE, ending, name_score, sampler
from search.tuning.trainable import StageContext, TrialSpec, new_trial_spec, outcome

FINISHED: str = Searcher.FINISHED


class FeasibleOptunaSearch(OptunaSearch):
    """Asks Optuna for the next configuration until `closed` says that nothing new may start.

    Trials that ASHA stopped are told as PRUNED, for their low-epoch score told as COMPLETE would bias TPE; diverged
    ones as FAIL. A configuration that breaks a rule is told as PRUNED before it costs anything, with its excess, and
    the next is asked for; after REJECTIONS in a row the next that keeps the user's constraints is taken, and after
    MOST_REJECTIONS the search ends. Trials of `unfinished` are handed out first and told when they end.

    Args:
        suggest: The space.
        context: Of the stage.
        closed: Whether nothing new may start, from the number of trials asked for.
        rules: What a configuration must keep.
        storage: The study's, taken up by `search.study.resume.resume_study`.
        study_name: In that storage.
        points: To try first in a new study.
        kind: Of the sampler.
        seed: Of the run.
        past: Trials that have been asked for already.
        unfinished: Those of them that have not ended.
    """

    def __init__(
        self,
        suggest: Callable[[optuna.Trial], TrialConfig],
        context: StageContext,
        *,
        closed: Callable[[int], bool],
        rules: Feasibility,
        storage: BaseStorage,
        points: list[dict[str, Any]],
        seed: int,
        kind: str = "tpe",
        study_name: str = STUDY_NAME,
        past: Sequence[TrialRecord] = (),
        unfinished: Sequence[TrialSpec] = (),
    ) -> None:
        self._suggest_config, self._context, self._closed, self._rules = suggest, context, closed, rules
        self._base_seed, self._asked, self._unfinished = seed, len(past), list(unfinished)
        self._exhausted = False
        self._numbers = free_numbers(past)
        super().__init__(
            space=self._define,
            metric="score",
            mode="max",
            points_to_evaluate=[] if past else points,
            sampler=sampler(kind, seed + len(past)),  # a search that goes on must not draw again what it drew
            storage=storage,
            study_name=study_name,
        )
        name_score(self._ot_study)
        if isinstance(self._ot_study.sampler, FeasibleTPE):
            known = self._ot_study.get_trials(deepcopy=False)
            self._ot_study.sampler.rejected = sum(max(t.constraints.values(), default=0.0) > 0 for t in known)

    def _define(self, trial: optuna.Trial) -> dict[str, Any]:
        return {"config": self._suggest_config(trial).to_dict()}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next entry for the trainable, first those to go on with; FINISHED once nothing new may start."""
        if self._unfinished:
            spec = self._unfinished.pop(0)
            if (told := self._told_of(spec.trial_id)) is not None:
                self._ot_trials[trial_id] = told
            return {"spec": spec}
        for rejections in range(0 if self._exhausted else MOST_REJECTIONS):
            if self._closed(self._asked):
                return FINISHED
            config = super().suggest(trial_id)["config"]
            broken = {name for name, by in self._excess_of(trial_id, config).items() if by > 0}
            if not broken or (broken == {TIME} and rejections >= REJECTIONS and self._keeps_constraints(config)):
                return {"spec": self._new(trial_id, config)}  # better one that the clock will cut than none
            self._reject(trial_id)
        self._exhausted = True
        return FINISHED

    def _keeps_constraints(self, config: dict[str, Any]) -> bool:
        excess = self._rules.constraints.excess(TrialConfig.from_dict(config))
        return max(excess.values(), default=0.0) <= 0

    def _reject(self, trial_id: str) -> None:
        self._ot_study.tell(self._ot_trials.pop(trial_id), state=TrialState.PRUNED)
        if isinstance(self._ot_study.sampler, FeasibleTPE):
            self._ot_study.sampler.rejected += 1

    def _excess_of(self, trial_id: str, config: dict[str, Any]) -> dict[str, float]:
        """Return by how much a configuration exceeds the rules; Optuna's trial is told."""
        excess = self._rules.excess(TrialConfig.from_dict(config))
        for name, by in excess.items():
            if by > 0:
                self._ot_trials[trial_id].set_constraint(name, by)
        return excess

    def _new(self, trial_id: str, config: dict[str, Any]) -> TrialSpec:
        self._asked += 1
        number, racing = next(self._numbers), self._context.stage.races
        spec = new_trial_spec(self._context, number, config, seed=self._base_seed, racing=racing)
        self._ot_trials[trial_id].set_user_attr("trial_id", spec.trial_id)
        self._ot_trials[trial_id].set_user_attr("stage", self._context.stage.name)
        return spec

    def _told_of(self, trial_id: str) -> optuna.Trial | None:
        """Return Optuna's trial behind one of ours that an earlier process began; None if the space has dropped it."""
        mine = (t for t in self._ot_study.get_trials(deepcopy=False) if is_running(t, trial_id))
        frozen = next(mine, None)
        return None if frozen is None else optuna.Trial(self._ot_study, frozen._trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended, COMPLETE only when it came to its planned end, and what it came to.

        Args:
            trial_id: Ray Tune's.
            result: The last report, flat as Ray Tune hands it on.
            error: Whether its worker died.
        """
        if trial_id in self._completed_trials or trial_id not in self._ot_trials:
            return
        trial, told = self._ot_trials[trial_id], result or {}
        metrics = {name.removeprefix("metrics/"): told[name] for name in told if name.startswith("metrics/")}
        status, reason = outcome(told, metrics) if told and not error else ("failed", "")
        for name, value in ending(status, reason, metrics).items():
            trial.set_user_attr(name, value)
        score = told["score"] if TOLD[status] == TrialState.COMPLETE else None
        self._ot_study.tell(trial, score, state=TOLD[status])
        self._completed_trials.add(trial_id)


class FixedSearcher(Searcher):
    """Hands out entries that are already decided: the promoted trials of a stage."""

    def __init__(self, specs: list[TrialSpec]) -> None:
        super().__init__(metric="score", mode="max")
        self._entries = list(specs)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next entry, or FINISHED."""
        return {"spec": self._entries.pop(0)} if self._entries else FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: who goes up is decided by `ladder` when all have ended."""


class StageChain(Searcher):
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


def is_running(trial: FrozenTrial, trial_id: str) -> bool:
    """Return whether an Optuna trial is RUNNING and stands for ours of that name."""
    return trial.state == TrialState.RUNNING and trial.user_attrs.get("trial_id") == trial_id
