"""Prepare a stage: its images, the resources of its trials, their specifications and the Optuna searcher."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ray import tune

from data.data_module import DataModule, StageData
from data.runtime.storage import publish_cached
from models.cost import Throughput
from search.config.budget import Budget
from search.config.constraints import Constraints
from search.config.encoder_weights import ENCODERS
from search.config.recipes import PORTFOLIO, build_recipe
from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.records.trials import TrialRecord, yield_free_numbers
from search.study.journal import RunStorage, open_journal
from search.study.reconcile import reconcile_study
from search.study.sampler import select_fitted
from search.study.search_space import (
    LR_RANGES,
    Parameters,
    build_first_points,
    build_space,
    choose_batch_sizes,
    encode_point,
    limit_space,
    list_choices,
    suggest,
)
from search.training.lr_finder import RANGE_TEST_STEPS, centre_range, run_range_test
from search.training.micro_batches import TrialOutOfMemoryError
from search.training.time_limit import VALIDATION_COST
from search.tuning.allocation import MIN_MEASURED, StopCriterion, allocate, build_feasibility, compute_trial_limit_s
from search.tuning.ray.resources import Cluster
from search.tuning.ray.searchers import FeasibleOptunaSearch
from search.tuning.ray.trial_spec import StageContext, TrialSpec, build_trial_spec

SPARE = 1.15  # safety factor on the measured training time of a repeat
TESTED_RECIPE = "quick_residual"  # trained by --find-lr: small, and learns in seconds
TEST_SHARE = 0.1  # largest part of the stage's time for one range test
WORKERS_AHEAD = 8  # one prefetched suggestion per this many workers; a single worker prefetches none
REPORTS_PER_S = 100  # maximum reports per second to the driver; the interval is capped at 10 s
LrRanges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """What all stages of a run share: data, cluster, budget, seed and the settings of the search."""

    data_module: DataModule
    cluster: Cluster
    throughput: Throughput  # of one core, or of a whole GPU
    budget: Budget
    deadlines: Mapping[str, float] | None  # end of each stage, by time.monotonic(); None if the budget is not a time
    seed: int  # seed of the run, from which the seeds of trials are derived
    constraints: Constraints
    sampler: str = "tpe"  # kind of sampler of the search, "tpe" or "random"
    tried_first: Sequence[str] = tuple(PORTFOLIO)  # names of the recipes that a search tries first
    space: Parameters = field(default_factory=dict)  # parameters of the search space that the user sets
    encoder: Path | None = None  # converted weights of --encoder-weights
    storage: str | None = None  # URI from which nodes fill their caches; None if nodes share this machine's cache

    def compute_remaining_s(self, stage: Stage) -> float | None:
        """Return the seconds until the deadline of a stage, negative after it; None without one."""
        return None if self.deadlines is None else self.deadlines[stage.name] - time.monotonic()


def build_stage_context(
    setup: RunSetup, stage: Stage, *, trials: int, recorded: Mapping[str, Any] = MappingProxyType({})
) -> StageContext:
    """Prepare the images of a stage and allocate resources to its `trials`, for a search the number of workers.

    `recorded` has the `train_images` and `limit_s` of an earlier process or round, because scores of a stage are
    comparable only on the same images.
    """
    cluster = setup.cluster
    throughput = cluster.share(setup.throughput, trials)
    data = _prepare_data(setup, stage, trials=trials, throughput=throughput, recorded=recorded)
    left_s = setup.compute_remaining_s(stage)  # time left after the preparation
    return StageContext(
        stage=stage,
        data=data,
        deadline=None if setup.deadlines is None else setup.deadlines[stage.name],
        limit_s=recorded.get("limit_s", compute_trial_limit_s(stage, left_s, trials, cluster.workers)),
        threads=cluster.count_threads(trials),
        device="cuda" if cluster.gpus else "cpu",
        devices=cluster.count_devices_each(trials),
        reserved=cluster.reserve(trials),
        memory_mib=cluster.compute_memory_each(trials),
        throughput=throughput,
        encoder=setup.encoder,
        storage=setup.storage,
        idle_ms=setup.constraints.idle_ms if cluster.local else None,
        report_s=min(max(1.0, cluster.workers / REPORTS_PER_S), 10.0),
    )


def _prepare_data(
    setup: RunSetup, stage: Stage, *, trials: int, throughput: Throughput, recorded: Mapping[str, Any]
) -> StageData:
    """Pack the images of a stage, new ones within a quarter of its time, and publish them if there is a storage."""
    left_s = setup.compute_remaining_s(stage)
    allocation = allocate(
        stage,
        remaining_s=left_s,
        trials=trials,
        workers=setup.cluster.workers,
        throughput=throughput,
        data=setup.data_module,
        most_images=recorded.get("train_images"),
    )
    until = None if recorded or left_s is None else time.monotonic() + left_s / 4
    data = setup.data_module.load_stage_data(
        fraction=stage.fraction, px=stage.px, max_images=allocation.train_images, deadline=until
    )
    return data if setup.storage is None else _publish(setup, data, setup.storage)


def _publish(setup: RunSetup, data: StageData, storage: str) -> StageData:
    """Copy the images of a stage and the encoder's weights to the storage, from which nodes fetch them."""
    with setup.data_module.show("publishing images") as progress:
        published = data.publish(storage, progress)
    if setup.encoder:
        publish_cached(storage, [f"{ENCODERS}/{setup.encoder.name}"])
    return published


def build_continued_specs(
    setup: RunSetup,
    context: StageContext,
    parents: Sequence[TrialRecord],
    checkpoints: Mapping[str, tune.Checkpoint],
    *,
    begun: Sequence[TrialRecord] = (),
) -> list[TrialSpec]:
    """Build the trials that start from the weights of `parents`, with numbers that no trial of `begun` uses."""
    return [
        build_trial_spec(
            context,
            number,
            TrialConfig.from_flat(parent.config),
            seed=setup.seed,
            parent_id=parent.trial_id,
            parent=checkpoints[parent.trial_id],
        )
        for number, parent in zip(yield_free_numbers(begun), parents, strict=False)
    ]


def count_repeats(setup: RunSetup, stage: Stage, finished: Sequence[TrialRecord], wanted: int) -> int:
    """Return how many of `wanted` repeats, each as long as the trials of `finished`, the remaining time allows."""
    left_s = setup.compute_remaining_s(stage)
    if left_s is None or not finished:
        return wanted
    work_s = max(float(r.metrics["device_s"]) for r in finished)
    for trials in range(wanted, 0, -1):
        rounds = -(-trials // setup.cluster.workers)
        if SPARE * rounds * work_s / setup.cluster.count_devices_each(trials) <= left_s:
            return trials
    return 0


def has_time(setup: RunSetup, stage: Stage, config: TrialConfig, *, trials: int) -> bool:
    """Return whether a trial of a stage has time for one optimizer step and the smallest validation."""
    left_s = setup.compute_remaining_s(stage)
    limit_s = compute_trial_limit_s(stage, left_s, trials, setup.cluster.workers)
    if left_s is None or limit_s is None:
        return True
    images = config.optim.batch_size + VALIDATION_COST * MIN_MEASURED
    throughput = setup.cluster.share(setup.throughput, trials)
    needed_s = throughput.estimate_training_s(config.model, stage.px, images, config.optim.batch_size)
    return left_s >= 0 and needed_s <= limit_s


def build_fixed_specs(
    setup: RunSetup,
    context: StageContext,
    configs: Sequence[TrialConfig],
    *,
    begun: Sequence[TrialRecord] = (),
    valid: Sequence[TrialRecord] | None = None,
) -> list[TrialSpec]:
    """Build the trials of the user's configurations that have not begun.

    `begun` are the trials already started. `valid` excludes trials of an attempt in which every trial failed; their
    configurations are trained again under new numbers. Of n configurations, the one at index i has trial number i + 1,
    i + 1 + n and so on, so that a number tells its configuration.
    """
    taken = {record.trial_id for record in begun}
    done = {(record.number - 1) % len(configs) for record in (begun if valid is None else valid)}
    specs = []
    for i, config in enumerate(configs):
        if i not in done:
            numbered = (build_trial_spec(context, n, config, seed=setup.seed) for n in count(i + 1, len(configs)))
            specs.append(next(spec for spec in numbered if spec.trial_id not in taken))
    return specs


def build_resumed_specs(
    context: StageContext, records: Sequence[TrialRecord], checkpoints: Mapping[str, tune.Checkpoint]
) -> list[TrialSpec]:
    """Build the trials that an earlier process began; they continue from their last checkpoint, if there is one."""
    return [
        TrialSpec(
            trial_id=record.trial_id,
            parent_id=record.parent_id,
            seed=record.seed,
            config=TrialConfig.from_flat(record.config),
            context=context,
            parent=checkpoints.get(record.parent_id),
            own=checkpoints.get(record.trial_id),
        )
        for record in records
    ]


def centre_lr_ranges(setup: RunSetup, context: StageContext) -> LrRanges:
    """Centre the learning-rate range of each optimizer that the search tries by a range test on the stage's data.

    Optimizers whose learning rate the user sets are not tested. A test takes a tenth of the stage's time at most. A
    range is unchanged if the test ran fewer than half of its steps or the loss did not clearly fall.
    """
    left_s = setup.compute_remaining_s(context.stage)
    limit_s = None if left_s is None else TEST_SHARE * left_s
    sizes, space = choose_batch_sizes(len(context.data.train)), build_space(configured=setup.space)
    names = [name for name in list_choices("optim/name", space) if f"{name}/lr" not in setup.space]
    ranges = {name: LR_RANGES[name] for name in names}
    for name, (low, high) in tuple(ranges.items()):
        config = build_recipe(TESTED_RECIPE)
        config = replace(config, optim=replace(config.optim, name=name, batch_size=sizes[0]))
        rate = setup.cluster.call(suggest_rate, config, context, setup.seed, limit_s)
        if rate is not None:
            ranges[name] = centre_range(min(max(rate, low), high), low, high)
    return ranges


def suggest_rate(config: TrialConfig, context: StageContext, seed: int, limit_s: float | None) -> float | None:
    """Return the learning rate that a range test suggests; None if it ran too few steps or found none."""
    try:
        test = run_range_test(config, context.data, seed=seed, device=context.device, limit_s=limit_s)
    except TrialOutOfMemoryError:
        return None
    return test.suggestion if len(test.rates) >= RANGE_TEST_STEPS / 2 else None


def build_search(
    setup: RunSetup,
    context: StageContext,
    journal: Path,
    *,
    lr: LrRanges = LR_RANGES,
    past: Sequence[TrialRecord] = (),
    unfinished: Sequence[TrialSpec] = (),
    retried: int = 0,
) -> FeasibleOptunaSearch:
    """Build the Optuna searcher.

    `past` are the trials of the search so far, `unfinished` the specifications of those without an outcome; `retried`
    trials of a search that failed as a whole do not count towards the budget.
    """
    stage, images, workers = context.stage, len(context.data.train), setup.cluster.workers
    space = limit_space(images, narrow=stage.narrow, lr=lr, configured=setup.space)
    rules = build_feasibility(stage, setup.constraints, context.throughput, images=images, limit_s=context.limit_s)
    trials, deadline = setup.budget.trials, context.deadline
    latest = None if deadline is None else deadline - max(2.0, (context.limit_s or 0) / 4)  # the last trials need time
    storage = _open_study_storage(journal, space, past, stage.objectives)
    search = FeasibleOptunaSearch(
        partial(suggest, space=space),
        context,
        closed=StopCriterion(trials and trials + retried, latest),
        rules=rules,
        storage=storage,
        # enqueued only once, even if the run is killed before its first trial
        points=[] if storage.get_all_studies() else build_first_points(space, rules.fits, setup.tried_first),
        kind=setup.sampler,
        seed=setup.seed,
        past=past,
        unfinished=unfinished,
        ahead=0 if workers == 1 else -(-workers // WORKERS_AHEAD),
    )
    storage.select = select_fitted  # from here on, only the sampler reads ended trials
    return search


def _open_study_storage(
    journal: Path, space: Parameters, past: Sequence[TrialRecord], objectives: Sequence[str]
) -> RunStorage:
    """Return the storage of the search's study, brought to the state of `past`, the trials of the search so far."""
    storage, encode = open_journal(journal), partial(encode_point, space=space)
    reconcile_study(storage, partial(suggest, space=space), past, encode=encode, objectives=objectives)
    return storage
