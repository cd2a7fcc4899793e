"""Measure what a trial costs the process of the search (the driver), from the first trial to the last.

    python -m tests.benchmarks.driver --trials 100,400,1000
    python -m tests.benchmarks.driver --past 10000 --trials 50,100     # the next trials of a search that has had 10,000
    python -m tests.benchmarks.driver --workers 1000 --epoch-s 5 --trials 1000,3000    # simulated workers

Ray Tune, searcher, scheduler, records, TensorBoard and checkpoints are those of a run; only the training is replaced: a
trial reports invented metrics and tiny weights at once. Prints for each block of trials the processor time of the
driver by part, in milliseconds a trial, and the wall time, most of which the workers and Ray's servers take. The past
trials are drawn at random and given to searcher and records without Ray. With --epoch-s the workers are simulated (see
`tests.benchmarks.simulated`), and the last column is the share of their time in which they train.
"""

import argparse
import math
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from optuna.samplers import RandomSampler
from ray.tune.execution.tune_controller import TuneController

from data.data_module import DataModule
from data.scenes.scenes import make_scenes
from models.cost import Throughput
from search.config.budget import Budget
from search.config.constraints import Constraints, Feasibility
from search.config.stages import STAGE_PRESETS, Stage
from search.records.run_dir import claim
from search.records.run_state import RunState
from search.records.tensorboard import TensorBoard
from search.records.trials import TrialRecord, TrialTable
from search.study.dashboard import StageStudies
from search.study.sampler import FeasibleTPE
from search.tuning.ray import session, trainable
from search.tuning.ray import tune as ray_tune
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.scheduler import StageScheduler
from search.tuning.ray.searchers import StageChain
from search.tuning.ray.trainable import Worker
from search.tuning.ray.tune import RecordCallback, run_experiment
from search.tuning.stage_setup import RunSetup, build_search, build_stage_context
from tests.benchmarks.simulated import SimulatedRay, describe_cluster, simulate_workers

PARTS = {
    "snapshot": [(TuneController, "checkpoint")],
    "suggestion": [(StageChain, "suggest"), (StageChain, "prepare")],
    "limits": [(Feasibility, "compute_excess")],
    "outcome": [(StageChain, "on_trial_result"), (StageChain, "on_trial_complete")],
    "scheduler": [(StageScheduler, "on_trial_result"), (StageScheduler, "on_trial_complete")],
    "table": [(TrialTable, "write")],
    "records": [(TrialTable, "start"), (TrialTable, "report"), (TrialTable, "finish")],
    "checkpoints": [(CheckpointStore, "finish"), (CheckpointStore, "put")],
    "loggers": [(logger, name) for logger in (TensorBoard, StageStudies) for name in ("start", "report", "finish")],
}
WORKERS, START_S = "ONE_LOOK_BENCHMARK_WORKERS", 120.0  # variable that workers read; longest time of their start
LOSSES = {f"train_{name}": 0.1 for name in ("total", "mask", "depth", "pixel", "structural")}
METRICS = {name: 0.5 for name in ("iou", "dice", "mae_mask", "rmse_depth", "checkerboard", "lr", "train_s")}
COST = {"params": 60_000, "macs": 15_000_000, "receptive_field": 99, "train_images": 160, "val_images": 32}


class Stopwatch:
    """Adds up the processor time of the main thread in each part, without that of the parts called from it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._stack: list[list[float]] = []  # for each open part when it began and what inner parts took

    def watch(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that is timed as `part`."""

        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            frame = [time.thread_time(), 0.0]
            self._stack.append(frame)
            try:
                return function(*args, **options)
            finally:
                self._stack.pop()
                whole = time.thread_time() - frame[0]
                self.spent[part] += whole - frame[1]
                if self._stack:
                    self._stack[-1][1] += whole

        return timed


def list_costs(spec: Any, plan: Any) -> dict[str, Any]:
    """Return what a trial that does not train would measure once."""
    return {**COST, "devices": 1.0, "px": spec.context.stage.px}


def report_epochs(config: Any, data: Any, plan: Any, *, report: Callable[..., None], **_: Any) -> None:
    """Report as many epochs as a training, whose score depends on the configuration; `fit` of the stub."""
    best = random.Random(repr(config)).gauss(0.4, 0.1) - 0.05 * abs(math.log(config.optim.lr / 5e-3))
    for epoch in range(1, plan.epochs + 1):
        score = best * (1 - math.exp(-epoch / 3))
        metrics = {"epoch": epoch, "last": epoch == plan.epochs, "out_of_time": False, "score": score, "fit_s": 0.1}
        replay = {"clock": [0.1] * 40, "threads": 1, "plan": {"epochs": plan.epochs}}
        state = {"best": {"weights": {"weight": torch.zeros(100)}}, "optimizer": {}, "epoch": epoch}
        metrics |= {**LOSSES, **METRICS, "best": {"score": score, **METRICS, "best_epoch": epoch}}
        report({**metrics, "images_seen": 160 * epoch, "replay": replay}, partial(dict, state))


class StubWorker(Worker):
    """A worker of Ray Tune that does not train."""

    def setup(self, config: dict[str, Any]) -> None:
        """Replace the training in the process of this worker."""
        trainable.fit, trainable.collect_constant_metrics = report_epochs, list_costs
        Worker.setup(self, config)
        self._await_others()

    def _await_others(self) -> None:
        """Wait until all workers are there, as they are in a run: the first one would end all trials alone."""
        here = Path(self._storage.experiment_fs_path) / "workers"
        here.mkdir(exist_ok=True)
        (here / str(os.getpid())).touch()
        until = time.monotonic() + START_S
        while len(list(here.iterdir())) < int(os.environ[WORKERS]) and time.monotonic() < until:
            time.sleep(0.05)


class Blocks:
    """Prints a row for each block of trials as they end; `simulated` are the workers if they are."""

    def __init__(self, args: argparse.Namespace, watch: Stopwatch, simulated: SimulatedRay | None) -> None:
        self.ends, self.watch, self.ended, self.begun = [args.past + end for end in args.trials], watch, 0, 0
        self.workers, self.simulated = args.workers, simulated
        self.mark()
        print("trials".rjust(8), *(name.rjust(11) for name in ("driver", *PARTS, "rest", "threads", "wall", "busy")))

    def mark(self) -> None:
        """Begin a block."""
        self.begun = self.ended
        self.wall, self.cpu, self.main = time.monotonic(), time.process_time(), time.thread_time()
        self.trained_s, self.paused_s = self._read_simulated()
        self.watch.spent.clear()

    def _read_simulated(self) -> tuple[float, float]:
        """Return the seconds in which simulated workers have trained, and the processor time of their part here."""
        return (self.simulated.trained_s, self.simulated.clock.paused_s) if self.simulated else (math.nan, 0.0)

    def notify(self, record: TrialRecord) -> None:
        """Count a trial that has ended."""
        self.ended += bool(record.status)
        if record.status and self.ended in self.ends:
            self.show()
            self.mark()

    def show(self) -> None:
        """Print the row of this block."""
        trials = (self.ended - self.begun) / 1000
        trained_s, paused_s = self._read_simulated()
        trained, paused = trained_s - self.trained_s, paused_s - self.paused_s
        cpu, main = time.process_time() - self.cpu - paused, time.thread_time() - self.main - paused
        parts = [self.watch.spent[name] for name in PARTS]
        wall = time.monotonic() - self.wall
        values = (cpu, *parts, main - sum(parts), cpu - main, wall)
        busy = f"{trained / (self.workers * wall):11.1%}"
        print(f"{self.ended:8,}", *(f"{value / trials:11.2f}" for value in values), busy, flush=True)


def simulate(searcher: StageChain, recorder: RecordCallback, trials: int) -> None:
    """Let so many trials begin, report two epochs and end, without Ray."""
    for number in range(trials):
        name = f"past{number}"
        trial: Any = SimpleNamespace(trial_id=name, config=searcher.suggest(name))
        recorder.on_trial_start(0, [], trial)

        def report(metrics: dict[str, Any], _: object, *, trial: Any = trial) -> None:
            reported = {**metrics, **COST, "devices": 1.0, "px": 80}
            result = {name: metrics[name] for name in ("score", "epoch", "last")} | {"metrics": reported}
            recorder.on_trial_result(0, [], trial, {**result, "rates": [], "predictions": None})
            if not metrics["last"]:
                searcher.on_trial_result(trial.trial_id, result)
            trial.last_result = result

        report_epochs(trial.config["spec"].config, None, SimpleNamespace(epochs=2), report=report)
        searcher.on_trial_complete(name, trial.last_result)
        recorder.on_trial_complete(0, [], trial)


def prepare(folder: Path, args: argparse.Namespace) -> tuple[RunSetup, Stage]:
    """Start Ray, unless it is simulated, and return setup and stage of a search on a few small scenes."""
    trials, workers = args.past + args.trials[-1], args.workers
    data = make_scenes(folder / "scenes", 40, per_background=4, px=96, seed=1, workers=1)
    stage = STAGE_PRESETS["default"][0]
    setup = RunSetup(
        data_module=DataModule(data, seed=0),
        cluster=describe_cluster(workers) if args.epoch_s else session.start(None, workers),
        throughput=Throughput(1e9),
        budget=Budget(text=f"{trials}trials", trials=trials),
        deadlines=None,
        seed=0,
        constraints=Constraints(px=160),
        sampler=args.sampler,
    )
    return setup, stage


def run(args: argparse.Namespace, folder: Path) -> None:
    """Run a search of the last number of --trials and print its blocks."""
    setup, stage = prepare(folder, args)
    out, watch, simulated = folder / "run", Stopwatch(), None
    with ExitStack() as stack:
        if args.epoch_s:
            simulated = stack.enter_context(simulate_workers(args.workers, args.epoch_s))
            stubs = {"fit": report_epochs, "collect_constant_metrics": list_costs}
            stack.enter_context(patch.multiple(trainable, **stubs))
        stack.enter_context(claim(out))
        stack.enter_context(patch.object(ray_tune, "Worker", StubWorker))
        run_state, table = RunState(folder=out, options={}, began=time.monotonic()), TrialTable(out)
        run_state.start_clock()
        for part, methods in PARTS.items():
            for owner, name in methods:
                patch.object(owner, name, watch.watch(part, getattr(owner, name))).start()
        context = build_stage_context(setup, stage, trials=setup.cluster.workers)
        search = build_search(setup, context, out / "study.journal")
        searcher, blocks = StageChain(iter([search])), Blocks(args, watch, simulated)
        loggers = (TensorBoard(out / "tensorboard"), StageStudies(out, table))
        checkpoints = CheckpointStore(out / "ray", seed=0)
        recorder = RecordCallback(searcher, table, loggers, run_state, checkpoints, blocks.notify, print)
        sampler, search.study.sampler = search.study.sampler, RandomSampler(seed=0)
        simulate(searcher, recorder, args.past)
        if isinstance(sampler, FeasibleTPE):
            sampler.trained = args.past
        search.study.sampler, began = sampler, time.monotonic()
        scheduler = StageScheduler(stage.epochs, args.workers)
        blocks.mark()
        run_experiment(searcher, scheduler, recorder, name="1", workers=args.workers)
        run_state.end("done")
        print(f"{time.monotonic() - began:.1f} s, of which {time.monotonic() - blocks.wall:.1f} s after the last trial")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", default="100,400", help="ends of the blocks of trials (default %(default)s)")
    parser.add_argument("--past", type=int, default=0, help="trials before the first block (default %(default)s)")
    parser.add_argument("--sampler", default="tpe", choices=("tpe", "random"), help="sampler of the search")
    parser.add_argument(
        "--epoch-s", type=float, default=0.0, help="simulate workers, each epoch of which takes so long"
    )
    parser.add_argument("--workers", type=int, default=2, help="workers (default %(default)s)")
    args = parser.parse_args()
    args.trials = [int(end) for end in args.trials.split(",")]
    os.environ[WORKERS] = str(args.workers)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONE_LOOK_CACHE"] = folder  # so that this is not the newest run of the user
        try:
            run(args, Path(folder))
        finally:
            session.stop()


if __name__ == "__main__":
    from tests.benchmarks import driver  # by which name workers import this module

    sys.exit(driver.main())
