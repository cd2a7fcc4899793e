"""Estimate a run from ten seconds of measuring: images, trials, time and disk of each stage. No trial is trained."""

import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import optuna
import torch
from rich.console import Console
from rich.table import Table

from data.data_module import DataModule
from data.pack.pack import pack_split
from data.pack.shards import build_record_type
from data.runtime.cli import fit_width, format_count
from data.runtime.parallel import MAX_TOGETHER
from data.runtime.process import count_cores
from data.runtime.progress import format_duration, progress_bar
from models.cost import Throughput, count_macs, probe
from search.config.budget import Budget, compute_wrap_up_s, parse_budget, plan_deadlines
from search.config.constraints import Constraints
from search.config.options import RunOptions
from search.config.stages import KEPT_CHECKPOINTS, REDUCTION_FACTOR, Stage, list_rungs
from search.config.trial import TrialConfig
from search.records.disk import check_disk, count_free_bytes, format_bytes
from search.study.search_space import Parameters, limit_space, suggest
from search.study.space_settings import read_space
from search.training.throughput import measure_gpu_mib, measure_throughput
from search.training.time_limit import VALIDATION_COST
from search.tuning.allocation import Allocation, allocate, build_feasibility, count_trainings
from search.tuning.ray.resources import Cluster, sum_up_nodes

DECODING_S = 1.0  # seconds for which triplets are decoded to measure the speed
START_S = 10.0  # seconds until the first trial begins: imports, Ray, measuring
HAND_OVER_S = 0.4  # seconds between two trials of a worker
DRAWS = 40  # configurations drawn from the space to estimate costs
ENOUGH_EPOCHS = 3.0  # epochs of the final stage; with fewer, the network sees each image only once or twice
ROUND_BUDGETS = ("1m", "2m", "3m", "5m", "10m", "15m", "20m", "30m", "45m", "1h", "2h", "3h", "5h", "10h", "20h", "40h")
RECORD_BYTES = 60_000  # TensorBoard files and records of a trial


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Measured speed of this machine."""

    cluster: Cluster
    alone: Throughput  # speed of one core or GPU while the others are idle; allocations use it
    together: Throughput  # the same while all workers train
    decoded: float  # triplets per second that all cores decode and resize


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """Estimate for one stage: trials, seconds and epochs of one trial, seconds and bytes of the stage."""

    stage: Stage
    allocation: Allocation
    trials: int
    trial_s: float
    epochs: float
    stage_s: float
    disk_bytes: float


def measure(data_module: DataModule, workers: int | None = None, *, px: int, pool: ProcessPoolExecutor) -> Machine:
    """Measure training, and decoding to `px`; the processes of `pool` stand for at most `workers` concurrent trials."""
    gpus = torch.cuda.device_count()
    cores = count_cores()
    machine = sum_up_nodes([{"CPU": cores, "GPU": gpus}])
    cluster = Cluster(**machine, dashboard="", local=True, limit=workers)
    list(pool.map(time.sleep, [0.1] * min(cores, MAX_TOGETHER)))  # wait until the processes have started
    device = "cuda" if gpus else "cpu"
    alone = measure_throughput(1, device)
    cluster = cluster.share_gpus(alone, measure_gpu_mib()) if gpus else cluster
    busy = min(cluster.workers, MAX_TOGETHER)
    found = list(pool.map(measure_throughput, [1] * busy, [device] * busy))
    together = Throughput(mean(each.macs_per_s for each in found), mean(each.launch_s for each in found))
    together = together.scale(1 / cluster.count_devices_each(busy)) if gpus else together
    return Machine(cluster=cluster, alone=alone, together=together, decoded=measure_decoding_speed(data_module, px))


def measure_decoding_speed(data_module: DataModule, px: int) -> float:
    """Return the triplets per second that all cores decode; the data module counts those that cannot be used."""
    workers, begin = count_cores(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        dataset, triplets, until = data_module.dataset, data_module.splits.train, begin + DECODING_S
        pack = pack_split(dataset, triplets, px, cache=Path(folder), deadline=until, workers=workers)
        data_module.left_out.add("train", pack)
        return len(pack) / (time.monotonic() - begin)


def estimate_stages(options: RunOptions, data_module: DataModule, machine: Machine) -> list[StageEstimate]:
    """Return an estimate for each stage except the repeats, which use the remaining time."""
    wall_s, workers = options.budget.wall_s, machine.cluster.workers
    alone = machine.cluster.share(machine.alone, workers)
    stages = options.build_stages(count_trainings(wall_s, alone, workers=workers, px=options.px))
    constraints = Constraints(px=stages[-1].px, **options.limits)
    ends, begun_s = None, START_S
    if wall_s:
        shares = {stage.name: stage.share for stage in stages}
        ends = plan_deadlines(start=0.0, wall_s=wall_s, shares=shares, now=START_S)
    estimates: list[StageEstimate] = []
    # a run first decodes all images at its final size
    packed, images_all = Counter[int](), sum(data_module.sizes().values())
    networks: Sequence[TrialConfig] = options.configs
    for stage in (stage for stage in stages if stage.kind != "repeat"):
        stage_s = ends[stage.name] - begun_s if ends else None
        trials = estimates[-1].trials if estimates else len(options.configs)  # 0 for a search
        packable = None
        if stage.kind == "promote":
            # with an epsilon of 0 only the best trial is promoted, which usually is the best pretrained one too
            best = stage.top_k if stage.epsilon else 1
            trials = min(best + stage.controls, trials)
            packable = max(1, int(machine.decoded * stage_s / 4)) if stage_s is not None else None
        allocation = allocate(
            stage,
            remaining_s=stage_s,
            trials=trials or workers,
            workers=workers,
            throughput=machine.cluster.share(machine.alone, trials or workers),
            data=data_module,
            most_images=packable,
        )
        networks = networks or _draw_configs(
            stage, allocation, constraints, alone, read_space(options.space, options.encoder_weights)
        )
        line = _estimate(stage, stage_s, trials or options.budget.trials, allocation, networks, machine)
        images = images_all if stage.px == options.px else allocation.train_images + allocation.val_images
        new = max(images - packed[stage.px], 0)
        packed[stage.px] += new
        estimates.append(replace(line, disk_bytes=line.disk_bytes + new * build_record_type(stage.px).itemsize))
        begun_s += estimates[-1].stage_s
    return estimates


def _draw_configs(
    stage: Stage, allocation: Allocation, constraints: Constraints, throughput: Throughput, configured: Parameters
) -> list[TrialConfig]:
    """Return feasible configurations of the space, as a search would try them."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = limit_space(allocation.train_images, narrow=stage.narrow, configured=configured)
    drawn = [suggest(study.ask(), space) for _ in range(DRAWS)]
    images, limit_s = allocation.train_images, allocation.limit_s
    feasibility = build_feasibility(stage, constraints, throughput, images=images, limit_s=limit_s)
    smallest = min(drawn, key=lambda config: count_macs(config.model, stage.px))
    return [config for config in drawn if feasibility.fits(config)] or [smallest]


def _estimate(
    stage: Stage,
    stage_s: float | None,
    trials: int | None,
    allocation: Allocation,
    networks: Sequence[TrialConfig],
    machine: Machine,
) -> StageEstimate:
    """Estimate a stage; `trials` is None for a search whose time decides their number."""
    workers = machine.cluster.workers
    images = allocation.train_images + VALIDATION_COST * allocation.val_images
    throughput = machine.cluster.share(machine.together, workers if stage.kind == "search" else trials or workers)
    epochs_s = [
        throughput.estimate_training_s(config.model, stage.px, images, config.optim.batch_size) for config in networks
    ]
    model_bytes = 4 * mean(probe(config.model).params for config in networks)
    if stage.kind == "search":
        epoch_s = mean(epochs_s)
        trial_s = mean(_estimate_trial_s(stage, seconds, allocation.limit_s) for seconds in epochs_s)
        interval_s = (trial_s + HAND_OVER_S) / workers
        trials = trials or max(workers, round((stage_s or 0.0) / interval_s))  # every worker begins a trial at once
        took_s = trials * interval_s
    else:
        trials, epoch_s = trials or 0, median(epochs_s)
        trial_s = _estimate_trial_s(stage, epoch_s, allocation.limit_s)
        took_s = -(-trials // workers) * trial_s
    return StageEstimate(
        stage=stage,
        allocation=allocation,
        trials=trials,
        trial_s=trial_s,
        epochs=min(trial_s / epoch_s, stage.epochs),
        stage_s=stage_s or took_s,
        disk_bytes=min(trials, 2 * KEPT_CHECKPOINTS) * model_bytes + trials * RECORD_BYTES,
    )


def _estimate_trial_s(stage: Stage, epoch_s: float, limit_s: float | None) -> float:
    """Return the expected seconds of a trial: at each rung of ASHA one in REDUCTION_FACTOR continues."""
    most = min(stage.epochs * epoch_s, math.inf if limit_s is None else limit_s)
    rungs = list_rungs(stage.epochs) if stage.early_stopping else []
    ends = [0.0, *(min(rung * epoch_s, most) for rung in rungs), most]
    return sum((end - begin) / float(REDUCTION_FACTOR) ** i for i, (begin, end) in enumerate(pairwise(ends)))


def print_estimate(options: RunOptions, data_module: DataModule, pool: ProcessPoolExecutor, out: Path) -> None:
    """Measure this machine and print an estimate of the run; warn if the disk of `out` or of the cache is too small."""
    with progress_bar("measuring this machine"):
        machine = measure(data_module, options.workers, px=options.px, pool=pool)
        data_module.check_left_out()
        devices = {"cpu": machine.cluster.cpus, "gpu": machine.cluster.gpus}
        budget = options.budget.as_wall_time(devices=devices, used={"cpu": 0.0, "gpu": 0.0})
        estimates = estimate_stages(replace(options, budget=budget), data_module, machine)
    if left_out := data_module.left_out.describe():
        print(fit_width(f"left out: {left_out}"))
    for line in data_module.list_warnings():
        print(fit_width(line))
    print_table(estimates, budget, machine, free=count_free_bytes(out))
    advice = judge_budget(estimates, budget.wall_s or 0.0)
    for line in filter(None, (advice, check_disk(sum(line.disk_bytes for line in estimates), out))):
        print(fit_width(line))


def judge_budget(estimates: Sequence[StageEstimate], wall_s: float = 0.0) -> str:
    """Return a warning if the final stage gets fewer than ENOUGH_EPOCHS epochs, else "".

    It names a sufficient budget that is larger than the given one of `wall_s` seconds.
    """
    final, total_s = estimates[-1], START_S + sum(line.stage_s for line in estimates)
    enough = min(ENOUGH_EPOCHS, final.stage.epochs)
    if final.epochs >= enough:
        return ""
    needed_s = total_s * enough / final.epochs
    larger = [text for text in ROUND_BUDGETS if (parse_budget(text).wall_s or 0.0) > wall_s] or [ROUND_BUDGETS[-1]]
    text = next((text for text in larger if (parse_budget(text).wall_s or 0.0) >= needed_s), larger[-1])
    return (
        f"the {final.stage.name} stage has time for only {final.epochs:.1f} epochs: use --budget {text}, "
        "a faster machine or smaller images (--px)"
    )


def print_table(
    estimates: Sequence[StageEstimate],
    budget: Budget,
    machine: Machine,
    console: Console | None = None,
    *,
    free: float = math.inf,
) -> None:
    """Print the estimates as a table, followed by total time, device hours, and the needed and `free` disk space."""
    console = console or Console(soft_wrap=not sys.stdout.isatty())  # no line breaks in a file
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("stage", "train", "validate", "px", "trials", "each", "epochs each", "stage takes", "disk"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for line in estimates:
        stage, allocation = line.stage, line.allocation
        is_known = stage.kind == "fixed" or (stage.kind == "search" and budget.trials)
        trials = str(line.trials) if is_known else f"about {line.trials}"
        images = (f"{allocation.train_images:,}", f"{allocation.val_images:,}", str(stage.px))
        each, took = format_duration(line.trial_s), format_duration(line.stage_s)
        epochs, disk = f"{line.epochs:.1f} of {stage.epochs}", format_bytes(line.disk_bytes)
        table.add_row(stage.name, *images, trials, each, epochs, took, disk)
    console.print(table)
    total_s = budget.wall_s or START_S + sum(line.stage_s for line in estimates)
    hours, bytes_in_all = total_s * machine.cluster.devices / 3600, sum(line.disk_bytes for line in estimates)
    workers = format_count(machine.cluster.workers, "worker")
    console.print(
        f"{format_duration(total_s)} in total on {workers}, {hours:.2f} device hours, "
        f"about {format_bytes(bytes_in_all)} of disk ({format_bytes(free)} free); {format_duration(START_S)} to start, "
        f"{format_duration(compute_wrap_up_s(total_s))} to measure the model\n"
        f"measured here: {machine.together.macs_per_s / 1e9:.1f} G multiply-adds/s and "
        f"{1e6 * machine.together.launch_s:.0f} µs to start an operation, {machine.decoded:.0f} triplets/s "
        "decoded (once); nothing was written",
        highlight=False,
    )
