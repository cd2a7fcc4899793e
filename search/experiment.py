"""A study from start to end: Ray up, stages climbed, the best model written, on time; and taken up again."""

import json
import os
import shutil
import signal
import time
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.data_module import DataModule
from models.config import ConfigError
from search.budget.budget import Budget, Deadlines, plan_deadlines
from search.budget.constraints import Constraints
from search.config.trial import TrialConfig
from search.output.model_card import write_card
from search.output.model_folder import fair_shares
from search.output.selection import best_group, models_front, over_seeds, write_model
from search.records.console import RunConsole, dashboards, describe
from search.records.files import read_lines, write_json
from search.records.prometheus import PrometheusExporter
from search.records.provenance import iso_time
from search.records.run_dir import claim
from search.records.run_state import RunState, new_run_state
from search.records.tensorboard import TensorBoard
from search.records.trials import TrialRecord, TrialTable
from search.study.dashboard import StageStudies
from search.training.throughput import measure_throughput
from search.tuning import cluster
from search.tuning.checkpoints import CheckpointStore, find_checkpoints
from search.tuning.ray_tune import RecordCallback, StageScheduler, run_experiment
from search.tuning.searchers import StageChain
from search.tuning.stage_runner import StageRunner
from search.tuning.stage_setup import RunResources
from search.tuning.stages import build_stages
from search.tuning.trainable import load_state, read_outcome

PACK_FIRST = 0.05  # part of the budget in which images are packed before anything else starts
FRONT_SHARE = 0.15  # of the time for measuring models, in which the latencies of the front are taken
CLOSING_S = 4.0  # kept for ending Ray after the last measurement
REPORT_S, REPORT_TRIAL_S = 3.0, 0.01  # kept for the report behind that, and more of it for each trial


class RunInterruptedError(Exception):
    """The user stopped the run; everything so far is saved."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
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
        stages: Name of the preset of stages.
    """

    budget: Budget
    out: Path
    seed: int
    began: float
    configs: tuple[TrialConfig, ...] = ()
    refine: bool = True
    find_lr: bool = False
    constraints: Constraints
    keep: int = 0
    sampler: str = "tpe"
    stages: str = "default"


class NoModelError(RuntimeError):
    """No trial ended with a model; the message says where the reasons are."""


class Experiment:
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
        options: RunOptions,
        data_module: DataModule,
        console: RunConsole,
        starting: Future[cluster.Cluster],
        past: tuple[RunState, TrialTable] | None = None,
    ) -> None:
        self.options, self.data_module, self.console, self.starting = options, data_module, console, starting
        data_module.show = console.working
        self.stages = build_stages(options.stages, refine=options.refine, fixed=bool(options.configs))
        self.goes_on = past is not None
        self.run_state, self.table = past or (
            new_run_state(options.out, asked(options, data_module), began=options.began),
            TrialTable(options.out),
        )
        self.checkpoints = CheckpointStore(seed=options.seed)
        self.prometheus = PrometheusExporter(options.out.name, self.table, self._spent)
        self.stage_studies = StageStudies(options.out, self.table)
        loggers = (TensorBoard(options.out / "tensorboard"), self.stage_studies)
        self.recorder = RecordCallback(self.table, loggers, self.run_state, self.checkpoints, console.notify)
        self.interrupted = self.tuning = False
        self.resources: RunResources

    def run(self) -> dict[str, Any]:
        """Climb the ladder; return the content of best/metrics.json.

        Raises:
            Interrupted: `interrupted` was set by a signal.
        """
        self._listen()
        try:
            self._start()
            searcher = StageChain(self._ascent().searchers())  # opens a stage before Ray Tune handles signals
            self.tuning = True
            run_experiment(
                searcher,
                self._scheduler(),
                self.recorder,
                folder=self.options.out / "ray" / str(self.run_state.processes),
                workers=self.resources.cluster.workers,
                resources=self.resources.cluster.resources,
            )
            self.tuning = False
            if self.interrupted:
                raise RunInterruptedError
            return self._wrap_up()
        except BaseException as error:
            self.run_state.end("stopped" if isinstance(error, RunInterruptedError) else "failed")
            raise
        finally:
            self.prometheus.stop()
            wait([self.starting])
            cluster.stop()

    def _spent(self) -> float:
        """Return the part of the budget that is spent; asked by another thread than the one that adds records."""
        trials = sum(record.stage == self.stages[0].name for record in list(self.table.records.values()))
        return self.resources.budget.spent(used_s=self.run_state.used_s, trials=trials)

    def _listen(self) -> None:
        """End in order when the user or the system asks for it."""
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: self.interrupt())
        # Until Ray Tune listens to it, the signal that ends a run must not end the process.
        signal.signal(signal.SIGUSR1, lambda *_: None)

    def interrupt(self) -> None:
        """Stop as soon as Ray Tune has saved its state; called by a signal handler."""
        if self.interrupted or not self.tuning:
            raise RunInterruptedError
        self.interrupted = True
        os.kill(os.getpid(), signal.SIGUSR1)  # Ray Tune's own way to end a run with everything saved

    def _start(self) -> None:
        """Pack the data and measure the machine while Ray starts; only then claim the run folder."""
        options = self.options
        budget = options.budget if options.budget.device_s is None else self._budget(self.starting.result())
        wall = budget.wall_s
        self.data_module.prepare_data(self.stages[0].px, deadline=wall and time.time() + PACK_FIRST * wall)
        if left_out := self.data_module.left_out.describe():
            self.console.say(f"left out: {left_out}", style="yellow")
        ray = self.starting.result()
        self._listen()  # Ray has put its own handlers in place
        device = "cuda" if ray.gpus else "cpu"
        speed = measure_throughput(1, device) if ray.local else ray.call(measure_throughput, 1, device)
        self.run_state.devices = {"cpu": ray.cpus, "gpu": ray.gpus}
        if self.goes_on:
            self._take_up()
        else:
            self.claimed = claim(options.out)
        self.console.say(f"run folder {options.out}")
        for line in dashboards(options.out, searches=not options.configs, ray=ray.dashboard):
            self.console.say(line)
        self.resources = RunResources(
            data_module=self.data_module,
            cluster=ray,
            speed=speed,
            budget=budget,
            deadlines=self._deadlines(budget),
            seed=options.seed,
            constraints=options.constraints,
            sampler=options.sampler,
        )
        self._note_start()
        self.prometheus.start()

    def _budget(self, ray: cluster.Cluster) -> Budget:
        """Return a budget of device hours as wall time: what is left of them, over the devices there are."""
        devices, run_state = {"cpu": ray.cpus, "gpu": ray.gpus}, self.run_state
        return self.options.budget.on(devices=devices, used_s=run_state.earlier_s, used=run_state.earlier_device_s)

    def _take_up(self) -> None:
        """Put records, checkpoints and the yardstick of the score where the processes before left them."""
        for record in [r for r in self.table.records.values() if not r.status and r.metrics.get("last")]:
            self.table.finish(record.trial_id, *read_outcome(record.metrics, record.metrics))
        self._drop_unreadable()
        running = {i: r.metrics.get("epochs", 0) for i, r in self.table.records.items() if not r.status}
        saved = find_checkpoints(self.options.out / "ray", running)
        for trial_id, checkpoint in saved.items():
            if self.table.records[trial_id].status != "failed":
                self.checkpoints.put(trial_id, checkpoint)
        for stage in self.stages:
            self.checkpoints.sweep(self.table.of_stage(stage.name))
        self.checkpoints.clear_beside(self.options.out / "ray")
        states = {trial_id: load_state(saved.get(trial_id)) for trial_id in running}
        self.table.rewind({trial_id: state["epoch"] if state else 0 for trial_id, state in states.items()})
        if self.run_state.content["stages"]:
            first = self.run_state.content["stages"][0]
            self.data_module.first = self.data_module.recorded_data(
                first["px"], first["train_images"], first["val_images"]
            )
        ended = sum(bool(record.status) for record in self.table.records.values())
        self.console.say(
            f"goes on after {ended} trials and {self.run_state.used_s:.0f}s, {len(states)} of them unfinished"
        )

    def _drop_unreadable(self) -> None:
        """Close unfinished trials whose configuration this version does not know; nothing goes on from the others."""
        for record in [r for r in self.table.records.values() if r.status != "failed"]:
            try:
                TrialConfig.from_flat(record.config)
            except ConfigError as error:
                self.console.say(f"  {record.trial_id} is left out: {error}")
                self.table.finish(record.trial_id, "failed", f"not known to this version: {error}")

    def _deadlines(self, budget: Budget) -> Deadlines | None:
        """Return when the stages end: as first planned, unless the run is new or has another budget now."""
        if budget.wall_s is None:
            return None
        began, planned = self.run_state.began, self.run_state.content.get("deadlines")
        if planned is not None and abs(planned["end"] - budget.wall_s) < 1:
            return Deadlines.after(began, planned)
        shares = {stage.name: stage.share for stage in self.stages}
        deadlines = plan_deadlines(start=began, wall_s=budget.wall_s, shares=shares)
        self.run_state.content["deadlines"] = deadlines.since(began)
        return deadlines

    def _ascent(self) -> StageRunner:
        options = self.options
        return StageRunner(
            self.stages,
            self.resources,
            folder=options.out,
            configs=options.configs,
            find_lr=options.find_lr,
            run_state=self.run_state,
            table=self.table,
            checkpoints=self.checkpoints,
            console=self.console,
            stopped=lambda: self.interrupted,
        )

    def _scheduler(self) -> StageScheduler:
        scheduler = StageScheduler(self.stages[0].epochs, self.resources.cluster.workers)
        scheduler.restore_reports(
            (line["trial_id"], line["epochs"], line["score"])
            for line in read_lines(self.options.out / "reports.jsonl")
            if line["stage"] == self.stages[0].name
        )
        return scheduler

    def _note_start(self) -> None:
        resources = self.resources
        self.run_state.content |= {
            "budget": resources.budget.text,
            "seed": resources.seed,
            "data": self.data_module.to_dict(),
            "cluster": {"cpus": resources.cluster.cpus, "gpus": resources.cluster.gpus},
        }
        self.run_state.content.setdefault("startup_s", round(self.run_state.used_s, 2))
        self.run_state.write()
        self.run_state.start_clock()

    def _wrap_up(self) -> dict[str, Any]:
        """Write best/ from the best trial of the highest stage that has one, the front, and close the records."""
        group, out = best_group(self.stages, self.table, self.checkpoints), self.options.out
        if not group:
            raise NoModelError(f"no trial ended with a model; {out / 'trials.csv'} gives the reasons")
        wall = self.resources.budget.wall_s
        closing_s = CLOSING_S + REPORT_S + REPORT_TRIAL_S * len(self.table.records)
        limit = None if wall is None else self.run_state.began + wall - closing_s
        more = {"seeds": over_seeds(group)} if len(group) > 1 else {}
        until = None if limit is None else limit - FRONT_SHARE * (limit - time.time())
        metrics = self._write_best(group[0], more, next(fair_shares(until, 1 + self.options.keep)))
        self.run_state.content.pop("seeds", None)  # of an earlier round's best
        self.run_state.content |= {"best": group[0].trial_id, **more}
        self.run_state.content["data"] = self.data_module.to_dict()  # larger stages have looked at more
        self.run_state.content["front"] = self._write_front(group[0], limit)
        self.run_state.end("done")
        self._say_best(describe(group[0]), metrics)
        return metrics

    def _write_best(self, record: TrialRecord, more: dict[str, Any], deadline: float | None) -> dict[str, Any]:
        """Write best/, and note that the test part is read; not again where the best is what it was."""
        folder = self.options.out / "best"
        if self.run_state.content.get("best") == record.trial_id and (folder / "metrics.json").exists():
            metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            write_json(folder / "metrics.json", metrics | more)
            write_card(folder)
            return metrics | more
        reading: dict[str, Any] = {"time": iso_time(), "trial_id": record.trial_id}
        if self.data_module.sizes()["test"]:
            self.run_state.content.setdefault("test_read", []).append(reading)
            self.run_state.write()
        metrics = write_model(
            record, self.checkpoints[record.trial_id], self.data_module, folder, more=more, deadline=deadline
        )
        self.stage_studies.show(folder / "samples.png")
        reading["images"] = metrics.get("test", {}).get("images", 0)
        return metrics

    def _write_front(self, best: TrialRecord, limit: float | None) -> list[dict[str, Any]]:
        """Return the front; write the models of it that are to be kept, instead of those of a round before."""
        found, out = models_front(self.stages, self.table, self.checkpoints, deadline=limit), self.options.out / "front"
        shutil.rmtree(out, ignore_errors=True)
        kept = [line["trial_id"] for line in found if line["trial_id"] != best.trial_id][: self.options.keep]
        for trial_id, until in zip(kept, fair_shares(limit, len(kept)), strict=True):
            record, checkpoint = self.table.records[trial_id], self.checkpoints[trial_id]
            write_model(record, checkpoint, self.data_module, out / trial_id, parts=("val",), deadline=until)
        return found

    def _say_best(self, best: str, metrics: dict[str, Any]) -> None:
        self.console.say(f"  {best}", lead="best", style="bold green")
        if "seeds" in metrics:
            seeds = metrics["seeds"]
            spread = f"{seeds['mean']:.3f}, 95 % interval {seeds['low']:.3f} to {seeds['high']:.3f}"
            self.console.say(f"  over {len(seeds['scores'])} seeds: mean score {spread}")
        if metrics["note"]:
            self.console.say(metrics["note"])


def asked(options: RunOptions, data_module: DataModule) -> dict[str, Any]:
    """Return what a run that is taken up again must be told, as plain values."""
    return {
        "budget": asdict(options.budget),
        "split": data_module.split,
        "seed": options.seed,
        "configs": [config.to_dict() for config in options.configs],
        "refine": options.refine,
        "find_lr": options.find_lr,
        "constraints": {name: value for name, value in asdict(options.constraints).items() if name != "px"},
        "keep": options.keep,
        "sampler": options.sampler,
        "stages": options.stages,
    }
