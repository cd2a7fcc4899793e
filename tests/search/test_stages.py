"""What stages are given, on a cluster and a clock made up for the test; no Ray is started."""

import time

import pytest

from search import stages
from search.budget import Deadlines, parse_budget
from search.cluster import Cluster
from search.finder import RangeTest, steepest_fall
from search.ladder import Stage
from search.limits import FULL_TRIALS
from search.recipes import recipe
from search.space import LR_RANGES
from search.stages import Means, centred_rates, stage_context, stated
from search.supply import Supply

EXPLORE = Stage(name="explore", fraction=0.5, px=32, epochs=2)
CONFIRM = Stage(name="confirm", fraction=1.0, px=32, epochs=2, enter=3)


@pytest.fixture
def means(tiny_dataset):
    def make(*, left_s=100.0):
        end = time.time() + left_s
        return Means(
            supply=Supply(tiny_dataset, seed=0),
            cluster=Cluster(cpus=2, node_cpus=2, gpus=0, node_memory_mib=1000, dashboard="", local=True),
            speed=1e12,
            budget=parse_budget("5m"),
            deadlines=None if left_s is None else Deadlines(explore=end, confirm=end, final=end, end=end),
            seed=3,
        )

    return make


def test_trials_of_a_stage_share_its_time_in_rounds(means):
    one, five = (stage_context(means(), CONFIRM, trials=trials) for trials in (1, 5))
    assert one.cap_s == pytest.approx(100, abs=3) and five.cap_s == pytest.approx(100 / 3, abs=3)
    assert (one.threads, five.threads) == (2, 1)
    assert one.memory_mib == pytest.approx(600) and five.memory_mib == pytest.approx(300)


def test_trial_of_a_search_takes_a_part_of_its_time(means):
    context = stage_context(means(), EXPLORE, trials=None)
    assert context.cap_s == pytest.approx(100 * 2 / FULL_TRIALS, rel=0.05) and context.threads == 1
    assert len(context.data.train) == 16


def test_stage_whose_time_is_over_still_gives_its_trials_a_moment(means):
    assert stage_context(means(left_s=-50.0), CONFIRM, trials=2).cap_s == 1.0


def test_stage_that_goes_on_keeps_its_images_and_the_time_of_its_trials(means):
    settled = {"train_images": 9, "cap_s": 4.5}
    context = stage_context(means(), EXPLORE, trials=None, settled=settled)
    assert len(context.data.train) == 9 and context.cap_s == 4.5


def test_stated_trials_are_numbered_seeded_and_do_not_race(means):
    configs = [recipe("quick_unet"), recipe("quick_residual")]
    given = means()
    entries = stated(given, stage_context(given, EXPLORE, trials=2), configs)
    assert entries[0].trial_id == "e0001" and entries[0].config == configs[0].to_dict() and not entries[0].racing


def found(count, *, at=-2.0):
    """Return a range test of `count` steps whose loss falls around a rate of 10 ** at."""
    rates = [10 ** (-5 + 5 * i / count) for i in range(count)]
    losses = [1.0 / (1 + (rate / 10**at) ** 2) for rate in rates]
    return RangeTest(rates=rates, losses=losses, fall=steepest_fall(rates, losses))


@pytest.mark.parametrize(
    ("test", "centred"),
    [(found(100), True), (found(30), False), (RangeTest(rates=[0.1] * 100, losses=[1.0] * 100, fall=None), False)],
)
def test_range_is_centred_where_a_test_of_enough_steps_falls(test, centred, means, monkeypatch):
    monkeypatch.setattr(stages, "range_test", lambda *_, **__: test)
    given = means()
    low, high = centred_rates(given, stage_context(given, EXPLORE, trials=None))["adamw"]
    assert ((low, high) != LR_RANGES["adamw"]) == centred
    assert high / low == pytest.approx(LR_RANGES["adamw"][1] / LR_RANGES["adamw"][0])
    if centred:
        assert (low * high) ** 0.5 == pytest.approx(test.suggestion, rel=0.01)


def test_range_is_not_moved_out_of_what_the_space_allows(means, monkeypatch):
    monkeypatch.setattr(stages, "range_test", lambda *_, **__: found(100, at=-4.0))
    given = means()
    low, high = centred_rates(given, stage_context(given, EXPLORE, trials=None))["adamw"]
    assert (low * high) ** 0.5 == pytest.approx(LR_RANGES["adamw"][0])
