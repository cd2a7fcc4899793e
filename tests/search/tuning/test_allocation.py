from dataclasses import replace

import pytest

from data.data_module import DataModule
from models.cost import LAUNCHES, LAYER_LAUNCHES, Throughput, count_macs, probe
from search.config.constraints import Constraints
from search.config.recipes import build_recipe
from search.config.stages import Stage, build_stages
from search.config.trial import TrialConfig
from search.tuning.allocation import (
    FULL_TRAINING_IMAGES,
    MIN_EPOCHS,
    TYPICAL_MACS,
    StopCriterion,
    allocate,
    build_feasibility,
    choose_micro_batch_size,
    compute_trial_limit_s,
    count_affordable_images,
    count_measurable_images,
    count_trainings,
    describe_speeds,
    find_slowest,
)
from search.tuning.ray.resources import Cluster, sum_up_nodes

SMALL = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2}})
LARGE = TrialConfig.from_dict({"model": {"arch": "unet", "width": 16}})
EXPLORE = Stage(name="explore", kind="search", fraction=0.5, px=32, epochs=2, early_stopping=True)
CONFIRM = Stage(name="confirm", kind="promote", fraction=1.0, px=32, epochs=2, top_k=3)


def test_searcher_closes_at_its_moment(clock):
    assert not StopCriterion(None, clock.now + 60)(10**6)
    assert StopCriterion(None, clock.now)(0)
    assert not StopCriterion(None, None)(10**6)
    assert StopCriterion(3, None)(3) and not StopCriterion(3, None)(2)


def test_without_a_time_limit_all_networks_fit_and_one_epoch_is_seen_once():
    def rules(limit_s, epochs):
        limits = Constraints(px=160), Throughput(1e9)
        return build_feasibility(replace(EXPLORE, epochs=epochs), *limits, images=100, limit_s=limit_s)

    assert rules(None, 9).fits(LARGE)
    assert (rules(10.0, 1).images, rules(10.0, 9).images) == (100, 100 * MIN_EPOCHS)


def test_large_data_sets_are_cut_to_what_a_trial_can_see():
    fast, stage = Throughput(MIN_EPOCHS * TYPICAL_MACS * 100), replace(EXPLORE, px=80, epochs=9)
    assert count_affordable_images(10.0, fast, stage) == 1000
    assert count_affordable_images(10.0, fast, replace(stage, px=160)) == 250
    assert count_affordable_images(10.0, fast, replace(stage, epochs=1)) == 1000 * MIN_EPOCHS
    assert count_affordable_images(10.0, fast, replace(stage, macs_factor=4.0)) == 250
    assert count_affordable_images(10.0, Throughput(1.0), stage) == 64
    assert count_affordable_images(None, fast, stage) is None


def test_slow_networks_are_measured_on_fewer_images_except_in_a_search():
    speed = Throughput(100 * count_macs(LARGE.model, 32))
    assert count_measurable_images(LARGE, CONFIRM, 10.0, speed) == 300
    assert count_measurable_images(LARGE, CONFIRM, 0.1, speed) == 16
    assert count_measurable_images(LARGE, CONFIRM, None, speed) is None
    assert count_measurable_images(LARGE, EXPLORE, 10.0, speed) is None


def test_full_trainings_are_counted_by_size_and_speed():
    speed = Throughput(FULL_TRAINING_IMAGES * TYPICAL_MACS / 200)  # a training takes 200 s at 80 px
    assert count_trainings(300.0, speed, workers=2, px=80) == pytest.approx(3.0)
    assert count_trainings(300.0, speed, workers=2, px=160) == pytest.approx(0.75)
    assert count_trainings(None, speed, workers=2, px=80) is None


def test_more_workers_or_fewer_trials_give_each_trial_more_time():
    assert (
        compute_trial_limit_s(EXPLORE, 100.0, 4, 4)
        == 2 * compute_trial_limit_s(EXPLORE, 100.0, 2, 2)
        == compute_trial_limit_s(replace(EXPLORE, full_trials=12.5), 100.0, 2, 2)
        == 16.0
    )


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("trainings", [0.1, 0.75, 1.25, 1.75, 2.9])
def test_all_trials_of_a_race_have_equal_time(trainings, workers):
    race = build_stages(trainings=trainings)[0]
    rounds = 100.0 / compute_trial_limit_s(race, 100.0, workers, workers)
    assert rounds == round(rounds) and race.full_trials <= rounds * workers < race.full_trials + workers


def test_micro_batches_grow_with_memory_and_shrink_with_the_side():
    small, large = (choose_micro_batch_size(SMALL, 80, mib) for mib in (200.0, 2000.0))
    assert 9 <= large / small <= 12  # the weights take their part once
    assert choose_micro_batch_size(SMALL, 160, 2000.0) <= large / 3.5


def test_one_image_is_always_tried_and_no_memory_stated_is_no_limit():
    assert choose_micro_batch_size(LARGE, 160, 1.0) == 1
    assert choose_micro_batch_size(LARGE, 160, None) is None


def test_trial_of_a_search_with_many_workers_takes_half_of_its_stage_at_the_most():
    assert compute_trial_limit_s(EXPLORE, 100.0, 1000, 1000) == 50.0
    assert compute_trial_limit_s(replace(EXPLORE, early_stopping=False), 100.0, 1000, 1000) == 100.0  # a race


def test_larger_networks_are_tried_where_the_budget_is_larger():
    speed = Throughput(1e11)
    images = [count_affordable_images(10.0, speed, replace(EXPLORE, macs_factor=factor)) for factor in (1.0, 4.0)]
    rules = [build_feasibility(EXPLORE, Constraints(px=160), speed, images=n, limit_s=10.0) for n in images]
    few, many = (1 + each.compute_excess(LARGE)["time"] for each in rules)
    assert few == pytest.approx(4 * many, rel=0.01)


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Let the tiny data set stand for a large one."""
    monkeypatch.setattr("data.data_module.MIN_TRAIN", 3)


@pytest.mark.parametrize(
    ("stage", "trials", "remaining_s", "most", "expected"),
    [
        (EXPLORE, 2, 100.0, None, (8.0, 16)),  # a search: 25 full trials on two workers
        (replace(EXPLORE, kind="fixed"), 2, 100.0, None, (100.0, 16)),
        (CONFIRM, 3, 100.0, None, (50.0, 32)),  # two rounds
        (CONFIRM, 1, 100.0, 9, (100.0, 9)),
        (CONFIRM, 2, -5.0, None, (1.0, 32)),  # its time is over
        (CONFIRM, 2, None, None, (None, 32)),
    ],
)
def test_stage_is_allocated_its_time_and_images(stage, trials, remaining_s, most, expected, tiny_dataset):
    found = allocate(
        stage, remaining_s=remaining_s, trials=trials, workers=2,
        throughput=Throughput(1e12), data=DataModule(tiny_dataset, seed=0), most_images=most,
    )  # fmt: skip
    assert (found.limit_s, found.train_images) == expected
    assert 0 < found.val_images <= 8


def test_images_of_a_stage_that_promotes_nobody_are_limited_by_its_time(tiny_dataset):
    slow = {"workers": 2, "throughput": Throughput(1.0)}
    data = DataModule(tiny_dataset, seed=0)
    assert allocate(EXPLORE, remaining_s=1.0, trials=2, data=data, **slow).train_images == 16  # below MIN_IMAGES


class ManyImages:
    """A data module of 400,000 images, as the study had."""

    def count_stage_images(self, fraction, most=None):
        train = round(fraction * 320_000)
        return min(train, most or train), 2000


H200 = Throughput(1.4e13, 8e-6)


def plan_hour_on_a_gpu():
    """Return the first stage of an hour on one GPU, what it allocates, and the rules of its search."""
    nodes = sum_up_nodes([{"CPU": 16, "GPU": 1}])
    machine = Cluster(**nodes, dashboard="", local=True).share_gpus(H200, 140_000)
    assert machine.workers == 15
    each = machine.share(H200, machine.workers)
    stage = build_stages(trainings=count_trainings(3600.0, each, workers=machine.workers, px=160))[0]
    allocation = allocate(
        stage, remaining_s=stage.share * 3600, trials=machine.workers, workers=machine.workers,
        throughput=each, data=ManyImages(),
    )  # fmt: skip
    images, limit_s = allocation.train_images, allocation.limit_s
    return stage, allocation, build_feasibility(stage, Constraints(px=160), each, images=images, limit_s=limit_s), each


def test_study_s_unet_fits_an_hour_on_a_gpu():
    stage, allocation, rules, _ = plan_hour_on_a_gpu()
    unet = build_recipe("unet")
    assert count_macs(unet.model, stage.px) > 1.4e9 and allocation.train_images > 10_000
    assert rules.fits(unet)


def test_what_is_rejected_would_take_longer_than_its_time():
    stage, allocation, rules, each = plan_hour_on_a_gpu()
    recipes = [build_recipe(name, width=width) for name in ("unet", "residual") for width in (4, 16, 64, 128)]
    configs = [replace(c, optim=replace(c.optim, batch_size=size)) for c in recipes for size in (1, 16, 256)]
    verdicts = []
    for config in configs:
        found, images = probe(config.model), MIN_EPOCHS * allocation.train_images
        arithmetic_s = images * count_macs(config.model, stage.px) / each.macs_per_s
        launches = images / config.optim.batch_size * (LAUNCHES + LAYER_LAUNCHES * found.layers)
        assert rules.fits(config) == (arithmetic_s + launches * 8e-6 <= allocation.limit_s)
        verdicts.append(rules.fits(config))
    assert {True, False} == set(verdicts)


def test_more_cores_speed_up_arithmetic_and_a_share_of_a_gpu_slows_it_down():
    cores = Cluster(cpus=16, node_cpus=16, gpus=0, node_memory_mib=0, dashboard="", local=True)
    assert cores.share(Throughput(1e9, 2e-5), 2) == Throughput(8e9, 2e-5)
    gpu = replace(cores, gpus=1, trials_per_gpu=2)
    assert gpu.share(H200, 1) == H200 and gpu.share(H200, 2) == Throughput(0.7e13, 8e-6)  # whatever the cores


def test_small_batches_pay_for_the_start_of_operations():
    few, many = (H200.estimate_training_s(SMALL.model, 80, 25_600, size) for size in (1, 256))
    assert few > 100 * many
    assert H200.estimate_training_s(SMALL.model, 80, 8, 256) == H200.estimate_training_s(SMALL.model, 80, 8, 8)


def test_trials_are_planned_for_the_slowest_node_and_unequal_nodes_are_named():
    slow, fast, quick = Throughput(1e9), Throughput(4e9), Throughput(1.2e9)
    assert find_slowest({"a": fast, "b": slow, "c": quick}) is slow
    assert describe_speeds({"a": quick, "b": slow}) == describe_speeds({"a": slow}) == ""
    line = "node b trains at 25% of the speed of a; trials are planned for the slower node"
    assert describe_speeds({"a": fast, "b": slow, "c": quick}) == line
