"""What a run would do, from ten seconds of measuring: stages, images, trials, hours and disk. Nothing is trained."""

import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import optuna
import torch
from rich.console import Console
from rich.table import Table

from data.data_module import VAL_LEAST, VAL_MOST, VAL_SHARE, DataModule
from data.pack.pack import pack_split
from data.pack.shards import record_type
from data.reading.splits import take_subset
from data.runtime.progress import progress_bar
from models.cost import count_macs, probe
from search.budget.budget import Budget, plan_deadlines, wrap_up_s
from search.budget.constraints import (
    WEIGHT_COPIES,
    Constraints,
    Feasibility,
    affordable_images,
    affordable_macs,
    search_cap_s,
)
from search.config.trial import TrialConfig
from search.study.space import SpaceLimits, choose_batch_sizes, suggest
from search.training.throughput import training_speed
from search.tuning.stages import GRACE, KEPT, REDUCTION, Stage

DECODING_S = 2.0  # so long are triplets decoded to see how fast that goes
START_S = 10.0  # until the first trial begins: imports, Ray, measuring
HAND_OVER_S = 0.4  # of a worker between two trials: choosing, moving, starting
DRAWS = 60  # configurations of the space whose cost is looked at
SHOWN_BYTES = 60_000  # of TensorBoard and records a trial


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was measured.

    Attributes:
        workers: Trials at the same time.
        devices: GPUs, or cores.
        alone: Multiply-adds a second that one worker trains with nothing beside it, from which stages are cut.
        together: The same with all workers at work.
        decoded: Triplets a second, decoded and shrunk by all cores.
    """

    workers: int
    devices: int
    alone: float
    together: float
    decoded: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """One stage of the plan: images of each part, trials, seconds of one trial and of the stage, epochs, bytes."""

    stage: Stage
    train: int
    val: int
    trials: int
    trial_s: float
    epochs: float
    stage_s: float
    disk_bytes: float


def measure(data_module: DataModule) -> Machine:
    """Measure this machine for some ten seconds."""
    with progress_bar("measuring this machine for ten seconds"):
        return _measured(data_module)


def _measured(data_module: DataModule) -> Machine:
    gpus = torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    device, workers = ("cuda", min(4 * gpus, cores)) if gpus else ("cpu", cores)
    alone = training_speed(1, device)
    busy = min(workers, 16)
    with ProcessPoolExecutor(busy, mp_context=multiprocessing.get_context("spawn")) as pool:
        together = mean(pool.map(training_speed, [1] * busy, [device] * busy))
    return Machine(
        workers=workers, devices=gpus or cores, alone=alone, together=together, decoded=decoding_speed(data_module)
    )


def decoding_speed(data_module: DataModule, px: int = 160) -> float:
    """Return the triplets that all cores decode in a second; the supply takes note of those that cannot be used."""
    triplets = data_module.splits.train
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        pack = pack_split(
            data_module.dataset,
            triplets,
            px,
            cache=Path(folder),
            deadline=begin + DECODING_S,
            workers=os.cpu_count() or 1,
        )
        data_module.count_left_out("train", pack)
        return len(pack) / (time.monotonic() - begin)


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Foretells what each stage does, by the rules that runs follow.

    Attributes:
        ladder: Its stages.
        budget: In wall time or trials.
        supply: The images.
        machine: What was measured.
        constraints: What a network may cost.
        configs: Stated configurations that take the place of the search; empty to search.
    """

    ladder: Sequence[Stage]
    budget: Budget
    data_module: DataModule
    machine: Machine
    constraints: Constraints
    configs: Sequence[TrialConfig] = ()

    def lines(self) -> list[Line]:
        """Return a line for each stage; repeats take what is left, and nothing is foretold of them."""
        ends: Mapping[str, float] = {}
        begun_s = START_S
        if self.budget.wall_s is not None:
            shares = {stage.name: stage.share for stage in self.ladder}
            ends = plan_deadlines(start=0.0, wall_s=self.budget.wall_s, shares=shares, now=START_S).stages
        lines: list[Line] = []
        for stage in (stage for stage in self.ladder if not stage.repeats):
            stage_s = ends[stage.name] - begun_s if ends else None
            searches = not (stage.enter or self.configs)
            below = lines[-1].trials if lines else len(self.configs)
            lines.append(self._searching(stage, stage_s) if searches else self._sharing(stage, stage_s, below))
            begun_s += lines[-1].stage_s
        return lines

    def _searching(self, stage: Stage, stage_s: float | None) -> Line:
        """Return the line of a stage that searches: most of its trials are stopped, and few as large as is allowed."""
        machine = self.machine
        cap_s = None if stage_s is None else search_cap_s(stage_s, machine.workers, stage.full_trials)
        train, val = self._images(stage, affordable_images(cap_s, machine.alone, px=stage.px, epochs=stage.epochs))
        drawn = self._drawn(stage, cap_s, train)
        epochs_s = [count_macs(config.model, stage.px) * (train + val / 3) / machine.together for config in drawn]
        trial_s = mean(_trial_s(stage, epoch_s, cap_s) for epoch_s in epochs_s)
        taken_s = (trial_s + HAND_OVER_S) / machine.workers
        trials = self.budget.trials or int((stage_s or 0.0) / taken_s)
        weights = 4 * max(probe(config.model).params for config in drawn)
        disk = weights * (2 * KEPT + 2 * machine.workers * WEIGHT_COPIES) + trials * SHOWN_BYTES
        return Line(
            stage=stage,
            train=train,
            val=val,
            trials=trials,
            trial_s=trial_s,
            epochs=trial_s / mean(epochs_s),
            stage_s=stage_s or trials * taken_s,
            disk_bytes=disk + _packed_bytes(stage, train + val),
        )

    def _sharing(self, stage: Stage, stage_s: float | None, below: int) -> Line:
        """Return the line of a stage whose trials, promoted from `below` or so many stated, share its time."""
        machine, trials = self.machine, min(stage.enter + stage.control, below) if stage.enter else below
        rounds, threads = -(-trials // machine.workers), max(1, machine.workers // trials)
        most = None if stage_s is None else int(machine.decoded * stage_s / 4)
        if stage_s is not None and not stage.enter:
            most = affordable_images(stage_s / rounds, machine.alone, px=stage.px, epochs=stage.epochs)
        train, val = self._images(stage, most)
        drawn = self.configs or self._drawn(self.ladder[0], self._first_cap_s(), train)
        epoch_s = median(count_macs(config.model, stage.px) for config in drawn) * (train + val / 3)
        epoch_s /= machine.together * threads
        trial_s = min(stage.epochs * epoch_s, math.inf if stage_s is None else stage_s / rounds)
        weights = WEIGHT_COPIES * 4 * max(probe(config.model).params for config in drawn)
        return Line(
            stage=stage,
            train=train,
            val=val,
            trials=trials,
            trial_s=trial_s,
            epochs=trial_s / epoch_s,
            stage_s=stage_s or rounds * trial_s,
            disk_bytes=trials * (weights + SHOWN_BYTES) + _packed_bytes(stage, train + val),
        )

    def _first_cap_s(self) -> float | None:
        """Return the longest of a trial of the search, whose networks are those that climb."""
        if self.budget.wall_s is None:
            return None
        first, left_s = self.ladder[0], self.budget.wall_s - START_S - wrap_up_s(self.budget.wall_s)
        share = first.share / sum(stage.share for stage in self.ladder)
        return search_cap_s(share * left_s, self.machine.workers, first.full_trials)

    def _images(self, stage: Stage, most: int | None) -> tuple[int, int]:
        """Return how many images a stage trains on and validates with."""
        train = len(take_subset(self.data_module.splits.train, stage.fraction))
        train = train if most is None else max(1, min(train, most))
        return train, min(max(VAL_LEAST, int(VAL_SHARE * train)), VAL_MOST, self.data_module.sizes()["val"])

    def _drawn(self, stage: Stage, cap_s: float | None, images: int) -> list[TrialConfig]:
        """Return configurations of the space that keep the rules, as a search would try them."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        limits = SpaceLimits(batch_sizes=choose_batch_sizes(images))
        drawn = [suggest(study.ask(), limits) for _ in range(DRAWS)]
        train, _ = self._images(stage, affordable_images(cap_s, self.machine.alone, px=stage.px, epochs=stage.epochs))
        most_macs = affordable_macs(cap_s, train, self.machine.alone, epochs=stage.epochs)
        rules = Feasibility(constraints=self.constraints, most_macs=most_macs, px=stage.px)
        smallest = min(drawn, key=lambda config: count_macs(config.model, stage.px))
        return [config for config in drawn if rules.fits(config)] or [smallest]


def _trial_s(stage: Stage, epoch_s: float, cap_s: float | None) -> float:
    """Return the expected seconds of a trial: each rung of a race lets one in REDUCTION through."""
    most = stage.epochs * epoch_s if cap_s is None else min(cap_s, stage.epochs * epoch_s)
    if not stage.races:
        return most
    expected, reached, share, rung = 0.0, 0.0, 1.0, GRACE
    while reached < most:
        until = min(most, epoch_s * min(rung, stage.epochs))
        expected += share * (until - reached)
        if until == reached:
            break
        reached, share, rung = until, share / REDUCTION, rung * REDUCTION
    return expected


def _packed_bytes(stage: Stage, images: int) -> float:
    return float(images * record_type(stage.px).itemsize)


def show(lines: Sequence[Line], budget: Budget, machine: Machine, console: Console | None = None) -> None:
    """Print a plan."""
    console = console or Console(soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("stage", "train", "validate", "px", "trials", "each", "epochs each", "stage takes", "disk"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for line in lines:
        table.add_row(
            line.stage.name,
            f"{line.train:,}",
            f"{line.val:,}",
            str(line.stage.px),
            f"about {line.trials}" if not (line.stage.enter or budget.trials) else str(line.trials),
            _duration(line.trial_s),
            f"{line.epochs:.1f} of {line.stage.epochs}",
            _duration(line.stage_s),
            _size(line.disk_bytes),
        )
    console.print(table)
    total_s = budget.wall_s or START_S + sum(line.stage_s for line in lines)
    hours, disk = total_s * machine.devices / 3600, sum(line.disk_bytes for line in lines)
    console.print(
        f"in all {_duration(total_s)} on {machine.workers} workers, {hours:.2f} device hours, {_size(disk)} of disk at "
        f"most; {_duration(START_S)} to start, {_duration(wrap_up_s(total_s))} to measure the model",
        highlight=False,
    )
    console.print(
        f"measured here: {machine.together / 1e9:.1f} G multiply-adds/s a worker, {machine.decoded:.0f} triplets/s "
        "decoded (once); nothing was written",
        highlight=False,
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _size(number: float) -> str:
    return f"{number / 1e6:,.0f} MB" if number < 1e9 else f"{number / 1e9:,.1f} GB"
