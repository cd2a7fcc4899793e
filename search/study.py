"""A study from start to end: Ray up, stages climbed, the best model written, on time."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray.tune.search import Searcher

from search import cluster
from search.best import Winner, fair_shares, write_best
from search.board import Board
from search.budget import Budget, Shares, plan_deadlines
from search.config import TrialConfig
from search.folder import claim
from search.ladder import default_ladder, promote, rank_correlation, ranked
from search.records import TrialRecord, TrialTable, provenance, write_json
from search.searcher import Climb
from search.space import LR_RANGES
from search.speed import training_speed
from search.stages import LrRanges, Means, centred_rates, promoted, searched, stage_context, stated
from search.supply import Supply
from search.terminal import View, describe
from search.trainable import StageContext, load_state
from search.tuner import Recorder, climb

PACK_FIRST = 0.05  # part of the budget in which images are packed before anything else starts
CLOSING_S = 4.0  # kept for ending Ray after the last measurement
MOST_MEASURED = 2000  # images of each part that the final model is measured on


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user stopped the run; everything so far is saved."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for; see `python search/run.py --help`.

    Attributes:
        budget: What may be spent.
        out: The run folder.
        seed: Of split, search and trials.
        began: When the user pressed Enter, seconds since the epoch.
        configs: Stated configurations that take the place of the search; empty to search.
        refine: Whether the last part of the ladder favours the mask, without augmentation.
        find_lr: Whether range tests centre the search's learning rates.
        shares: Parts of the time that the stages get.
    """

    budget: Budget
    out: Path
    seed: int
    began: float
    configs: tuple[TrialConfig, ...] = ()
    refine: bool = True
    find_lr: bool = False
    shares: Shares = field(default_factory=Shares)


class NoModelError(RuntimeError):
    """No trial ended with a model; the message says where the reasons are."""


class Study:
    """One run: its folder, its clock, its records."""

    def __init__(self, options: Options, supply: Supply, view: View, starting: Future[cluster.Cluster]) -> None:
        self.options, self.supply, self.view, self.starting = options, supply, view, starting
        self.ladder = default_ladder(refine=options.refine)
        self.table = TrialTable(options.out)
        self.recorder = Recorder(self.table, Board(options.out / "tensorboard"), options.began, view.notify)
        self.notes: dict[str, Any] = {"state": "running", **provenance(), "stages": []}
        self.interrupted = self.climbing = False
        self.means: Means

    def run(self) -> dict[str, Any]:
        """Climb the ladder; return the content of best/metrics.json.

        Raises:
            Interrupted: `interrupted` was set by a signal.
        """
        self._listen()
        try:
            self._start()
            searcher = Climb(self._stages())  # opens the first stage, before Ray Tune listens to signals
            self.climbing = True
            climb(
                searcher,
                self.recorder,
                folder=self.options.out / "ray",
                epochs=self.ladder[0].epochs,
                workers=self.means.cluster.workers,
                resources=self.means.cluster.resources,
            )
            self.climbing = False
            if self.interrupted:
                raise Interrupted
            return self._wrap_up()
        except BaseException as error:
            self._note_state("stopped" if isinstance(error, Interrupted) else "failed")
            raise
        finally:
            wait([self.starting])
            cluster.stop()

    def _listen(self) -> None:
        """End in order when the user or the system asks for it."""
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: self.interrupt())
        # Until Ray Tune listens to it, the signal that ends a run must not end the process.
        signal.signal(signal.SIGUSR1, lambda *_: None)

    def interrupt(self) -> None:
        """Stop as soon as Ray Tune has saved its state; called by a signal handler."""
        if self.interrupted or not self.climbing:
            raise Interrupted
        self.interrupted = True
        os.kill(os.getpid(), signal.SIGUSR1)  # Ray Tune's own way to end a run with everything saved

    def _start(self) -> None:
        """Pack the data and measure the machine while Ray starts; only then claim the run folder."""
        options, wall = self.options, self.options.budget.wall_s
        self.supply.pack_all(self.ladder[0].px, deadline=wall and options.began + PACK_FIRST * wall)
        speed = training_speed(1, "cuda" if torch.cuda.is_available() else "cpu")
        ray = self.starting.result()
        self._listen()  # Ray has put its own handlers in place
        if not ray.local:
            speed = ray.call(training_speed, 1, "cuda" if ray.gpus else "cpu")
        budget = options.budget.on(ray.devices)
        claim(options.out)
        self.view.say(f"run folder {options.out}")
        if ray.dashboard:
            self.view.say(f"Ray dashboard {ray.dashboard} while it runs; `ray get-auth-token` prints its token")
        deadlines = None
        if budget.wall_s is not None:
            deadlines = plan_deadlines(start=options.began, wall_s=budget.wall_s, shares=options.shares)
        self.means = Means(
            supply=self.supply, cluster=ray, speed=speed, budget=budget, deadlines=deadlines, seed=options.seed
        )
        self._note_start()

    def _stages(self) -> Iterator[Searcher]:
        """Yield the searcher of each stage in turn; what lies between two yields happens between two stages."""
        below: list[TrialRecord] = []
        for stage in self.ladder:
            entrants = promote(below, stage, seed=self.options.seed) if stage.enter else []
            if self.interrupted or (stage.enter and not entrants):
                continue
            context = stage_context(self.means, stage, trials=len(entrants or self.options.configs) or None)
            begin = self._begin(context, len(entrants))
            yield self._searcher(context, entrants)
            ended = self.table.of_stage(stage.name)
            self._finish(context, ended, wall_s=time.time() - begin)
            below = ended if ranked(ended) else below

    def _note_start(self) -> None:
        supply, means = self.supply, self.means
        self.notes |= {
            "budget": means.budget.text,
            "seed": means.seed,
            "data": {
                "folder": str(supply.dataset.root),
                "fingerprint": supply.dataset.fingerprint,
                "split": supply.split,
                **supply.sizes(),
            },
            "cluster": {"cpus": means.cluster.cpus, "gpus": means.cluster.gpus},
            "startup_s": round(time.time() - self.options.began, 2),
        }
        self._write_notes()

    def _searcher(self, context: StageContext, entrants: list[TrialRecord]) -> Searcher:
        """Return who hands out a stage's trials: those promoted, those stated, or a search."""
        if entrants:
            return promoted(self.means, context, entrants, self.recorder.checkpoints)
        if self.options.configs:
            return stated(self.means, context, self.options.configs)
        return searched(self.means, context, self.options.out / "study.journal", lr=self._lr_ranges(context))

    def _lr_ranges(self, context: StageContext) -> LrRanges:
        """Return the space's learning rates, by optimizer; centred by range tests where the user asked for it."""
        if not self.options.find_lr:
            return LR_RANGES
        ranges = centred_rates(self.means, context)
        for name, (low, high) in ranges.items():
            why = "as they were, for the loss does not clearly fall" if (low, high) == LR_RANGES[name] else "centred"
            self.view.say(f"  learning rates of {name}: {low:.1e} to {high:.1e}, {why}")
        self.notes["lr_ranges"] = dict(ranges)
        return ranges

    def _begin(self, context: StageContext, entrants: int) -> float:
        """Announce a stage; return the moment it began."""
        stated_ones = f"{len(self.options.configs)} stated"
        search = stated_ones if self.options.configs else f"search with {self.means.cluster.workers} workers"
        who = f"{entrants} promoted" if entrants else search
        what = f"{who}, {len(context.data.train):,} images of {context.stage.px} px"
        end = self.options.began + (self.means.budget.wall_s or 0)
        self.view.begin(context.stage.name, what, context.deadline or 0, end)
        return time.time()

    def _finish(self, context: StageContext, records: list[TrialRecord], *, wall_s: float) -> None:
        """Record what a stage did, how busy its workers were and whether the stage below foretold it."""
        stage, data = context.stage, context.data
        at_once = min(self.means.cluster.workers, len(records)) or 1
        fit_s = sum(float(r.figures.get("fit_s", 0.0)) for r in records)
        parents = [self.table.records[r.parent_id].score for r in records if r.parent_id]
        self.notes["stages"].append(
            {
                "name": stage.name,
                "px": stage.px,
                "train_images": len(data.train),
                "val_images": len(data.val),
                "trials": len(records),
                "at_once": at_once,
                "threads": context.threads,
                "wall_s": round(wall_s, 2),
                "busy": round(fit_s / (at_once * wall_s), 4),
                "rank_correlation_with_stage_below": rank_correlation(
                    parents, [r.score for r in records if r.parent_id]
                ),
            }
        )
        self._write_notes()
        self.view.finish()

    def _wrap_up(self) -> dict[str, Any]:
        """Write best/ from the best trial of the highest stage that has one, and close the records."""
        record = self._winner()
        state = load_state(self.recorder.checkpoints[record.trial_id])
        assert state is not None
        supply, first, px = self.supply, self.supply.first, int(record.figures["px"])
        assert first is not None
        winner = Winner(
            config=TrialConfig.from_flat(record.config),
            weights=state["model"],
            stats=first.stats,
            sigma=first.sigma,
            px=px,
            trial_id=record.trial_id,
        )
        wall = self.means.budget.wall_s
        limit = None if wall is None else self.options.began + wall - CLOSING_S
        sizes = {name: size for name, size in supply.sizes().items() if size and name != "train"}
        packs = {}
        for name, until in zip(sizes, fair_shares(limit and (time.time() + limit) / 2, len(sizes)), strict=True):
            packs[name] = supply.pack(name, px, count=MOST_MEASURED, deadline=until)
        leaks = supply.split == "random"
        metrics = write_best(winner, self.options.out / "best", packs, sizes=sizes, leaks=leaks, deadline=limit)
        self.notes["best"] = record.trial_id
        self._note_state("done")
        self.view.say(f"[bold green]best[/]  {describe(record)}")
        if metrics["note"]:
            self.view.say(metrics["note"])
        return metrics

    def _winner(self) -> TrialRecord:
        for stage in reversed(self.ladder):
            for record in ranked(self.table.of_stage(stage.name)):
                if record.trial_id in self.recorder.checkpoints:
                    return record
        raise NoModelError(f"no trial ended with a model; {self.options.out / 'trials.csv'} gives the reasons")

    def _note_state(self, state: str) -> None:
        if self.options.out.is_dir():
            self.notes |= {"state": state, "wall_s": round(time.time() - self.options.began, 2)}
            self._write_notes()

    def _write_notes(self) -> None:
        write_json(self.options.out / "run.json", self.notes)
