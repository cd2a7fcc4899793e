import math
from dataclasses import replace

import pytest

from data.data_module import DataModule
from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.tuning.allocation import (
    GOOD_IMAGES,
    MIN_EPOCHS,
    TYPICAL_MACS,
    StopCriterion,
    allocate,
    choose_micro_batch_size,
    compute_affordable_macs,
    compute_search_cap,
    count_affordable_images,
    count_trainings,
)

SMALL = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2}})
LARGE = TrialConfig.from_dict({"model": {"arch": "unet", "width": 16}})
EXPLORE = Stage(name="explore", kind="search", fraction=0.5, px=32, epochs=2, early_stopping=True)
CONFIRM = Stage(name="confirm", kind="promote", fraction=1.0, px=32, epochs=2, top_k=3)


def test_searcher_closes_at_its_moment(clock):
    assert not StopCriterion(None, clock.now + 60)(10**6)
    assert StopCriterion(None, clock.now)(0)
    assert not StopCriterion(None, None)(10**6)
    assert StopCriterion(3, None)(3) and not StopCriterion(3, None)(2)


def test_no_cap_is_no_limit_and_one_epoch_is_seen_once():
    assert compute_affordable_macs(None, 10**9, 1.0, epochs=9) == math.inf
    assert compute_affordable_macs(10.0, 100, 1e9, epochs=1) == MIN_EPOCHS * compute_affordable_macs(
        10.0, 100, 1e9, epochs=9
    )


def test_large_data_sets_are_cut_to_what_a_trial_can_see():
    fast, stage = MIN_EPOCHS * TYPICAL_MACS * 100, replace(EXPLORE, px=80, epochs=9)
    assert count_affordable_images(10.0, fast, stage) == 1000
    assert count_affordable_images(10.0, fast, replace(stage, px=160)) == 250
    assert count_affordable_images(10.0, fast, replace(stage, epochs=1)) == 1000 * MIN_EPOCHS
    assert count_affordable_images(10.0, fast, replace(stage, macs_factor=4.0)) == 250
    assert count_affordable_images(10.0, 1.0, stage) == 64
    assert count_affordable_images(None, fast, stage) is None


def test_good_trainings_are_counted_by_size_and_speed():
    speed = GOOD_IMAGES * TYPICAL_MACS / 100  # a training takes 100 s at 80 px
    assert count_trainings(300.0, speed, px=80) == pytest.approx(3.0)
    assert count_trainings(300.0, speed, px=160) == pytest.approx(0.75)
    assert count_trainings(None, speed, px=80) == math.inf


def test_more_workers_or_fewer_trials_give_each_trial_more_time():
    assert (
        compute_search_cap(100.0, 4, 25)
        == 2 * compute_search_cap(100.0, 2, 25)
        == compute_search_cap(100.0, 2, 12.5)
        == 16.0
    )


def test_micro_batches_grow_with_memory_and_shrink_with_the_side():
    small, large = (choose_micro_batch_size(SMALL, 80, mib) for mib in (200.0, 2000.0))
    assert 9 <= large / small <= 12  # the weights take their part once
    assert choose_micro_batch_size(SMALL, 160, 2000.0) <= large / 3.5


def test_one_image_is_always_tried_and_no_memory_stated_is_no_limit():
    assert choose_micro_batch_size(LARGE, 160, 1.0) == 1
    assert choose_micro_batch_size(LARGE, 160, None) is None


def test_trial_of_a_search_with_many_workers_takes_half_of_its_stage_at_the_most():
    assert compute_search_cap(100.0, 1000, 25) == 50.0
    assert compute_search_cap(100.0, 1000, 25, least_rounds=1) == 100.0  # a race


def test_larger_networks_are_tried_where_the_budget_is_larger():
    images = [count_affordable_images(10.0, 1e12, replace(EXPLORE, macs_factor=factor)) for factor in (1.0, 4.0)]
    most = [compute_affordable_macs(10.0, n, 1e12, epochs=EXPLORE.epochs) for n in images]
    assert most[1] == pytest.approx(4 * most[0], rel=0.01)


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Let the tiny data set stand for a large one."""
    monkeypatch.setattr("data.data_module.MIN_TRAIN", 3)


@pytest.mark.parametrize(
    ("stage", "trials", "remaining_s", "most", "expected"),
    [
        (EXPLORE, None, 100.0, None, (8.0, 16, 8, 1)),  # a search: 25 full trials on two workers
        (EXPLORE, 2, 100.0, None, (100.0, 16, 8, 1)),
        (CONFIRM, 3, 100.0, None, (50.0, 32, 8, 1)),  # two rounds
        (CONFIRM, 1, 100.0, 9, (100.0, 9, 8, 2)),
        (CONFIRM, 2, -5.0, None, (1.0, 32, 8, 1)),  # its time is over
        (CONFIRM, 2, None, None, (None, 32, 8, 1)),
    ],
)
def test_stage_is_allocated_its_time_images_and_threads(stage, trials, remaining_s, most, expected, tiny_dataset):
    found = allocate(
        stage, remaining_s=remaining_s, trials=trials, workers=2, threads_each=lambda at_once: max(1, 2 // at_once),
        speed=1e12, data=DataModule(tiny_dataset, seed=0), most_images=most,
    )  # fmt: skip
    assert (found.cap_s, found.train_images, found.threads) == (expected[0], expected[1], expected[3])
    assert 0 < found.val_images <= expected[2]


def test_images_of_a_stage_that_promotes_nobody_are_limited_by_its_time(tiny_dataset):
    slow = {"workers": 2, "threads_each": lambda at_once: 1, "speed": 1.0, "data": DataModule(tiny_dataset, seed=0)}
    assert allocate(EXPLORE, remaining_s=1.0, trials=None, **slow).train_images == 16  # fewer than MIN_IMAGES
