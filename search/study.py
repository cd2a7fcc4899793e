"""A study from start to end: Ray up, stages climbed, the best model written, on time; and taken up again."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray.tune.search import Searcher

from search import cluster
from search.board import Board
from search.budget import Budget, Deadlines, Shares, plan_deadlines
from search.closing import best_trial, write_model
from search.config import TrialConfig
from search.folder import claim
from search.ladder import Stage, default_ladder, promote, rank_correlation, ranked
from search.notes import Notes, first_notes
from search.records import TrialRecord, TrialTable, read_lines
from search.searcher import Climb, Queue
from search.space import LR_RANGES
from search.speed import training_speed
from search.stages import LrRanges, Means, centred_rates, promoted, searched, stage_context, stated, unfinished
from search.supply import Supply
from search.terminal import View, describe
from search.trainable import StageContext, load_state
from search.tuner import LadderScheduler, Recorder, climb, outcome, saved_checkpoints

PACK_FIRST = 0.05  # part of the budget in which images are packed before anything else starts
CLOSING_S = 4.0  # kept for ending Ray after the last measurement


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user stopped the run; everything so far is saved."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for; see `python search/run.py --help`.

    Attributes:
        budget: What may be spent, by all processes that work on the run.
        out: The run folder.
        seed: Of split, search and trials.
        began: When the run began, seconds since the epoch; later by the time it lay still.
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
    """One run: its folder, its clock, its records.

    Args:
        options: What is asked for.
        supply: Its images.
        view: What the user sees.
        starting: Ray, on its way up.
        notes: Of a run that is taken up again; None for a new one.
    """

    def __init__(
        self,
        options: Options,
        supply: Supply,
        view: View,
        starting: Future[cluster.Cluster],
        notes: Notes | None = None,
    ) -> None:
        self.options, self.supply, self.view, self.starting = options, supply, view, starting
        self.ladder, self.goes_on = default_ladder(refine=options.refine), notes is not None
        self.notes = notes or first_notes(options.out, asked(options, supply), began=options.began)
        self.table = TrialTable.load(options.out) if self.goes_on else TrialTable(options.out)
        self.recorder = Recorder(self.table, Board(options.out / "tensorboard"), self.notes, view.notify)
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
                self._scheduler(),
                self.recorder,
                folder=self.options.out / "ray" / str(self.notes.processes),
                workers=self.means.cluster.workers,
                resources=self.means.cluster.resources,
            )
            self.climbing = False
            if self.interrupted:
                raise Interrupted
            return self._wrap_up()
        except BaseException as error:
            self.notes.end("stopped" if isinstance(error, Interrupted) else "failed")
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
        self.supply.pack_all(self.ladder[0].px, deadline=wall and time.time() + PACK_FIRST * wall)
        speed = training_speed(1, "cuda" if torch.cuda.is_available() else "cpu")
        ray = self.starting.result()
        self._listen()  # Ray has put its own handlers in place
        if not ray.local:
            speed = ray.call(training_speed, 1, "cuda" if ray.gpus else "cpu")
        budget = options.budget.on(ray.devices)
        if self.goes_on:
            self._take_up()
        else:
            self.claimed = claim(options.out)
        self.view.say(f"run folder {options.out}")
        if ray.dashboard:
            self.view.say(f"Ray dashboard {ray.dashboard} while it runs; `ray get-auth-token` prints its token")
        self.means = Means(
            supply=self.supply,
            cluster=ray,
            speed=speed,
            budget=budget,
            deadlines=self._deadlines(budget),
            seed=options.seed,
        )
        self._note_start()

    def _take_up(self) -> None:
        """Put records, checkpoints and the yardstick of the score where the processes before left them."""
        for record in [r for r in self.table.records.values() if not r.status and r.figures.get("last")]:
            self.table.finish(record.trial_id, *outcome(record.figures, record.figures))
        whole = {r.trial_id for r in self.table.records.values() if r.status != "failed"}
        running = {i: r.figures.get("epochs", 0) for i, r in self.table.records.items() if not r.status}
        saved = saved_checkpoints(self.options.out / "ray", running)
        self.recorder.checkpoints = {trial_id: saved[trial_id] for trial_id in whole & saved.keys()}
        states = {trial_id: load_state(saved.get(trial_id)) for trial_id in running}
        self.table.rewind({trial_id: state["epoch"] if state else 0 for trial_id, state in states.items()})
        if self.notes.content["stages"]:
            self.supply.for_stage(self.ladder[0], most=self.notes.content["stages"][0]["train_images"])
        ended = sum(bool(record.status) for record in self.table.records.values())
        self.view.say(f"goes on after {ended} trials and {self.notes.used_s:.0f}s, {len(states)} of them unfinished")

    def _deadlines(self, budget: Budget) -> Deadlines | None:
        """Return when the stages end: as first planned, unless the run is new or was given more."""
        if budget.wall_s is None:
            return None
        began, planned = self.notes.began, self.notes.content.get("deadlines")
        if planned is not None:
            return Deadlines(**{name: began + at_s for name, at_s in planned.items()})
        deadlines = plan_deadlines(start=began, wall_s=budget.wall_s, shares=self.options.shares)
        self.notes.content["deadlines"] = {name: round(at - began, 2) for name, at in asdict(deadlines).items()}
        return deadlines

    def _scheduler(self) -> LadderScheduler:
        scheduler = LadderScheduler(self.ladder[0].epochs, self.means.cluster.workers)
        scheduler.recall(
            (line["trial_id"], line["epochs"], line["score"])
            for line in read_lines(self.options.out / "reports.jsonl")
            if line["stage"] == self.ladder[0].name
        )
        return scheduler

    def _stages(self) -> Iterator[Searcher]:
        """Yield the searcher of each stage in turn; what lies between two yields happens between two stages."""
        below: list[TrialRecord] = []
        for stage in self.ladder:
            if not self.notes.is_closed(stage.name):
                entrants = self._entrants(stage, below)
                if self.interrupted or (stage.enter and not entrants):
                    continue
                trials = len(entrants or self.options.configs) or None
                context = stage_context(self.means, stage, trials=trials, settled=self.notes.settled(stage.name))
                self._begin(context, entrants)
                yield self._searcher(context, entrants)
                self._finish(context)
            ended = self.table.of_stage(stage.name)
            below = ended if ranked(ended) else below

    def _entrants(self, stage: Stage, below: list[TrialRecord]) -> list[TrialRecord]:
        """Return who goes up: those that went up when the stage began, or the best that have not been there yet."""
        if self.notes.open_stage is not None:
            return [self.table.records[trial_id] for trial_id in self.notes.open_stage["entrants"]]
        taken = {record.parent_id for record in self.table.begun(stage.name)}
        return (
            promote([r for r in below if r.trial_id not in taken], stage, seed=self.options.seed) if stage.enter else []
        )

    def _searcher(self, context: StageContext, entrants: list[TrialRecord]) -> Searcher:
        """Return who hands out a stage's trials: those promoted, those stated, or a search; unfinished ones first."""
        begun, checkpoints, configs = (
            self.table.begun(context.stage.name),
            self.recorder.checkpoints,
            self.options.configs,
        )
        first, searching = len(begun) + 1, not (entrants or configs)
        go_on = unfinished(context, [r for r in begun if not r.status], checkpoints, racing=searching)
        if searching:
            journal, ranges = self.options.out / "study.journal", self._lr_ranges(context)
            return searched(self.means, context, journal, lr=ranges, past=begun, go_on=go_on)
        if entrants:
            there = {record.parent_id for record in begun}
            parents = [parent for parent in entrants if parent.trial_id not in there]
            return Queue(go_on + promoted(self.means, context, parents, checkpoints, first=first))
        return Queue(go_on + stated(self.means, context, configs[len(begun) :], first=first))

    def _lr_ranges(self, context: StageContext) -> LrRanges:
        """Return the space's learning rates, by optimizer; centred by range tests where the user asked for it."""
        if not self.options.find_lr:
            return LR_RANGES
        if "lr_ranges" not in self.notes.content:
            self.notes.content["lr_ranges"] = dict(centred_rates(self.means, context))
            self.notes.write()
        ranges = {name: (low, high) for name, (low, high) in self.notes.content["lr_ranges"].items()}
        for name, (low, high) in ranges.items():
            why = "as they were: too little time, or no clear fall" if (low, high) == LR_RANGES[name] else "centred"
            self.view.say(f"  learning rates of {name}: {low:.1e} to {high:.1e}, {why}")
        return ranges

    def _note_start(self) -> None:
        supply, means = self.supply, self.means
        facts = {"folder": str(supply.dataset.root), "fingerprint": supply.dataset.fingerprint, "split": supply.split}
        self.notes.content |= {
            "budget": means.budget.text,
            "seed": means.seed,
            "data": facts | supply.sizes(),
            "cluster": {"cpus": means.cluster.cpus, "gpus": means.cluster.gpus},
        }
        self.notes.content.setdefault("startup_s", round(self.notes.used_s, 2))
        self.notes.write()

    def _begin(self, context: StageContext, entrants: list[TrialRecord]) -> None:
        """Note and announce a stage."""
        stage, data, configs = context.stage, context.data, self.options.configs
        plan = {"px": stage.px, "train_images": len(data.train), "val_images": len(data.val), "cap_s": context.cap_s}
        self.notes.begin_stage(stage.name, plan | {"entrants": [record.trial_id for record in entrants]})
        search = f"{len(configs)} stated" if configs else f"search with {self.means.cluster.workers} workers"
        who = f"{len(entrants)} promoted" if entrants else search
        end = self.notes.began + (self.means.budget.wall_s or 0)
        what = f"{who}, {len(data.train):,} images of {stage.px} px"
        self.view.begin(stage.name, what, context.deadline or 0, end)

    def _finish(self, context: StageContext) -> None:
        """Note what a stage did, how busy its workers were and whether the stage below foretold it."""
        plan = self.notes.open_stage
        assert plan is not None
        records = [r for r in self.table.of_stage(context.stage.name) if r.started_s >= plan["began_s"]]
        at_once = min(self.means.cluster.workers, len(records)) or 1
        wall_s = max(self.notes.used_s - plan["began_s"], 1e-3)
        fit_s = sum(float(r.figures.get("fit_s", 0.0)) for r in records)
        children = [r for r in self.table.of_stage(context.stage.name) if r.parent_id]
        parents = [self.table.records[r.parent_id].score for r in children]
        self.notes.end_stage(
            {
                "trials": len(records),
                "at_once": at_once,
                "threads": context.threads,
                "busy": round(fit_s / (at_once * wall_s), 4),
                "rank_correlation_with_stage_below": rank_correlation(parents, [r.score for r in children]),
            }
        )
        self.view.finish()

    def _wrap_up(self) -> dict[str, Any]:
        """Write best/ from the best trial of the highest stage that has one, and close the records."""
        record = best_trial(self.ladder, self.table, self.recorder.checkpoints)
        if record is None:
            raise NoModelError(f"no trial ended with a model; {self.options.out / 'trials.csv'} gives the reasons")
        wall = self.means.budget.wall_s
        limit = None if wall is None else self.notes.began + wall - CLOSING_S
        checkpoint = self.recorder.checkpoints[record.trial_id]
        metrics = write_model(record, checkpoint, self.supply, self.options.out / "best", deadline=limit)
        self.notes.content["best"] = record.trial_id
        self.notes.end("done")
        self.view.say(f"[bold green]best[/]  {describe(record)}")
        if metrics["note"]:
            self.view.say(metrics["note"])
        return metrics


def asked(options: Options, supply: Supply) -> dict[str, Any]:
    """Return what a run that is taken up again must be told, as plain values."""
    return {
        "budget": asdict(options.budget),
        "data": str(supply.dataset.root.resolve()),
        "split": supply.split,
        "seed": options.seed,
        "configs": [config.to_dict() for config in options.configs],
        "refine": options.refine,
        "find_lr": options.find_lr,
    }
