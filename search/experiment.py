"""A study from start to end: Ray up, stages climbed, the best model written, on time; and taken up again."""

import json
import os
import shutil
import signal
import time
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.data_module import Supply
from models.config import ConfigError
from search.budget.budget import Budget, Deadlines, plan_deadlines
from search.budget.constraints import Constraints
from search.config.trial import TrialConfig
from search.output.model_card import write_card
from search.output.model_folder import fair_shares
from search.output.selection import best_group, models_front, over_seeds, write_model
from search.records.console import View, dashboards, describe
from search.records.prometheus import Gauges
from search.records.run_dir import claim
from search.records.run_state import Notes, first_notes
from search.records.tensorboard import TensorBoard
from search.records.trials import TrialRecord, TrialTable, now, read_lines, write_json
from search.study.dashboard import Promotions
from search.training.throughput import training_speed
from search.tuning import cluster
from search.tuning.checkpoints import Shelf, saved_checkpoints
from search.tuning.ray_tune import LadderScheduler, Recorder, climb
from search.tuning.searchers import Climb
from search.tuning.stage_runner import Ascent
from search.tuning.stage_setup import Means
from search.tuning.stages import ladder
from search.tuning.trainable import load_state, outcome

PACK_FIRST = 0.05  # part of the budget in which images are packed before anything else starts
FRONT_SHARE = 0.15  # of the time for measuring models, in which the latencies of the front are taken
CLOSING_S = 4.0  # kept for ending Ray after the last measurement
REPORT_S, REPORT_TRIAL_S = 3.0, 0.01  # kept for the report behind that, and more of it for each trial


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
        constraints: What a network may cost.
        keep: How many of the front are kept as models, beside the best.
        sampler: Who chooses the search's configurations.
        ladder: Name of the ladder.
    """

    budget: Budget
    out: Path
    seed: int
    began: float
    configs: tuple[TrialConfig, ...] = ()
    refine: bool = True
    find_lr: bool = False
    constraints: Constraints = field(default_factory=Constraints)
    keep: int = 0
    sampler: str = "tpe"
    ladder: str = "climb"


class NoModelError(RuntimeError):
    """No trial ended with a model; the message says where the reasons are."""


class Study:
    """One run: its folder, its clock, its records.

    Args:
        options: What is asked for.
        supply: Its images.
        view: What the user sees.
        starting: Ray, on its way up.
        past: Notes and records of a run that is taken up again; None for a new one.
    """

    def __init__(
        self,
        options: Options,
        supply: Supply,
        view: View,
        starting: Future[cluster.Cluster],
        past: tuple[Notes, TrialTable] | None = None,
    ) -> None:
        self.options, self.supply, self.view, self.starting = options, supply, view, starting
        supply.show = view.working
        self.ladder, self.goes_on = ladder(options.ladder, refine=options.refine), past is not None
        self.notes, self.table = past or (
            first_notes(options.out, asked(options, supply), began=options.began),
            TrialTable(options.out),
        )
        self.shelf = Shelf(seed=options.seed)
        self.gauges = Gauges(options.out.name, self.table, self._spent)
        self.promotions = Promotions(options.out, self.table)
        boards = (TensorBoard(options.out / "tensorboard"), self.promotions)
        self.recorder = Recorder(self.table, boards, self.notes, self.shelf, view.notify)
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
            searcher = Climb(self._ascent().stages())  # opens the first stage, before Ray Tune listens to signals
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
            self.gauges.stop()
            wait([self.starting])
            cluster.stop()

    def _spent(self) -> float:
        """Return the part of the budget that is spent; asked by another thread than the one that adds records."""
        trials = sum(record.stage == self.ladder[0].name for record in list(self.table.records.values()))
        return self.means.budget.spent(used_s=self.notes.used_s, trials=trials)

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
        options = self.options
        budget = options.budget if options.budget.device_s is None else self._budget(self.starting.result())
        wall = budget.wall_s
        self.supply.pack_all(self.ladder[0].px, deadline=wall and time.time() + PACK_FIRST * wall)
        if left_out := self.supply.what_was_left_out():
            self.view.say(f"left out: {left_out}", style="yellow")
        ray = self.starting.result()
        self._listen()  # Ray has put its own handlers in place
        device = "cuda" if ray.gpus else "cpu"
        speed = training_speed(1, device) if ray.local else ray.call(training_speed, 1, device)
        self.notes.devices = {"cpu": ray.cpus, "gpu": ray.gpus}
        if self.goes_on:
            self._take_up()
        else:
            self.claimed = claim(options.out)
        self.view.say(f"run folder {options.out}")
        for line in dashboards(options.out, searches=not options.configs, ray=ray.dashboard):
            self.view.say(line)
        self.means = Means(
            supply=self.supply,
            cluster=ray,
            speed=speed,
            budget=budget,
            deadlines=self._deadlines(budget),
            seed=options.seed,
            constraints=options.constraints,
            sampler=options.sampler,
        )
        self._note_start()
        self.gauges.start()

    def _budget(self, ray: cluster.Cluster) -> Budget:
        """Return a budget of device hours as wall time: what is left of them, over the devices there are."""
        devices, notes = {"cpu": ray.cpus, "gpu": ray.gpus}, self.notes
        return self.options.budget.on(devices=devices, used_s=notes.earlier_s, used=notes.earlier_device_s)

    def _take_up(self) -> None:
        """Put records, checkpoints and the yardstick of the score where the processes before left them."""
        for record in [r for r in self.table.records.values() if not r.status and r.figures.get("last")]:
            self.table.finish(record.trial_id, *outcome(record.figures, record.figures))
        self._drop_unreadable()
        running = {i: r.figures.get("epochs", 0) for i, r in self.table.records.items() if not r.status}
        saved = saved_checkpoints(self.options.out / "ray", running)
        for trial_id, checkpoint in saved.items():
            if self.table.records[trial_id].status != "failed":
                self.shelf.put(trial_id, checkpoint)
        for stage in self.ladder:
            self.shelf.sweep(self.table.of_stage(stage.name))
        self.shelf.clear_beside(self.options.out / "ray")
        states = {trial_id: load_state(saved.get(trial_id)) for trial_id in running}
        self.table.rewind({trial_id: state["epoch"] if state else 0 for trial_id, state in states.items()})
        if self.notes.content["stages"]:
            first = self.notes.content["stages"][0]
            self.supply.first = self.supply.for_sizes(first["px"], first["train_images"], first["val_images"])
        ended = sum(bool(record.status) for record in self.table.records.values())
        self.view.say(f"goes on after {ended} trials and {self.notes.used_s:.0f}s, {len(states)} of them unfinished")

    def _drop_unreadable(self) -> None:
        """Close unfinished trials whose configuration this version does not know; nothing goes on from the others."""
        for record in [r for r in self.table.records.values() if r.status != "failed"]:
            try:
                TrialConfig.from_flat(record.config)
            except ConfigError as error:
                self.view.say(f"  {record.trial_id} is left out: {error}")
                self.table.finish(record.trial_id, "failed", f"not known to this version: {error}")

    def _deadlines(self, budget: Budget) -> Deadlines | None:
        """Return when the stages end: as first planned, unless the run is new or has another budget now."""
        if budget.wall_s is None:
            return None
        began, planned = self.notes.began, self.notes.content.get("deadlines")
        if planned is not None and abs(planned["end"] - budget.wall_s) < 1:
            return Deadlines.after(began, planned)
        shares = {stage.name: stage.share for stage in self.ladder}
        deadlines = plan_deadlines(start=began, wall_s=budget.wall_s, shares=shares)
        self.notes.content["deadlines"] = deadlines.since(began)
        return deadlines

    def _ascent(self) -> Ascent:
        options = self.options
        return Ascent(
            self.ladder,
            self.means,
            folder=options.out,
            configs=options.configs,
            find_lr=options.find_lr,
            notes=self.notes,
            table=self.table,
            shelf=self.shelf,
            view=self.view,
            stopped=lambda: self.interrupted,
        )

    def _scheduler(self) -> LadderScheduler:
        scheduler = LadderScheduler(self.ladder[0].epochs, self.means.cluster.workers)
        scheduler.recall(
            (line["trial_id"], line["epochs"], line["score"])
            for line in read_lines(self.options.out / "reports.jsonl")
            if line["stage"] == self.ladder[0].name
        )
        return scheduler

    def _note_start(self) -> None:
        means = self.means
        self.notes.content |= {
            "budget": means.budget.text,
            "seed": means.seed,
            "data": self.supply.facts(),
            "cluster": {"cpus": means.cluster.cpus, "gpus": means.cluster.gpus},
        }
        self.notes.content.setdefault("startup_s", round(self.notes.used_s, 2))
        self.notes.write()
        self.notes.start_clock()

    def _wrap_up(self) -> dict[str, Any]:
        """Write best/ from the best trial of the highest stage that has one, the front, and close the records."""
        group, out = best_group(self.ladder, self.table, self.shelf), self.options.out
        if not group:
            raise NoModelError(f"no trial ended with a model; {out / 'trials.csv'} gives the reasons")
        wall = self.means.budget.wall_s
        closing_s = CLOSING_S + REPORT_S + REPORT_TRIAL_S * len(self.table.records)
        limit = None if wall is None else self.notes.began + wall - closing_s
        more = {"seeds": over_seeds(group)} if len(group) > 1 else {}
        until = None if limit is None else limit - FRONT_SHARE * (limit - time.time())
        metrics = self._write_best(group[0], more, next(fair_shares(until, 1 + self.options.keep)))
        self.notes.content.pop("seeds", None)  # of an earlier round's best
        self.notes.content |= {"best": group[0].trial_id, **more}
        self.notes.content["data"] = self.supply.facts()  # larger stages have looked at more
        self.notes.content["front"] = self._write_front(group[0], limit)
        self.notes.end("done")
        self._say_best(describe(group[0]), metrics)
        return metrics

    def _write_best(self, record: TrialRecord, more: dict[str, Any], deadline: float | None) -> dict[str, Any]:
        """Write best/, and note that the test part is read; not again where the best is what it was."""
        folder = self.options.out / "best"
        if self.notes.content.get("best") == record.trial_id and (folder / "metrics.json").exists():
            metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            write_json(folder / "metrics.json", metrics | more)
            write_card(folder)
            return metrics | more
        reading: dict[str, Any] = {"time": now(), "trial_id": record.trial_id}
        if self.supply.sizes()["test"]:
            self.notes.content.setdefault("test_read", []).append(reading)
            self.notes.write()
        metrics = write_model(record, self.shelf[record.trial_id], self.supply, folder, more=more, deadline=deadline)
        self.promotions.show(folder / "samples.png")
        reading["images"] = metrics.get("test", {}).get("images", 0)
        return metrics

    def _write_front(self, best: TrialRecord, limit: float | None) -> list[dict[str, Any]]:
        """Return the front; write the models of it that are to be kept, instead of those of a round before."""
        found, out = models_front(self.ladder, self.table, self.shelf, deadline=limit), self.options.out / "front"
        shutil.rmtree(out, ignore_errors=True)
        kept = [line["trial_id"] for line in found if line["trial_id"] != best.trial_id][: self.options.keep]
        for trial_id, until in zip(kept, fair_shares(limit, len(kept)), strict=True):
            record, checkpoint = self.table.records[trial_id], self.shelf[trial_id]
            write_model(record, checkpoint, self.supply, out / trial_id, parts=("val",), deadline=until)
        return found

    def _say_best(self, best: str, metrics: dict[str, Any]) -> None:
        self.view.say(f"  {best}", lead="best", style="bold green")
        if "seeds" in metrics:
            seeds = metrics["seeds"]
            spread = f"{seeds['mean']:.3f}, 95 % interval {seeds['low']:.3f} to {seeds['high']:.3f}"
            self.view.say(f"  over {len(seeds['scores'])} seeds: mean score {spread}")
        if metrics["note"]:
            self.view.say(metrics["note"])


def asked(options: Options, supply: Supply) -> dict[str, Any]:
    """Return what a run that is taken up again must be told, as plain values."""
    return {
        "budget": asdict(options.budget),
        "split": supply.split,
        "seed": options.seed,
        "configs": [config.to_dict() for config in options.configs],
        "refine": options.refine,
        "find_lr": options.find_lr,
        "constraints": options.constraints.to_dict(),
        "keep": options.keep,
        "sampler": options.sampler,
        "ladder": options.ladder,
    }
