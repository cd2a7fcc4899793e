"""Searchers that hand out the trials of a stage, and the chain that runs one stage after the other."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.config.constraints import TIME, Feasibility
from search.config.trial import TrialConfig
from search.records.trials import TrialRecord, merge_best_epoch, yield_free_numbers
from search.study.journal import create_study, open_trial
from search.study.sampler import FeasibleTPE, build_sampler, is_trained
from search.study.trial_outcome import finish_trial
from search.tuning.ray.trial_spec import StageContext, TrialSpec, build_trial_spec, read_outcome

MAX_REJECTIONS_IN_TIME = 100  # consecutive rejections after which a network that is only too slow is accepted
MAX_REJECTIONS = 1000  # consecutive rejections after which the search ends
FINISHED: str = Searcher.FINISHED


class FeasibleOptunaSearch(Searcher):
    """Asks Optuna for feasible configurations until `closed(trials)` returns True, and reports their outcomes.

    Trials that ASHA stopped are reported as PRUNED (as COMPLETE, their low-epoch score would bias TPE), diverged ones
    as FAIL. An infeasible configuration is reported as PRUNED with its excess before it is trained, and the next one is
    asked for. After MAX_REJECTIONS_IN_TIME consecutive rejections, a configuration that is too slow but keeps the
    user's constraints is accepted; after MAX_REJECTIONS the search ends.

    `search.study.reconcile` prepares the `storage`. The parameters of `points` are tried next. `past` are the trials of
    the search so far; the trials of `unfinished` have no outcome yet and are handed out first. `prepare` asks for up to
    `ahead` configurations before there is a worker for them.
    """

    def __init__(
        self,
        suggest: Callable[[optuna.Trial], TrialConfig],
        context: StageContext,
        *,
        closed: Callable[[int], bool],
        rules: Feasibility,
        storage: BaseStorage,
        points: Sequence[dict[str, Any]],
        seed: int,
        kind: str = "tpe",
        past: Sequence[TrialRecord] = (),
        unfinished: Sequence[TrialSpec] = (),
        ahead: int = 0,
    ) -> None:
        super().__init__(metric="score", mode="max")
        self._ahead, self._prepared = ahead, deque[tuple[optuna.Trial, TrialConfig]]()
        self._suggest_config, self._context, self._closed, self._rules = suggest, context, closed, rules
        self._seed, self._started, self._unfinished = seed, len(past), list(unfinished)
        self._numbers, self._exhausted = yield_free_numbers(past), False
        self._trials: dict[str, optuna.Trial] = {}  # running trials, by Ray Tune's name
        sampler = build_sampler(kind, seed + len(past))  # a resumed search must not repeat its draws
        self.study = create_study(storage, objectives=context.stage.objectives, sampler=sampler)
        self._continued = self._find_running(storage)  # Optuna's trials of `_unfinished`, by trial_id
        for point in points:
            self.study.enqueue_trial(point)
        if isinstance(self.study.sampler, FeasibleTPE):
            known = self.study.get_trials(deepcopy=False)
            self.study.sampler.trained = sum(is_trained(trial, trial.state) for trial in known)
            self.study.sampler.batch = max(ahead, 1)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next trial for the trainable, unfinished ones first; FINISHED once no new trial may start."""
        if self._unfinished:
            spec = self._unfinished.pop(0)
            if spec.trial_id in self._continued:
                self._trials[trial_id] = self._continued.pop(spec.trial_id)
            return {"spec": spec}
        if not (self._prepared or self._ask()) or self._closed(self._started):
            while self._prepared:  # there is no time for them
                self.study.tell(self._prepared.popleft()[0], state=TrialState.FAIL)
            return FINISHED
        trial, config = self._prepared.popleft()
        self._trials[trial_id] = trial
        return {"spec": self._new_spec(trial, config)}

    @property
    def infeasible(self) -> str:
        """Reason and remedy if the search has ended without a trial because of the user's constraints, else ""."""
        if self._started or not self._exhausted:
            return ""
        limits = self._rules.constraints.describe()
        return f"{limits}: none of {MAX_REJECTIONS:,} suggested networks meets this; relax it"

    def prepare(self) -> None:
        """Prepare one more configuration if there are fewer than `ahead`, so that no worker waits for the next one."""
        if len(self._prepared) < self._ahead:
            self._ask()

    def _ask(self) -> bool:
        """Ask for a configuration; return False if no new trial may start, or nothing is feasible."""
        for rejections in range(0 if self._exhausted else MAX_REJECTIONS):
            if self._closed(self._started + len(self._prepared)):
                return False
            trial = self.study.ask()
            config = self._suggest_config(trial)
            if self._accepts(trial, config, rejections):
                self._prepared.append((trial, config))
                return True
            self.study.tell(trial, state=TrialState.PRUNED)
        self._exhausted = True
        return False

    def _accepts(self, trial: optuna.Trial, config: TrialConfig, rejections: int) -> bool:
        """Return whether to train a configuration; record the constraints that it violates in Optuna's trial."""
        violated = {name: excess for name, excess in self._rules.compute_excess(config).items() if excess > 0}
        for name, excess in violated.items():
            trial.set_constraint(name, excess)
        if violated.keys() != {TIME} or rejections < MAX_REJECTIONS_IN_TIME:
            return not violated
        return max(self._rules.constraints.compute_excess(config).values(), default=0.0) <= 0

    def _new_spec(self, trial: optuna.Trial, config: TrialConfig) -> TrialSpec:
        self._started += 1
        spec = build_trial_spec(self._context, next(self._numbers), config, seed=self._seed)
        trial.set_user_attr("trial_id", spec.trial_id)
        trial.set_user_attr("stage", self._context.stage.name)
        return spec

    def retry(self, trial_id: str, spec: TrialSpec) -> None:
        """Hand out a trial again; it keeps its trial in Optuna."""
        if trial_id in self._trials:
            self._continued[spec.trial_id] = self._trials.pop(trial_id)
        self._unfinished.append(spec)

    def _find_running(self, storage: BaseStorage) -> dict[str, optuna.Trial]:
        """Return Optuna's trials of the unfinished trials that the study contains, by trial_id."""
        unfinished = {spec.trial_id for spec in self._unfinished}
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        numbers = {trial.user_attrs.get("trial_id", ""): trial.number for trial in running}
        return {name: open_trial(storage, self.study, numbers[name]) for name in unfinished & numbers.keys()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an intermediate score, by which TPE ranks pruned trials; a study of several objectives takes none."""
        if trial_id in self._trials and "epoch" in result and len(self._context.stage.objectives) == 1:
            self._trials[trial_id].report(result["score"], result["epoch"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Report the outcome of a trial to Optuna; `result` is the last report."""
        if trial_id not in self._trials:
            return
        result = result or {}
        metrics = result.get("metrics", {})
        self.on_trial_result(trial_id, result)  # Ray Tune does not pass the last report on otherwise
        status, reason = read_outcome(result, metrics) if result and not error else ("failed", "")
        measured = merge_best_epoch({**metrics, "score": result.get("score")})
        finish_trial(self.study, self._trials.pop(trial_id), status, reason, measured)


class ListSearcher(Searcher):
    """Hands out the trials of a list, such as those promoted to a stage."""

    infeasible = ""

    def __init__(self, specs: Sequence[TrialSpec]) -> None:
        super().__init__(metric="score", mode="max")
        self._specs = list(specs)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next trial, or FINISHED."""
        return {"spec": self._specs.pop(0)} if self._specs else FINISHED

    def retry(self, trial_id: str, spec: TrialSpec) -> None:
        """Hand out a trial again, before those that have not begun."""
        self._specs.insert(0, spec)

    def prepare(self) -> None:
        """Do nothing, because all trials are known."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing; the records decide on promotions."""


NO_STAGE = ListSearcher([])


class StageChain(Searcher):
    """Chains the searchers of the stages; each is requested after the last trial of the previous stage has ended.

    All stages run in one Ray Tune experiment, so that workers stay alive between stages.
    """

    def __init__(self, searchers: Iterator[Searcher]) -> None:
        super().__init__(metric="score", mode="max")
        self._searchers = searchers
        self._current = next(searchers, NO_STAGE)
        self._running: set[str] = set()

    @property
    def is_finished(self) -> bool:
        """True if no stage is left, as in a run that was killed after its last stage."""
        return self._current is NO_STAGE

    @property
    def running(self) -> int:
        """Number of trials that have been handed out and have not ended."""
        return len(self._running)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial, None while a stage waits for its last trials, FINISHED after the last stage."""
        while not self.is_finished:
            suggested: dict[str, Any] | str = self._current.suggest(trial_id)
            if suggested != FINISHED:
                self._running.add(trial_id)
                return suggested
            if self._running:
                return None
            self._current = next(self._searchers, NO_STAGE)
        return FINISHED

    def prepare(self) -> None:
        """Let the searcher of the stage prepare a trial."""
        self._current.prepare()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Forward a report to the searcher of the stage."""
        self._current.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Forward an outcome to the searcher of the stage; after an error, `retry` or `fail` follows."""
        if not error:
            self._end(trial_id, result)

    def fail(self, trial_id: str) -> None:
        """Forward the failure of a trial to the searcher of the stage."""
        self._end(trial_id, error=True)

    def retry(self, trial_id: str, spec: TrialSpec) -> None:
        """Hand out a trial again under another name in Ray Tune."""
        self._running.discard(trial_id)
        self._current.retry(trial_id, spec)

    def _end(self, trial_id: str, result: dict[str, Any] | None = None, *, error: bool = False) -> None:
        self._running.discard(trial_id)
        self._current.on_trial_complete(trial_id, result, error)

    def __getstate__(self) -> dict[str, Any]:
        """Return an empty state for Ray Tune to pickle; records and journal on disk hold the state."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write nothing, like `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing, like `__getstate__`."""
