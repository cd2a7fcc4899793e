"""What each stage is given: images, time, memory and cores for its trials, and the searcher that hands them out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ray import tune

from data.data_module import DataModule
from models.cost import count_macs
from search.budget.allocation import LEAST_MEASURED, StopCriterion, allocate, compute_affordable_macs, compute_trial_cap
from search.budget.budget import Budget, Deadlines
from search.budget.constraints import Constraints, Feasibility
from search.config.recipes import build_recipe
from search.config.trial import TrialConfig
from search.records.trials import TrialRecord, free_numbers
from search.study.resume import ResumedStudy, resume_study
from search.study.space import LR_RANGES, SpaceLimits, build_first_points, choose_batch_sizes, suggest
from search.study.storage import open_journal
from search.training.micro_batches import TrialOutOfMemoryError
from search.training.range_test import STEPS, centre_range, run_range_test
from search.tuning.cluster import Cluster
from search.tuning.searchers import FeasibleOptunaSearch
from search.tuning.stages import Stage
from search.tuning.trainable import StageContext, TrialSpec, new_trial_spec

SPARE = 1.15  # of the time that a training took, for one that is to come to the same end
TESTED_RECIPE = "quick_residual"  # what --find-lr tests: small, and learns in seconds
TEST_SHARE = 0.1  # of the stage's time that one range test takes at most
LrRanges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class RunResources:
    """What a run has to give.

    Attributes:
        supply: Its images.
        cluster: Its cores or GPUs.
        speed: Multiply-adds a second that one worker trains.
        budget: What it may spend.
        deadlines: Of the stages; None where the budget is no time.
        seed: Of the run; every trial draws its own from it.
        constraints: What its networks may cost.
        sampler: Kind of the search's sampler.
    """

    data_module: DataModule
    cluster: Cluster
    speed: float
    budget: Budget
    deadlines: Deadlines | None
    seed: int
    constraints: Constraints
    sampler: str = "tpe"


def stage_context(
    resources: RunResources, stage: Stage, *, trials: int | None, settled: Mapping[str, Any] = MappingProxyType({})
) -> StageContext:
    """Return a stage's data, packed within a quarter of its time, and what each of its trials may use.

    Args:
        resources: What the run may use.
        stage: The rung to prepare.
        trials: How many trials it has; None for a search, which goes on until its time is over.
        settled: `train_images` and `cap_s` where an earlier process or round has settled them: scores of all trials of
            a stage compare, for all have seen the same images.
    """
    cluster, deadline, until = resources.cluster, None, None
    if resources.deadlines is not None:
        deadline = resources.deadlines.stages[stage.name]
        until = time.time() + (deadline - time.time()) / 4
    allocation = allocate(
        stage,
        remaining_s=_remaining_s(deadline),
        trials=trials,
        workers=cluster.workers,
        threads_each=cluster.threads,
        speed=resources.speed,
        data=resources.data_module,
        most_images=settled.get("train_images"),
    )
    data = resources.data_module.stage_data(
        fraction=stage.fraction, px=stage.px, max_images=allocation.train_images, deadline=None if settled else until
    )
    at_once = trials or cluster.workers
    return StageContext(
        stage=stage,
        data=data,
        deadline=deadline,
        cap_s=settled.get("cap_s", compute_trial_cap(stage, _remaining_s(deadline), trials, cluster.workers)),
        threads=allocation.threads,
        device="cuda" if cluster.gpus else "cpu",
        devices=cluster.devices_each(at_once),
        memory_mib=cluster.memory_each(at_once),
        speed=resources.speed * allocation.threads if trials else None,
    )


def _remaining_s(deadline: float | None) -> float | None:
    """Return the seconds until a deadline; None without one."""
    return None if deadline is None else deadline - time.time()


def promoted(
    resources: RunResources,
    context: StageContext,
    parents: Sequence[TrialRecord],
    checkpoints: Mapping[str, tune.Checkpoint],
    *,
    begun: Sequence[TrialRecord] = (),
) -> list[TrialSpec]:
    """Return the entries of trials that go on from the weights of `parents`, with numbers that none of `begun` has."""
    return [
        new_trial_spec(
            context,
            i,
            TrialConfig.from_flat(parent.config).to_dict(),
            seed=resources.seed,
            parent_id=parent.trial_id,
            parent=checkpoints[parent.trial_id],
        )
        for i, parent in zip(free_numbers(begun), parents, strict=False)
    ]


def affordable_repeats(resources: RunResources, stage: Stage, finished: Sequence[TrialRecord], wanted: int) -> int:
    """Return how many of `wanted` trainings, each as long as those of `finished`, the rest of the time allows.

    Args:
        resources: What the run may use.
        stage: That takes what the one below has left.
        finished: Trials that came to their end.
        wanted: At most so many.
    """
    if resources.deadlines is None or not finished:
        return wanted
    left_s = resources.deadlines.stages[stage.name] - time.time()
    work_s = max(float(r.metrics["device_s"]) for r in finished)
    for count in range(wanted, 0, -1):
        rounds = -(-count // resources.cluster.workers)
        if SPARE * rounds * work_s / resources.cluster.devices_each(count) <= left_s:
            return count
    return 0


def has_time(resources: RunResources, stage: Stage, config: TrialConfig, *, trials: int) -> bool:
    """Return whether a trial of a stage has time for a step of its optimizer and the shortest validation.

    Args:
        resources: What the run may use.
        stage: That it would enter.
        config: Its configuration.
        trials: How many the stage would have.
    """
    if resources.deadlines is None:
        return True
    if resources.deadlines.stages[stage.name] < time.time():
        return False
    left_s = _remaining_s(resources.deadlines.stages[stage.name])
    cap_s = compute_trial_cap(stage, left_s, trials, resources.cluster.workers)
    images = config.optim.batch_size + LEAST_MEASURED / 3  # a third of the work is forward
    needed_s = images * count_macs(config.model, stage.px) / (resources.speed * resources.cluster.threads(trials))
    return cap_s is None or needed_s <= cap_s


def stated(
    resources: RunResources, context: StageContext, configs: Sequence[TrialConfig], *, begun: Sequence[TrialRecord] = ()
) -> list[TrialSpec]:
    """Return the entries of configurations that the user stated, less those begun; all train to their end."""
    specs = [
        new_trial_spec(context, i, config.to_dict(), seed=resources.seed) for i, config in enumerate(configs, start=1)
    ]
    there = {record.trial_id for record in begun}
    return [spec for spec in specs if spec.trial_id not in there]


def unfinished(
    context: StageContext,
    records: Sequence[TrialRecord],
    checkpoints: Mapping[str, tune.Checkpoint],
    *,
    racing: bool = False,
) -> list[TrialSpec]:
    """Return the entries of trials that an earlier process began; they go on from their last checkpoint, if any."""
    return [
        TrialSpec(
            trial_id=record.trial_id,
            parent_id=record.parent_id,
            seed=record.seed,
            config=TrialConfig.from_flat(record.config).to_dict(),
            context=context,
            parent=checkpoints.get(record.parent_id),
            own=checkpoints.get(record.trial_id),
            racing=racing,
        )
        for record in records
    ]


def centred_rates(resources: RunResources, context: StageContext) -> LrRanges:
    """Return the space's learning rates, each optimizer's range centred by a range test on the stage's data.

    A test takes a tenth of the stage's time at most. A range stays as it is where the test came to less than half
    of its steps or the loss does not clearly fall.
    """
    limit = None if context.deadline is None else TEST_SHARE * (context.deadline - time.time())
    sizes, ranges = choose_batch_sizes(len(context.data.train)), dict(LR_RANGES)
    for name, (low, high) in LR_RANGES.items():
        config = build_recipe(TESTED_RECIPE)
        config = replace(config, optim=replace(config.optim, name=name, batch_size=sizes[0]))
        found = resources.cluster.call(tested_rate, config, context, resources.seed, limit)
        if found is not None:
            ranges[name] = centre_range(min(max(found, low), high), low, high)
    return ranges


def tested_rate(config: TrialConfig, context: StageContext, seed: int, limit: float | None) -> float | None:
    """Return the learning rate that a range test suggests, if it has something to go by."""
    try:
        test = run_range_test(config, context.data, seed=seed, device=context.device, limit=limit)
    except TrialOutOfMemoryError:
        return None
    return test.suggestion if len(test.rates) >= STEPS / 2 else None


def searched(
    resources: RunResources,
    context: StageContext,
    journal: Path,
    *,
    lr: LrRanges = LR_RANGES,
    past: Sequence[TrialRecord] = (),
    go_on: Sequence[TrialSpec] = (),
) -> tuple[FeasibleOptunaSearch, ResumedStudy]:
    """Return the searcher of the first stage, and what it remembers; it closes early enough for its last trials.

    Args:
        resources: What the run may use.
        context: Of the stage.
        journal: The Optuna study, new or with what it has learnt.
        lr: Range of the learning rate by optimizer.
        past: Trials that it has asked for already.
        go_on: Those of them that have not ended.
    """
    stage, images = context.stage, len(context.data.train)
    limits = SpaceLimits(batch_sizes=choose_batch_sizes(images), lr=lr)
    most_macs = compute_affordable_macs(context.cap_s, images, resources.speed, epochs=stage.epochs)
    rules = Feasibility(constraints=resources.constraints, most_macs=most_macs, px=stage.px)
    latest = None if context.deadline is None else context.deadline - max(2.0, (context.cap_s or 0) / 4)
    space, storage = partial(suggest, limits=limits), open_journal(journal)
    memory = resume_study(storage, space, past)
    search = FeasibleOptunaSearch(
        space,
        context,
        closed=StopCriterion(resources.budget.trials, latest),
        rules=rules,
        storage=storage,
        study_name=memory.study_name,
        # once, even if killed at once
        points=[] if storage.get_all_studies() else build_first_points(limits, rules.fits),
        kind=resources.sampler,
        seed=resources.seed,
        past=past,
        unfinished=go_on,
    )
    return search, memory
