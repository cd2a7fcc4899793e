"""The way up the ladder: who enters each stage, who hands out its trials, and what is noted of it."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from search.config.trial import TrialConfig
from search.records.console import RunConsole
from search.records.run_state import RunState
from search.records.trials import TrialRecord, TrialTable
from search.study.space import LR_RANGES
from search.tuning.checkpoints import CheckpointStore
from search.tuning.rank_correlation import agreement
from search.tuning.searchers import FixedSearcher
from search.tuning.stage_setup import (
    LrRanges,
    RunResources,
    affordable_repeats,
    centred_rates,
    has_time,
    promoted,
    searched,
    stage_context,
    stated,
    unfinished,
)
from search.tuning.stages import Stage, promote, ranked
from search.tuning.trainable import StageContext


class StageRunner:
    """Opens one stage after the other.

    Args:
        ladder: Its stages.
        resources: What the run may use.
        folder: The run's.
        configs: Stated configurations that take the place of the search; empty to search.
        find_lr: Whether range tests centre the search's learning rates.
        run_state: Of the run.
        table: Its trials.
        checkpoints: Their weights.
        console: What the user sees.
        stopped: Whether nothing new may begin.
    """

    def __init__(
        self,
        ladder: Sequence[Stage],
        resources: RunResources,
        *,
        folder: Path,
        configs: Sequence[TrialConfig],
        find_lr: bool,
        run_state: RunState,
        table: TrialTable,
        checkpoints: CheckpointStore,
        console: RunConsole,
        stopped: Callable[[], bool],
    ) -> None:
        self.ladder, self.resources, self.folder, self.configs, self.find_lr = (
            ladder,
            resources,
            folder,
            configs,
            find_lr,
        )
        self.run_state, self.table, self.checkpoints, self.console, self.stopped = (
            run_state,
            table,
            checkpoints,
            console,
            stopped,
        )

    def stages(self) -> Iterator[Searcher]:
        """Yield the searcher of each stage in turn; what lies between two yields happens between two stages."""
        below: list[TrialRecord] = []
        for stage in self.ladder:
            opened = self.run_state.open_stage  # if there is one, the stages before it have ended, or were passed over
            if not self.run_state.is_closed(stage.name) and (opened is None or opened["name"] == stage.name):
                self._put_off(stage)
                entrants = self._entrants(stage, below)
                going_on = [r for r in self.table.begun(stage.name) if not r.status]
                if not self.stopped() and (entrants or going_on or not stage.enter):
                    trials = len(entrants) or len(going_on if stage.enter else self.configs) or None
                    settled = self.run_state.settled(stage.name) or self._of_stage_below(stage)
                    context = stage_context(self.resources, stage, trials=trials, settled=settled)
                    self._begin(context, entrants)
                    yield self._searcher(context, entrants)
                    self._finish(context)
            ended = self.table.of_stage(stage.name)
            below = ended if ranked(ended) else below

    def _put_off(self, stage: Stage) -> None:
        """Divide what time is left anew, where the stage begins late: else it alone would pay for those before."""
        deadlines, i = self.resources.deadlines, self.ladder.index(stage)
        if deadlines is not None and i and time.time() > deadlines.stages[self.ladder[i - 1].name]:
            shares = {later.name: later.share for later in self.ladder[i:]}
            self.resources = replace(self.resources, deadlines=deadlines.put_off(shares, time.time()))

    def _of_stage_below(self, stage: Stage) -> dict[str, Any]:
        """Return what repeats share with the trainings that they repeat: the number of images."""
        below = self.ladder[self.ladder.index(stage) - 1]
        return self.run_state.settled(below.name) if stage.repeats else {}

    def _entrants(self, stage: Stage, below: list[TrialRecord]) -> list[TrialRecord]:
        """Return the trials whose weights a stage begins with: those settled when it began, or chosen now."""
        if self.run_state.open_stage is not None:
            settled = [self.table.records[trial_id] for trial_id in self.run_state.open_stage["entrants"]]
            return [r for r in settled if r.trial_id in self.checkpoints]  # without those whose weights were lost
        taken = {record.parent_id for record in self.table.begun(stage.name)}
        if stage.repeats:
            whole = [r for r in ranked(below) if r.status == "completed" and r.metrics["px"] == stage.px]
            first = [r for r in whole if r.parent_id in self.checkpoints and r.parent_id not in taken][: stage.enter]
            wanted = [self.table.records[r.parent_id] for _ in range(stage.repeats) for r in first]
            return wanted[: affordable_repeats(self.resources, stage, first, len(wanted))]
        gone = {r.trial_id for r in below} - self.checkpoints.keys()
        if not stage.enter:
            return []
        return self._with_time(stage, promote(below, stage, seed=self.resources.seed, absent=taken | gone))

    def _with_time(self, stage: Stage, entrants: list[TrialRecord]) -> list[TrialRecord]:
        """Return the entrants without those that have not even time for a step: they stay below, with their models."""
        trials, kept = len(entrants), []
        for record in entrants:
            if has_time(self.resources, stage, TrialConfig.from_flat(record.config), trials=trials):
                kept.append(record)
            else:
                self.console.say(
                    f"  {record.trial_id} stays below: the {stage.name} stage has no time for a step of it"
                )
        return kept

    def _searcher(self, context: StageContext, entrants: list[TrialRecord]) -> Searcher:
        """Return who hands out a stage's trials: those promoted, those stated, or a search; unfinished ones first."""
        begun = self.table.begun(context.stage.name)
        searching = not (context.stage.enter or self.configs)
        racing = searching and context.stage.races
        go_on = unfinished(context, [r for r in begun if not r.status], self.checkpoints, racing=racing)
        if context.stage.enter:
            waiting = self._not_begun(entrants, begun)
            return FixedSearcher(go_on + promoted(self.resources, context, waiting, self.checkpoints, begun=begun))
        if self.configs:
            return FixedSearcher(go_on + stated(self.resources, context, self.configs, begun=begun))
        ranges = self._lr_ranges(context)
        search, memory = searched(
            self.resources, context, self.folder / "study.journal", lr=ranges, past=begun, go_on=go_on
        )
        if memory.dropped:
            self._say_dropped(memory.kept, memory.dropped)
        return search

    def _not_begun(self, entrants: list[TrialRecord], begun: list[TrialRecord]) -> list[TrialRecord]:
        """Return those entrants, some of them more than once, that no trial of this round has begun with."""
        assert self.run_state.open_stage is not None
        there = Counter(r.parent_id for r in begun if r.started_s >= self.run_state.open_stage["began_s"])
        waiting = []
        for entrant in entrants:
            there[entrant.trial_id] -= 1
            if there[entrant.trial_id] < 0:
                waiting.append(entrant)
        return waiting

    def _say_dropped(self, kept: int, dropped: dict[str, str]) -> None:
        self.run_state.content["space_changed"] = {"kept": kept, "dropped": dropped}
        self.run_state.write()
        reasons = Counter(dropped.values()).most_common(3)
        told = "; ".join(f"{reason} ({count})" for reason, count in reasons)
        self.console.say(f"  the search space has changed: {kept} trials still fit, {len(dropped)} do not: {told}")

    def _lr_ranges(self, context: StageContext) -> LrRanges:
        """Return the space's learning rates, by optimizer; centred by range tests where the user asked for it."""
        if not self.find_lr:
            return LR_RANGES
        if "lr_ranges" not in self.run_state.content:
            self.run_state.content["lr_ranges"] = dict(centred_rates(self.resources, context))
            self.run_state.write()
        ranges = {name: (low, high) for name, (low, high) in self.run_state.content["lr_ranges"].items()}
        for name, (low, high) in ranges.items():
            why = "as they were: too little time, or no clear fall" if (low, high) == LR_RANGES[name] else "centred"
            self.console.say(f"  learning rates of {name}: {low:.1e} to {high:.1e}, {why}")
        return ranges

    def _begin(self, context: StageContext, entrants: list[TrialRecord]) -> None:
        """Note and announce a stage."""
        stage, data = context.stage, context.data
        plan: dict[str, Any] = {
            "px": stage.px,
            "train_images": len(data.train),
            "val_images": len(data.val),
            "cap_s": context.cap_s,
        }
        plan |= {"threads": context.threads, "entrants": [record.trial_id for record in entrants]}
        self.run_state.begin_stage(stage.name, plan)
        search = (
            f"{len(self.configs)} stated" if self.configs else f"search with {self.resources.cluster.workers} workers"
        )
        who = f"{len(entrants)} with other seeds" if stage.repeats else f"{len(entrants)} promoted"
        end = self.run_state.began + (self.resources.budget.wall_s or 0)
        what = f"{who if entrants else search}, {len(data.train):,} images of {stage.px} px"
        self.console.begin(stage.name, what, context.deadline or 0, end)

    def _finish(self, context: StageContext) -> None:
        """Note what a stage did, how busy its workers were and whether the stage below foretold it."""
        plan, stage = self.run_state.open_stage, context.stage
        assert plan is not None
        ended = self.table.of_stage(stage.name)
        records = [r for r in ended if r.started_s >= plan["began_s"]]
        at_once = min(self.resources.cluster.workers, len(records)) or 1
        wall_s = max(self.run_state.used_s - plan["began_s"], 1e-3)
        fit_s = sum(float(r.metrics.get("fit_s", 0.0)) for r in records)
        metrics: dict[str, Any] = {
            "trials": len(records),
            "at_once": at_once,
            "busy": round(fit_s / (at_once * wall_s), 4),
        }
        if stage.enter and not stage.repeats:
            children = [r for r in ranked(ended) if r.parent_id]
            parents = [self.table.records[r.parent_id].score for r in children]
            metrics["rank_correlation_with_stage_below"] = agreement(parents, [r.score for r in children])
        self.run_state.end_stage(metrics)
        self.console.finish()
