import math
import time

import pytest
import torch

import search.budget.constraints
from models.build import build_model
from models.config import ConfigError
from models.cost import count_macs, probe
from search.budget.constraints import (
    LEAST_EPOCHS,
    TIME,
    TYPICAL_MACS,
    Constraints,
    Feasibility,
    StopCriterion,
    affordable_images,
    affordable_macs,
    images_at_once,
    latency,
    search_cap_s,
)
from search.config.trial import TrialConfig

SMALL = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2}})
LARGE = TrialConfig.from_dict({"model": {"arch": "unet", "width": 16}})
PARAMS, MACS = probe(SMALL.model).params, count_macs(SMALL.model, 160)


@pytest.fixture
def measured(monkeypatch):
    """Let every network take 8 ms; what was measured is listed."""
    seen = []

    def eight_ms(config, px):
        seen.append((config, px))
        return 8.0

    monkeypatch.setattr(search.budget.constraints, "latency", eight_ms)
    return seen


def test_searcher_closes_at_its_moment():
    assert not StopCriterion(None, time.time() + 60)(10**6)
    assert StopCriterion(None, time.time() - 1)(0)
    assert not StopCriterion(None, None)(10**6)
    assert StopCriterion(3, None)(3) and not StopCriterion(3, None)(2)


def test_without_constraints_nothing_is_exceeded(measured):
    assert Constraints().excess(LARGE) == {} and not measured


@pytest.mark.parametrize(
    ("name", "stated", "actual"),
    [("params", "max_params", PARAMS), ("macs", "max_macs", MACS), ("latency_ms", "max_latency_ms", 8.0)],
)
def test_excess_is_the_part_by_which_a_constraint_is_exceeded(name, stated, actual, measured):
    assert Constraints(**{stated: actual}).excess(SMALL) == {name: 0.0}
    assert Constraints(**{stated: actual / 3}).excess(SMALL) == {name: pytest.approx(2.0)}
    assert Constraints(**{stated: 2 * actual}).excess(SMALL) == {name: pytest.approx(-0.5)}


def test_multiply_adds_and_latency_are_those_of_the_model_that_comes_out(measured):
    assert count_macs(SMALL.model, 80) < MACS / 3
    assert Constraints(max_macs=MACS, max_latency_ms=8.0, px=80).excess(SMALL)["macs"] < -0.6
    assert measured == [(SMALL, 80)]


@pytest.mark.parametrize("broken", [{"max_params": 1000.0}, {"max_macs": 1000.0}])
def test_latency_is_not_measured_where_another_constraint_is_exceeded(broken, measured):
    assert "latency_ms" not in Constraints(max_latency_ms=1.0, **broken).excess(SMALL) and not measured
    kept = {name: 1e12 for name in broken}
    assert Constraints(max_latency_ms=1.0, **kept).excess(SMALL)["latency_ms"] == 7.0 and len(measured) == 1


def test_those_that_keep_all_constraints_are_kept_in_order(measured):
    constraints = Constraints(max_params=PARAMS, max_macs=MACS, max_latency_ms=8.0)
    assert constraints.keeping([SMALL, LARGE, SMALL], what="a list") == [SMALL, SMALL]
    assert Constraints().keeping([LARGE], what="a list") == [LARGE]


@pytest.mark.parametrize(
    ("stated", "asked"),
    [
        ({"max_params": 100.0}, "--max-params 100:"),
        ({"max_macs": 5e3, "max_params": 1e9}, "--max-params 1,000,000,000 --max-macs 5,000:"),
        ({"max_latency_ms": 0.5}, "--max-latency-ms 0.5:"),
    ],
)
def test_when_none_keeps_them_one_line_names_the_flag_and_the_smallest(stated, asked, measured):
    with pytest.raises(ConfigError) as caught:
        Constraints(**stated).keeping([LARGE, SMALL], what="the search space")
    message = str(caught.value)
    assert message.startswith(asked) and "no network of the search space keeps that" in message
    assert f"{PARAMS:,} parameters" in message and f"{MACS:,} multiply-adds" in message
    assert "8.0 ms at 160 px" in message and "\n" not in message


def test_constraints_come_back_from_plain_values():
    stated = Constraints(max_params=1e6, max_latency_ms=20.0)
    assert Constraints(**stated.to_dict()) == stated


def test_latency_leaves_threads_and_randomness_as_they_were():
    torch.manual_seed(0)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    assert 0 < latency(SMALL, 32) < 1000
    assert torch.equal(torch.random.get_rng_state(), before) and torch.get_num_threads() == threads


def test_rules_without_limits_fit_everything():
    rules = Feasibility(constraints=Constraints())
    assert rules.fits(LARGE) and rules.excess(LARGE) == {TIME: -1.0}


def test_network_fits_when_a_trial_sees_its_data_often_enough():
    just = count_macs(SMALL.model, 80) * 100 * LEAST_EPOCHS / 10.0
    for speed, fits in ((1.01 * just, True), (0.99 * just, False)):
        most = affordable_macs(10.0, 100, speed, epochs=9)
        assert Feasibility(constraints=Constraints(), most_macs=most, px=80).fits(SMALL) == fits


def test_one_that_takes_too_long_is_told_as_that_and_its_constraints_are_not_looked_at(measured):
    rules = Feasibility(
        constraints=Constraints(max_params=1.0, max_latency_ms=1.0), most_macs=count_macs(SMALL.model, 80) / 2
    )
    assert rules.excess(SMALL) == {TIME: pytest.approx(1.0)} and not measured


def test_one_that_is_in_time_may_still_break_a_constraint():
    rules = Feasibility(constraints=Constraints(max_params=PARAMS / 2), most_macs=1e15)
    assert rules.excess(SMALL) == {TIME: pytest.approx(-1.0, abs=1e-3), "params": pytest.approx(1.0)}
    assert not rules.fits(SMALL)


def test_no_cap_is_no_limit_and_one_epoch_is_seen_once():
    assert affordable_macs(None, 10**9, 1.0, epochs=9) == math.inf
    assert affordable_macs(10.0, 100, 1e9, epochs=1) == LEAST_EPOCHS * affordable_macs(10.0, 100, 1e9, epochs=9)


def test_large_data_sets_are_cut_to_what_a_trial_can_see():
    fast = LEAST_EPOCHS * TYPICAL_MACS * 100
    assert affordable_images(10.0, fast, px=80, epochs=9) == 1000
    assert affordable_images(10.0, fast, px=160, epochs=9) == 250
    assert affordable_images(10.0, fast, px=80, epochs=1) == 1000 * LEAST_EPOCHS
    assert affordable_images(10.0, 1.0, px=80, epochs=9) == 64
    assert affordable_images(None, fast, px=80, epochs=9) is None


def test_more_workers_or_fewer_trials_give_each_trial_more_time():
    assert search_cap_s(100.0, 4, 25) == 2 * search_cap_s(100.0, 2, 25) == search_cap_s(100.0, 2, 12.5) == 16.0


def test_images_at_once_grow_with_memory_and_shrink_with_the_side():
    small, large = (images_at_once(SMALL, 80, mib) for mib in (200.0, 2000.0))
    assert 9 <= large / small <= 12  # the weights take their part once
    assert images_at_once(SMALL, 160, 2000.0) <= large / 3.5


def test_one_image_is_always_tried_and_no_memory_stated_is_no_limit():
    assert images_at_once(LARGE, 160, 1.0) == 1
    assert images_at_once(LARGE, 160, None) is None


def test_params_that_are_counted_without_weights_are_those_of_the_network():
    assert sum(p.numel() for p in build_model(SMALL.model).parameters()) == PARAMS


def test_trial_of_a_search_with_many_workers_takes_half_of_its_stage_at_the_most():
    assert search_cap_s(100.0, 1000, 25) == 50.0
