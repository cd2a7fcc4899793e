"""A study from start to end: Ray up, stages climbed, the best model written, on time."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray.tune.search import Searcher

from search import cluster
from search.best import Winner, fair_shares, write_best
from search.board import Board
from search.budget import Budget, Deadlines, Shares, plan_deadlines
from search.config import TrialConfig
from search.folder import claim
from search.ladder import Stage, default_ladder, promote, rank_correlation, ranked
from search.limits import Closing, affordable, affordable_images, explore_cap_s
from search.records import TrialRecord, TrialTable, provenance, write_json
from search.searcher import Climb, Queue, StudySearch
from search.space import SpaceLimits, batch_sizes, first_points, suggest
from search.speed import remote_speed, training_speed
from search.supply import Supply
from search.terminal import View, describe
from search.trainable import StageContext, load_state, new_entry
from search.tuner import Recorder, climb

PACK_FIRST = 0.05  # part of the budget in which images are packed before anything else starts
CLOSING_S = 4.0  # kept for ending Ray after the last measurement
MOST_MEASURED = 2000  # images of each part that the final model is measured on


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user stopped the run; everything so far is saved."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for; see `python search/run.py --help`."""

    budget: Budget
    out: Path
    seed: int
    began: float
    shares: Shares = field(default_factory=Shares)


class NoModelError(RuntimeError):
    """No trial ended with a model; the message says where the reasons are."""


class Study:
    """One run: its folder, its clock, its records."""

    def __init__(self, options: Options, supply: Supply, view: View, starting: Future[cluster.Cluster]) -> None:
        self.options, self.supply, self.view, self.starting = options, supply, view, starting
        self.ladder, self.budget = default_ladder(), options.budget
        self.table = TrialTable(options.out)
        self.recorder = Recorder(self.table, Board(options.out / "tensorboard"), options.began, view.notify)
        self.notes: dict[str, Any] = {"state": "running", **provenance(), "stages": []}
        self.interrupted = self.climbing = False
        self.cluster: cluster.Cluster
        self.deadlines: Deadlines | None = None

    def run(self) -> dict[str, Any]:
        """Climb the ladder; return the content of best/metrics.json.

        Raises:
            Interrupted: `interrupted` was set by a signal.
        """
        self._listen()
        try:
            self._start()
            self.climbing = True
            climb(
                Climb(self._stages()),
                self.recorder,
                folder=self.options.out / "ray",
                epochs=self.ladder[0].epochs,
                workers=self.cluster.workers,
                resources=self.cluster.resources,
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
        wall = self.budget.wall_s
        self.supply.pack_all(self.ladder[0].px, deadline=wall and self.options.began + PACK_FIRST * wall)
        self.speed = training_speed(1, "cuda" if torch.cuda.is_available() else "cpu")
        self.cluster = self.starting.result()
        self._listen()  # Ray has put its own handlers in place
        if not self.cluster.local:
            self.speed = remote_speed(self.cluster.resources)
        self.budget = self.options.budget.on(self.cluster.devices)
        claim(self.options.out)
        self.view.say(f"run folder {self.options.out}")
        if self.cluster.dashboard:
            self.view.say(
                f"Ray dashboard {self.cluster.dashboard} while it runs; `ray get-auth-token` prints its token"
            )
        self._plan()

    def _stages(self) -> Iterator[Searcher]:
        """Yield the searcher of each stage in turn; what lies between two yields happens between two stages."""
        below: list[TrialRecord] = []
        for stage in self.ladder:
            entrants = promote(below, stage, seed=self.options.seed) if stage.enter else []
            if self.interrupted or (stage.enter and not entrants):
                continue
            context = self._context(stage, trials=len(entrants) or self.cluster.workers)
            begin = self._begin(context, len(entrants))
            yield self._queue(context, entrants) if entrants else self._searcher(context)
            ended = self.table.of_stage(stage.name)
            self._finish(context, ended, wall_s=time.time() - begin)
            below = ended if ranked(ended) else below

    def _plan(self) -> None:
        options = self.options
        if self.budget.wall_s is not None:
            self.deadlines = plan_deadlines(start=options.began, wall_s=self.budget.wall_s, shares=options.shares)
        self.notes |= {
            "budget": self.budget.text,
            "seed": options.seed,
            "data": {
                "folder": str(self.supply.dataset.root),
                "fingerprint": self.supply.dataset.fingerprint,
                **self.supply.sizes(),
            },
            "cluster": {"cpus": self.cluster.cpus, "gpus": self.cluster.gpus},
            "startup_s": round(time.time() - options.began, 2),
        }
        self._write_notes()

    def _context(self, stage: Stage, *, trials: int) -> StageContext:
        """Return a stage's data, packed within a quarter of its time, and what each of its trials may use."""
        workers, cap, deadline, until = self.cluster.workers, None, None, None
        if self.deadlines is not None:
            deadline = self.deadlines.of(stage.name)
            left = deadline - time.time()
            until = time.time() + left / 4
            cap = left / -(-trials // workers) if stage.enter else explore_cap_s(left, workers)
        most = None if stage.enter else affordable_images(cap, self.speed)
        return StageContext(
            stage=stage,
            data=self.supply.for_stage(stage, most=most, deadline=until),
            deadline=deadline,
            cap_s=cap,
            threads=self.cluster.threads(trials),
            device="cuda" if self.cluster.gpus else "cpu",
            devices=self.cluster.devices_each(trials),
        )

    def _queue(self, context: StageContext, entrants: list[TrialRecord]) -> Queue:
        checkpoints = self.recorder.checkpoints
        return Queue(
            [
                new_entry(
                    context,
                    i,
                    TrialConfig.from_flat(parent.config).to_dict(),
                    seed=self.options.seed,
                    parent_id=parent.trial_id,
                    parent=checkpoints[parent.trial_id],
                )
                for i, parent in enumerate(entrants, start=1)
            ]
        )

    def _searcher(self, context: StageContext) -> StudySearch:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        limits = SpaceLimits(batch_sizes=batch_sizes(len(context.data.train)))
        fits = affordable(context.stage.px, context.cap_s, len(context.data.train), self.speed)
        latest = None if context.deadline is None else context.deadline - max(2.0, (context.cap_s or 0) / 4)
        return StudySearch(
            partial(suggest, limits=limits),
            context,
            closed=Closing(self.budget.trials, latest),
            fits=fits,
            storage=JournalStorage(JournalFileBackend(str(self.options.out / "study.journal"))),
            points=first_points(limits, fits),
            seed=self.options.seed,
        )

    def _begin(self, context: StageContext, entrants: int) -> float:
        """Announce a stage; return the moment it began."""
        who = f"{entrants} promoted" if entrants else f"search with {self.cluster.workers} workers"
        what = f"{who}, {len(context.data.train):,} images of {context.stage.px} px"
        end = self.options.began + (self.budget.wall_s or 0)
        self.view.begin(context.stage.name, what, context.deadline or 0, end)
        return time.time()

    def _finish(self, context: StageContext, records: list[TrialRecord], *, wall_s: float) -> None:
        """Record what a stage did, how busy its workers were and whether the stage below foretold it."""
        stage, data = context.stage, context.data
        at_once = min(self.cluster.workers, len(records)) or 1
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
        wall = self.budget.wall_s
        limit = None if wall is None else self.options.began + wall - CLOSING_S
        sizes = {name: size for name, size in supply.sizes().items() if size and name != "train"}
        packs = {}
        for name, until in zip(sizes, fair_shares(limit and (time.time() + limit) / 2, len(sizes)), strict=True):
            packs[name] = supply.pack(name, px, count=MOST_MEASURED, deadline=until)
        metrics = write_best(winner, self.options.out / "best", packs, sizes=sizes, deadline=limit)
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
