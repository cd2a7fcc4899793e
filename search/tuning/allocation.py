"""Allocate the time of a stage: the seconds, images and threads of each trial, for the run and the dry run."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from data.data_module import DataModule
from models.cost import Throughput, count_macs, estimate_training_mib, probe
from search.config.constraints import Constraints, Feasibility
from search.config.stages import Stage
from search.config.trial import TrialConfig

TYPICAL_MACS = 140e6  # multiply-adds of the typical network at TYPICAL_PX, about as many as of `wide_efficientnet`
TYPICAL_PX, TYPICAL_LAYERS, TYPICAL_BATCH = 80, 72, 16
FULL_TRAINING_IMAGES = 16_000  # images that a network sees in a full training
WEIGHT_COPIES = 5  # weights, gradients, the optimizer's two moments, and the weights of the best epoch
MIN_EPOCHS = 2  # a network too slow for this many epochs within a trial's time is rejected
MIN_IMAGES = 64  # least number of training images of a search
MAX_TRIALS_PER_GPU = 16
GPU_SHARE = 0.95  # share of a GPU's memory for trials; the remainder is for the process that started the run
CONTEXT_MIB, TRIAL_MIB = 512, 1536  # GPU memory of a process without tensors; least GPU memory of a trial in total
EQUAL = 0.7  # share of the fastest node's speed above which nodes count as equally fast
MEASURING, MIN_MEASURED = 0.3, 16  # largest share of a trial's time for one validation; least images of a validation


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The time and the data of each trial of a stage."""

    limit_s: float | None  # seconds that one trial may train; None without a deadline
    train_images: int  # training images of an epoch
    val_images: int  # validation images


@dataclass
class StopCriterion:
    """Decides when the searcher starts no further trial."""

    trials: int | None  # largest number of trials; None for no such limit
    at: float | None  # last moment to start a trial, by time.monotonic(); None for no such limit

    def __call__(self, started: int) -> bool:
        """Return whether the search ends after `started` trials."""
        if self.trials is not None and started >= self.trials:
            return True
        return self.at is not None and time.monotonic() >= self.at


def estimate_typical_s(throughput: Throughput, px: int, images: float, *, factor: float = 1.0) -> float:
    """Return the seconds to train on `images` of `px` with `factor` times the multiply-adds of the typical network."""
    macs = factor * TYPICAL_MACS * (px / TYPICAL_PX) ** 2
    return throughput.compute_training_s(images, macs, layers=TYPICAL_LAYERS, batch_size=TYPICAL_BATCH)


def find_slowest(speeds: Mapping[str, Throughput]) -> Throughput:
    """Return the throughput of the slowest node; trials are planned for it, because a trial may run on any node."""
    return max(speeds.values(), key=lambda speed: estimate_typical_s(speed, TYPICAL_PX, 1))


def describe_speeds(speeds: Mapping[str, Throughput]) -> str:
    """Return a warning if one node trains much slower than another, else ""."""
    times = {name: estimate_typical_s(speed, TYPICAL_PX, 1) for name, speed in speeds.items()}
    slow, fast = max(times, key=lambda name: times[name]), min(times, key=lambda name: times[name])
    share = times[fast] / times[slow]
    if share >= EQUAL:
        return ""
    return f"node {slow} trains at {share:.0%} of the speed of {fast}; trials are planned for the slower node"


def choose_trials_per_gpu(throughput: Throughput, memory_mib: float) -> int:
    """Return how many trials of a search share one GPU: as many as keep the GPU busy and fit into its memory.

    The typical network leaves a GPU idle while its operations are started; `throughput` is that of the whole GPU.
    """
    alone_s = estimate_typical_s(throughput, TYPICAL_PX, 1)
    busy_s = estimate_typical_s(Throughput(throughput.macs_per_s), TYPICAL_PX, 1)
    return max(1, min(MAX_TRIALS_PER_GPU, int(alone_s / busy_s), int(memory_mib / TRIAL_MIB)))


def count_trainings(wall_s: float | None, throughput: Throughput, *, workers: int, px: int) -> float | None:
    """Return how many full trainings of the typical network at the final size a time budget pays for, else None.

    `throughput` is that of one worker.
    """
    return None if wall_s is None else wall_s * workers / estimate_typical_s(throughput, px, FULL_TRAINING_IMAGES)


def allocate(
    stage: Stage,
    *,
    remaining_s: float | None,
    trials: int,
    workers: int,
    throughput: Throughput,
    data: DataModule,
    most_images: int | None = None,
) -> Allocation:
    """Allocate a stage's time and data to its trials.

    `remaining_s` is None without a deadline. `throughput` is that of one trial. A first stage gets as many images as
    its time allows, unless `most_images` is set.
    """
    limit_s = compute_trial_limit_s(stage, remaining_s, trials, workers)
    if most_images is None and stage.is_first:
        most_images = count_affordable_images(limit_s, throughput, stage)
    train_images, val_images = data.count_stage_images(stage.fraction, most_images)
    return Allocation(limit_s=limit_s, train_images=train_images, val_images=val_images)


def compute_trial_limit_s(stage: Stage, remaining_s: float | None, trials: int, workers: int) -> float | None:
    """Return the seconds that one trial of a stage may train; None without a deadline.

    Trials take equal time in rounds of one trial per worker; a search, which continues until its time is over, is
    planned for `full_trials` instead of `trials`. With early stopping its rounds need not be complete, because most
    trials end sooner, but each worker has time for two trials.
    """
    if remaining_s is None:
        return None
    left_s, is_search = max(remaining_s, 1.0), stage.kind == "search"
    if is_search and stage.early_stopping:
        return min(left_s * workers / stage.full_trials, left_s / 2)
    return left_s / -(-(stage.full_trials if is_search else trials) // workers)


def count_affordable_images(limit_s: float | None, throughput: Throughput, stage: Stage) -> int | None:
    """Return how many images the typical network of a stage can see MIN_EPOCHS times in its time; None for no limit."""
    if limit_s is None:
        return None
    image_s = estimate_typical_s(throughput, stage.px, 1, factor=stage.macs_factor)
    return max(MIN_IMAGES, round(limit_s / (min(MIN_EPOCHS, stage.epochs) * image_s)))


def build_feasibility(
    stage: Stage, constraints: Constraints, throughput: Throughput, *, images: int, limit_s: float | None
) -> Feasibility:
    """Return the rules of a search: a trial must complete MIN_EPOCHS of `images` within `limit_s`, at `throughput`."""
    least = images * min(MIN_EPOCHS, stage.epochs)
    return Feasibility(constraints=constraints, px=stage.px, throughput=throughput, images=least, limit_s=limit_s)


def choose_micro_batch_size(config: TrialConfig, px: int, memory_mib: float | None) -> int | None:
    """Return how many training images of `px` fit into `memory_mib` MiB at once, at least one; None for no limit."""
    if memory_mib is None:
        return None
    weights_mib = WEIGHT_COPIES * 4 * probe(config.model).params / 2**20
    return max(1, int((memory_mib - weights_mib) / estimate_training_mib(config.model, px)))


def count_measurable_images(
    config: TrialConfig, stage: Stage, limit_s: float | None, throughput: Throughput
) -> int | None:
    """Return how many validation images a trial can measure after each epoch; None for no limit.

    Only networks that are far too slow for their budget, such as a recipe of the user, measure fewer than all images; a
    search rejects such networks and compares all trials on the same images.
    """
    if limit_s is None or stage.kind == "search":
        return None
    return max(MIN_MEASURED, int(MEASURING * limit_s * throughput.macs_per_s / count_macs(config.model, stage.px)))
