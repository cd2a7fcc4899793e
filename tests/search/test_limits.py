import time

from models.build import build_model
from models.cost import macs
from search.config import TrialConfig
from search.limits import LEAST_EPOCHS, TYPICAL_MACS, Closing, affordable, affordable_images, explore_cap_s


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
