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

from data.dataset import DataError
from search import cluster
from search.best import Winner, write_best
from search.board import Board
from search.budget import Budget, Deadlines, Shares, plan_deadlines
from search.config import TrialConfig
from search.folder import claim
from search.ladder import Stage, default_ladder, promote, rank_correlation, ranked
from search.limits import Closing, affordable, explore_cap_s
from search.records import TrialRecord, TrialTable, provenance, write_json
from search.searcher import Climb, Queue, StudySearch
from search.space import SpaceLimits, batch_sizes, first_points, suggest
from search.speed import remote_speed, training_speed
from search.supply import FitData, Supply
from search.terminal import View, describe
from search.trainable import StageContext, load_state, new_entry
from search.tuner import Recorder, climb


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


class Study:
    """One run: its folder, its clock, its records."""

    def __init__(self, options: Options, supply: Supply, view: View, starting: Future[cluster.Cluster]) -> None:
        self.options, self.supply, self.view, self.starting = options, supply, view, starting
        self.ladder = default_ladder()
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
        except (Interrupted, DataError):
            self._note_state("stopped")
            raise
        finally:
            wait([self.starting])
            cluster.stop()

    def interrupt(self) -> None:
        """Stop as soon as Ray Tune has saved its state; called by a signal handler."""
        if self.interrupted or not self.climbing:
            raise Interrupted
        self.interrupted = True
        os.kill(os.getpid(), signal.SIGUSR1)  # Ray Tune's own way to end a run with everything saved

    def _start(self) -> None:
        """Pack the data and measure the machine while Ray starts; only then claim the run folder."""
        self.supply.pack_all(self.ladder[0].px, deadline=self._patience())
        own_speed = training_speed(1, "cuda" if torch.cuda.is_available() else "cpu")
        self.cluster = self.starting.result()
        self.speed = own_speed if self.cluster.local else remote_speed(self.cluster.resources)
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
            data = self.supply.for_stage(stage, deadline=self._patience(stage.name))
            entrants = promote(below, stage, seed=self.options.seed) if stage.enter else []
            if stage.enter and not entrants:
                continue
            context = self._context(stage, data, trials=len(entrants) or self.cluster.workers)
            begin = self._begin(context, len(entrants))
            yield self._queue(context, entrants) if entrants else self._searcher(context)
            ended = self.table.of_stage(stage.name)
            self._finish(context, ended, wall_s=time.time() - begin)
            below = ended if ranked(ended) else below

    def _patience(self, stage: str = "explore") -> float | None:
        """Return until when images of a stage may be packed: a quarter of its time."""
        wall = self.options.budget.wall_s
        if wall is None:
            return None
        if self.deadlines is None:
            return self.options.began + 0.2 * wall
        return time.time() + 0.25 * (self.deadlines.of(stage) - time.time())

    def _plan(self) -> None:
        options = self.options
        budget = options.budget.on(self.cluster.devices)
        if budget.wall_s is not None:
            self.deadlines = plan_deadlines(start=options.began, wall_s=budget.wall_s, shares=options.shares)
        self.notes |= {
            "budget": budget.text,
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

    def _context(self, stage: Stage, data: FitData, *, trials: int) -> StageContext:
        deadline = self.deadlines.of(stage.name) if self.deadlines else None
        workers, cap = self.cluster.workers, None
        if deadline is not None:
            waves = -(-trials // workers)
            left = deadline - time.time()
            cap = left / waves if stage.enter else explore_cap_s(left, workers)
        return StageContext(
            stage=stage,
            data=data,
            deadline=deadline,
            cap_s=cap,
            threads=self.cluster.threads(trials),
            device="cuda" if self.cluster.gpus else "cpu",
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
            closed=Closing(self.options.budget.trials, latest),
            fits=fits,
            storage=JournalStorage(JournalFileBackend(str(self.options.out / "study.journal"))),
            points=first_points(limits, fits),
            seed=self.options.seed,
        )

    def _begin(self, context: StageContext, entrants: int) -> float:
        """Announce a stage; return the moment it began."""
        who = f"{entrants} promoted" if entrants else f"search with {self.cluster.workers} workers"
        what = f"{who}, {len(context.data.train):,} images of {context.stage.px} px"
        end = self.options.began + (self.options.budget.wall_s or 0)
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
        supply, px = self.supply, int(record.figures["px"])
        first = supply.for_stage(self.ladder[0])
        winner = Winner(
            config=TrialConfig.from_flat(record.config),
            weights=state["model"],
            stats=first.stats,
            sigma=first.sigma,
            px=px,
            trial_id=record.trial_id,
        )
        wall = self.options.budget.wall_s
        limit = None if wall is None else self.options.began + wall - 4.0
        names = [name for name, size in supply.sizes().items() if size and name != "train"]
        packs = {name: supply.pack(name, px, count=2000, deadline=limit) for name in names}
        metrics = write_best(winner, self.options.out / "best", packs, deadline=limit)
        self.notes["best"] = record.trial_id
        self._note_state("done")
        self.view.say(f"[bold green]best[/]  {describe(record)}")
        return metrics

    def _winner(self) -> TrialRecord:
        for stage in reversed(self.ladder):
            for record in ranked(self.table.of_stage(stage.name)):
                if record.trial_id in self.recorder.checkpoints:
                    return record
        raise RuntimeError("no trial of this run ended with a model; trials.csv gives the reasons")

    def _note_state(self, state: str) -> None:
        if self.options.out.is_dir():
            self.notes |= {"state": state, "wall_s": round(time.time() - self.options.began, 2)}
            self._write_notes()

    def _write_notes(self) -> None:
        write_json(self.options.out / "run.json", self.notes)
