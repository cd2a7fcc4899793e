import time

from models.build import build_model
from models.cost import macs
from search.config import TrialConfig
from search.limits import (
    LEAST_EPOCHS,
    TYPICAL_MACS,
    Closing,
    affordable,
    affordable_images,
    explore_cap_s,
    images_at_once,
)


def test_searcher_closes_at_its_moment():
    assert not Closing(None, time.time() + 60)(10**6)
    assert Closing(None, time.time() - 1)(0)
    assert not Closing(None, None)(10**6)


def test_network_is_affordable_when_a_trial_sees_its_data_often_enough():
    config = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2}})
    price = macs(build_model(config.model), 80)[0]
    just = price * 100 * LEAST_EPOCHS / 10.0
    assert affordable(80, cap_s=10.0, images=100, macs_per_s=1.01 * just)(config)
    assert not affordable(80, cap_s=10.0, images=100, macs_per_s=0.99 * just)(config)
    assert affordable(80, cap_s=None, images=10**9, macs_per_s=1.0)(config)


def test_large_data_sets_are_cut_to_what_a_trial_can_see():
    fast = LEAST_EPOCHS * TYPICAL_MACS * 100
    assert affordable_images(10.0, fast) == 1000
    assert affordable_images(10.0, 1.0) == 64
    assert affordable_images(None, fast) is None


def test_more_workers_give_each_trial_more_time():
    assert explore_cap_s(100.0, 4) == 2 * explore_cap_s(100.0, 2) < 100.0


def test_images_at_once_grow_with_memory_and_shrink_with_the_side():
    config = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2}})
    small, large = (images_at_once(config, 80, mib) for mib in (200.0, 2000.0))
    assert 9 <= large / small <= 12  # the weights take their part once
    assert images_at_once(config, 160, 2000.0) <= large / 3.5


def test_one_image_is_always_tried_and_no_memory_stated_is_no_limit():
    config = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4}})
    assert images_at_once(config, 160, 1.0) == 1
    assert images_at_once(config, 160, None) is None
