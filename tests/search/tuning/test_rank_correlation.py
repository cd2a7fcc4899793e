"""Rank correlations and means with their intervals, held against scipy and against what must hold of any interval."""

import random

import numpy as np
import pytest
from scipy import stats

import search.tuning.rank_correlation
from search.tuning.rank_correlation import compute_mean_interval, correlate_ranks

LOWER = [0.31, 0.35, 0.30, 0.12, 0.28, 0.33]
UPPER = [0.52, 0.58, 0.49, 0.20, 0.55, 0.51]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Resample less: the tests hold for any number of resamples, and each takes a millisecond."""
    monkeypatch.setattr(search.tuning.rank_correlation, "RESAMPLES", 60)


@pytest.mark.parametrize(("name", "measure"), [("spearman", stats.spearmanr), ("kendall", stats.kendalltau)])
@pytest.mark.parametrize(
    ("lower", "upper"),
    [(LOWER, UPPER), ([1, 2, 3], [10, 20, 30]), ([1, 2, 3, 4], [1, 2, 2, 1]), ([1, 1, 2, 2], [3, 4, 4, 5])],
)
def test_values_are_those_of_scipy(name, measure, lower, upper):
    found = correlate_ranks(lower, upper)
    assert found["trials"] == len(lower)
    assert found[name]["value"] == pytest.approx(measure(lower, upper).statistic)


@pytest.mark.parametrize(("upper", "value", "chance"), [([0.1, 0.2, 0.3, 0.4], 1.0, 1 / 24), ([4, 3, 2, 1], -1.0, 1.0)])
def test_perfect_order_has_no_interval_and_the_chance_of_one_order_among_all(upper, value, chance):
    found = correlate_ranks([1, 2, 3, 4], upper)
    for name in ("spearman", "kendall"):
        assert found[name] == pytest.approx({"value": value, "low": value, "high": value, "chance": chance})


def test_ties_share_their_mean_rank():
    found = correlate_ranks([1, 1, 2], [1, 2, 3])
    assert found["spearman"]["value"] == pytest.approx(3**0.5 / 2)  # of the ranks 1.5, 1.5, 3 and 1, 2, 3
    assert found["kendall"]["value"] == pytest.approx(2 / (2 * 3) ** 0.5)  # tau-b: 2 pairs in order, 1 tied lower


@pytest.mark.parametrize(
    ("lower", "upper"), [([], []), ([1], [1]), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5])]
)
def test_too_few_different_scores_have_no_correlation(lower, upper):
    assert correlate_ranks(lower, upper) is None


def test_interval_contains_the_value_and_lies_between_minus_one_and_one():
    draw = random.Random(0)
    for _ in range(10):
        lower = [draw.random() for _ in range(draw.randint(4, 9))]
        upper = [score + draw.gauss(0, 0.3) for score in lower]
        for name in ("spearman", "kendall"):
            interval = correlate_ranks(lower, upper)[name]
            assert -1 <= interval["low"] <= interval["value"] <= interval["high"] <= 1


def test_interval_shrinks_with_the_number_of_trials():
    draw = np.random.default_rng(0)

    def reach(count):
        lower = draw.normal(size=count)
        interval = correlate_ranks(lower, lower + draw.normal(size=count))["spearman"]
        return interval["high"] - interval["low"]

    assert reach(40) < 0.7 * reach(8)


def test_correlation_repeats_under_a_seed():
    assert correlate_ranks(LOWER, UPPER) == correlate_ranks(LOWER, UPPER)
    assert correlate_ranks(LOWER, UPPER, seed=1) != correlate_ranks(LOWER, UPPER, seed=2)


def test_order_of_the_trials_does_not_change_the_value():
    turned = correlate_ranks(LOWER[::-1], UPPER[::-1])
    assert turned["kendall"]["value"] == correlate_ranks(LOWER, UPPER)["kendall"]["value"]


def test_mean_interval_is_that_of_students_t():
    values = [0.51, 0.55, 0.47]
    found = compute_mean_interval(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found == pytest.approx({"mean": np.mean(values), "low": low, "high": high})


def test_equal_values_have_an_interval_of_no_width_and_a_single_one_has_none():
    assert compute_mean_interval([0.5, 0.5]) == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert compute_mean_interval([0.4]) == {"mean": 0.4}
