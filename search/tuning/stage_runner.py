"""Run the stages: select the trials that enter each one, build its searcher and record what it did."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from data.runtime.cli import format_count
from search.config.budget import reschedule
from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.records.console import RunConsole
from search.records.run_state import RunState
from search.records.trials import TrialRecord, TrialTable
from search.study.search_space import LR_RANGES
from search.tuning.promotion import choose_finalist_to_continue, promote, rank_trials
from search.tuning.rank_correlation import correlate_ranks
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.searchers import FeasibleOptunaSearch, ListSearcher
from search.tuning.ray.trial_spec import StageContext, TrialSpec
from search.tuning.stage_setup import (
    LrRanges,
    RunSetup,
    build_continued_specs,
    build_fixed_specs,
    build_resumed_specs,
    build_search,
    build_stage_context,
    centre_lr_ranges,
    count_repeats,
    has_time,
)


class StageFailedError(RuntimeError):
    """Every trial of a stage failed; the message gives the reasons."""


@dataclass
class StageRunner:
    """Runs the stages in order."""

    stages: Sequence[Stage]
    setup: RunSetup
    folder: Path
    configs: Sequence[TrialConfig]  # the user's configurations for a first stage of kind "fixed"
    find_lr: bool  # True if range tests centre the learning rates of the search
    run_state: RunState
    table: TrialTable
    checkpoints: CheckpointStore
    console: RunConsole
    stopped: Callable[[], bool]  # returns True once no new trial may begin
    # why the run ends early: every trial of a stage failed, or no network is feasible; Experiment raises it as an error
    failure: str = field(default="", init=False)

    def open_searchers(self) -> Iterator[Searcher]:
        """Yield the searcher of each stage in turn; a stage ends when the next searcher is requested."""
        previous: list[TrialRecord] = []
        for stage in self.stages:
            opened = self.run_state.open_stage  # if a stage is open, the stages before it have ended or were skipped
            if not self.run_state.is_closed(stage.name) and (opened is None or opened["name"] == stage.name):
                self._reschedule(stage)
                yield from self._open_searcher(stage, self._select_parents(stage, previous))
                if self.failure:
                    return
            ended = self.table.list_ended(stage.name)
            previous = ended if rank_trials(ended) else previous

    def _open_searcher(self, stage: Stage, parents: list[TrialRecord]) -> Iterator[Searcher]:
        """Yield the searcher of a stage, unless it has no trial to run, and record the stage when it has ended."""
        unfinished = [r for r in self.table.list_begun(stage.name) if not r.status]
        if self.stopped() or not (parents or unfinished or stage.is_first):
            return
        context = build_stage_context(
            self.setup,
            stage,
            trials=self._count_trials(stage, parents, unfinished),
            recorded=self._get_recorded_sizes(stage),
        )
        self._begin(context, parents)
        searcher = self._build_searcher(context, parents, unfinished)
        yield searcher
        self.table.write()
        self.failure = searcher.infeasible or self._describe_failure(stage)
        if self.failure:
            self.run_state.fail_stage()
        else:
            self._finish(context)

    def _describe_failure(self, stage: Stage) -> str:
        """Return the reasons if every trial of a stage failed since it began or was resumed, else ""."""
        records = self._list_valid(stage)
        if not records or any(r.status != "failed" for r in records):
            return ""
        reasons = Counter(r.reason for r in records)
        listed = "; ".join(f"{count} x {reason}" if count > 1 else reason for reason, count in reasons.most_common(5))
        return f"every trial of the {stage.name} stage failed: {listed}"

    def _list_valid(self, stage: Stage) -> list[TrialRecord]:
        """Return the begun trials of a stage, without the failures of an attempt in which every trial failed."""
        failed_s = self.run_state.get_failed_s(stage.name)
        return [r for r in self.table.list_begun(stage.name) if r.status != "failed" or r.started_s > failed_s]

    def _reschedule(self, stage: Stage) -> None:
        """If this stage starts late, redistribute the remaining time over all remaining stages."""
        deadlines, i = self.setup.deadlines, self.stages.index(stage)
        if deadlines is not None and i and time.monotonic() > deadlines[self.stages[i - 1].name]:
            shares = {later.name: later.share for later in self.stages[i:]}
            self.setup = replace(self.setup, deadlines=reschedule(deadlines, shares, time.monotonic()))

    def _get_recorded_sizes(self, stage: Stage) -> dict[str, Any]:
        """Return the recorded sizes of a stage; repeats start with those of the final stage."""
        sizes = self.run_state.get_recorded_sizes(stage.name)
        if not sizes and stage.kind == "repeat":
            sizes = self.run_state.get_recorded_sizes(self.stages[self.stages.index(stage) - 1].name)
        return sizes

    def _select_parents(self, stage: Stage, previous: list[TrialRecord]) -> list[TrialRecord]:
        """Return the trials whose weights a stage starts from; for an open stage they are recorded."""
        if self.run_state.open_stage is not None:
            recorded = [self.table.records[trial_id] for trial_id in self.run_state.open_stage["parents"]]
            return [r for r in recorded if r.trial_id in self.checkpoints]
        if stage.kind == "promote":
            return self._select_promoted(stage, previous)
        return self._select_repeated(stage, previous) if stage.kind == "repeat" else []

    def _select_promoted(self, stage: Stage, previous: list[TrialRecord]) -> list[TrialRecord]:
        """Return the promoted trials, or the finalist that an extended run continues, if there is time for one step.

        Print which trials are too slow, and why an earlier trial is preferred to the best one.
        """
        valid = self._list_valid(stage)
        promoted_before = {record.parent_id for record in valid}
        excluded = {r.trial_id for r in previous if r.trial_id in promoted_before}
        excluded |= {r.trial_id for r in [*previous, *valid] if r.trial_id not in self.checkpoints}
        is_last = stage is [each for each in self.stages if each.kind == "promote"][-1]
        continued = choose_finalist_to_continue(previous, valid if is_last else [], excluded)
        selected = [continued] if continued else promote(previous, stage, seed=self.setup.seed, excluded=excluded)
        best = next((r for r in rank_trials(previous) if r.trial_id not in excluded), None)
        if stage.earlier_margin and best and not continued and selected[0] is not best:
            near = f"within {stage.earlier_margin} of {best.trial_id} (score {best.score:.3f})"
            self.console.print(f"  {selected[0].trial_id} is preferred: {near} and earlier in the portfolio")
        configs = {r.trial_id: TrialConfig.from_flat(r.config) for r in selected}
        too_slow = [r for r in selected if not has_time(self.setup, stage, configs[r.trial_id], trials=len(selected))]
        for record in too_slow:
            self.console.print(f"  {record.trial_id} is not promoted: the {stage.name} stage is too short for one step")
        return [record for record in selected if record not in too_slow]

    def _leave_out_slow(self, stage: Stage, specs: list[TrialSpec]) -> list[TrialSpec]:
        """Return the trials of the user's configurations without those too slow for one step, unless all are."""
        fast = [spec for spec in specs if has_time(self.setup, stage, spec.config, trials=len(self.configs))]
        for spec in specs if fast else ():
            if spec not in fast:
                network = f"{spec.config.model.arch} of width {spec.config.model.width}"
                reason = f"the {stage.name} stage is too short for one step of it"
                self.console.print(f"  {spec.trial_id} ({network}) is not trained: {reason}")
        return fast or specs

    def _select_repeated(self, stage: Stage, previous: list[TrialRecord]) -> list[TrialRecord]:
        """Return the parents of the best finalists that were trained in full, once per affordable repeat."""
        repeated_before = {record.parent_id for record in self._list_valid(stage)}
        whole = [r for r in rank_trials(previous) if r.status == "completed" and r.metrics["px"] == stage.px]
        repeated = [r for r in whole if r.parent_id in self.checkpoints and r.parent_id not in repeated_before]
        repeated = repeated[: stage.top_k]
        parents = [self.table.records[r.parent_id] for _ in range(stage.repeats) for r in repeated]
        return parents[: count_repeats(self.setup, stage, repeated, len(parents))]

    def _count_trials(self, stage: Stage, parents: list[TrialRecord], unfinished: list[TrialRecord]) -> int:
        """Return the number of trials that share the time of a stage; of a search, which fills it, those at once."""
        if stage.kind == "search":
            return self.setup.cluster.workers
        if stage.kind == "fixed":
            return len(self.configs)
        resumed = len(unfinished) if self.run_state.open_stage is None else 0  # else their parents are in `parents`
        return (len(parents) + resumed) or len(unfinished)

    def _build_searcher(
        self, context: StageContext, parents: list[TrialRecord], unfinished: list[TrialRecord]
    ) -> FeasibleOptunaSearch | ListSearcher:
        """Return the searcher of a stage, which first resumes the unfinished trials of an earlier process."""
        begun = self.table.list_begun(context.stage.name)
        resumed = build_resumed_specs(context, unfinished, self.checkpoints)
        valid = self._list_valid(context.stage)
        if context.stage.kind == "search":
            journal, lr = self.folder / "study.journal", self._choose_lr_ranges(context)
            trials: dict[str, Any] = {"past": begun, "unfinished": resumed, "retried": len(begun) - len(valid)}
            return build_search(self.setup, context, journal, lr=lr, **trials)
        if context.stage.kind == "fixed":
            fixed = build_fixed_specs(self.setup, context, self.configs, begun=begun, valid=valid)
            return ListSearcher(resumed + self._leave_out_slow(context.stage, fixed))
        waiting = self._list_not_begun(parents, valid)
        continued = build_continued_specs(self.setup, context, waiting, self.checkpoints, begun=begun)
        return ListSearcher(resumed + continued)

    def _list_not_begun(self, parents: list[TrialRecord], begun: list[TrialRecord]) -> list[TrialRecord]:
        """Return the entries of `parents`, with repetitions, from which no trial of this round has started."""
        assert self.run_state.open_stage is not None
        started = Counter(r.parent_id for r in begun if r.started_s >= self.run_state.open_stage["began_s"])
        waiting = []
        for parent in parents:
            started[parent.trial_id] -= 1
            if started[parent.trial_id] < 0:
                waiting.append(parent)
        return waiting

    def _choose_lr_ranges(self, context: StageContext) -> LrRanges:
        """Return the learning-rate range of each optimizer, centred by range tests if the user requested it."""
        if not self.find_lr:
            return LR_RANGES
        if self.run_state.lr_ranges is None:
            self.run_state.lr_ranges = dict(centre_lr_ranges(self.setup, context))
            self.run_state.write()
        ranges = {name: (low, high) for name, (low, high) in self.run_state.lr_ranges.items()}
        for name, (low, high) in ranges.items():
            unchanged = (low, high) == LR_RANGES[name]
            result = "unchanged: too few steps, or the loss did not clearly fall" if unchanged else "centred"
            self.console.print(f"  learning rates of {name}: {low:.1e} to {high:.1e}, {result}")
        return {**LR_RANGES, **ranges}

    def _begin(self, context: StageContext, parents: list[TrialRecord]) -> None:
        """Record and announce a stage."""
        stage, data = context.stage, context.data
        plan: dict[str, Any] = {
            "px": stage.px,
            "train_images": len(data.train),
            "val_images": len(data.val),
            "limit_s": context.limit_s,
            "threads": context.threads,
            "parents": [record.trial_id for record in parents],
        }
        self.run_state.begin_stage(stage.name, plan)
        promoted = [f"{r.trial_id} ({r.config['model/arch']}, score {r.score:.3f})" for r in parents]
        trials = {
            "search": f"search with {format_count(self.setup.cluster.workers, 'worker')}",
            "fixed": format_count(len(self.configs), "fixed configuration"),
            "promote": f"promoted {', '.join(promoted) or 'none'}",
            "repeat": f"{len(parents)} with other seeds",
        }
        end = self.run_state.began + (self.setup.budget.wall_s or 0)
        description = f"{trials[stage.kind]}, {len(data.train):,} images of {stage.px} px"
        self.console.begin(stage.name, description, context.deadline or 0, end)

    def _finish(self, context: StageContext) -> None:
        """Record a stage's trials, how busy its workers were, and its rank correlation with the previous stage."""
        plan, stage = self.run_state.open_stage, context.stage
        assert plan is not None
        ended = self.table.list_ended(stage.name)
        records = [r for r in ended if r.started_s >= plan["began_s"]]
        at_once = min(self.setup.cluster.workers, len(records)) or 1
        wall_s = max(self.run_state.used_s - plan["began_s"], 1e-3)
        fit_s = sum(float(r.metrics.get("fit_s", 0.0)) for r in records)
        busy = round(fit_s / (at_once * wall_s), 4)
        metrics: dict[str, Any] = {"trials": len(records), "at_once": at_once, "busy": busy}
        if stage.kind == "promote":
            parents = {r.trial_id: r for r in self.table.records.values() if r.stage != stage.name}
            children = [r for r in rank_trials(ended) if r.parent_id in parents]  # without continued finalists
            scores = [parents[r.parent_id].score for r in children], [r.score for r in children]
            metrics["rank_correlation_with_previous_stage"] = correlate_ranks(*scores)
        self.run_state.end_stage(metrics)
        self.console.finish()
