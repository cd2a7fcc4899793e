import itertools

import pytest

from models.config import ConfigError
from search.config.trial import POLICIES, ScheduleConfig
from search.training.lr_schedules import compute_peak_fraction, exponential

STEPS = [i / 1000 for i in range(1001)]


@pytest.mark.parametrize("policy", POLICIES)
def test_policy_stays_between_zero_and_its_peak(policy):
    rates = [compute_peak_fraction(ScheduleConfig(policy=policy), p) for p in STEPS]
    assert min(rates) > 0 and max(rates) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "constant"])
def test_policy_ends_at_its_floor(policy):
    assert compute_peak_fraction(ScheduleConfig(policy=policy, floor=0.02), 1.0) == pytest.approx(0.02)


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "triangular2"])
def test_policy_has_no_jump_in_its_course(policy):
    rates = [compute_peak_fraction(ScheduleConfig(policy=policy), p) for p in STEPS]
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 0.02


def test_one_cycle_peaks_after_its_warmup():
    config = ScheduleConfig(policy="one_cycle", warmup=0.3, floor=0.1)
    assert compute_peak_fraction(config, 0.0) == pytest.approx(0.1)
    assert compute_peak_fraction(config, 0.3) == pytest.approx(1.0)
    assert compute_peak_fraction(config, 0.65) == pytest.approx(0.55)


def test_triangular2_halves_each_peak():
    config = ScheduleConfig(policy="triangular2", cycles=2, floor=0.0)
    assert [compute_peak_fraction(config, p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([0, 1, 0, 0.5, 0])


def test_progress_beyond_its_ends_is_clipped():
    config = ScheduleConfig()
    assert compute_peak_fraction(config, -1) == compute_peak_fraction(config, 0)
    assert compute_peak_fraction(config, 2) == compute_peak_fraction(config, 1)


def test_exponential_rises_by_the_same_factor_in_each_step():
    rates = [exponential(p, floor=1e-4) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_exponential_is_no_policy_of_a_trial():
    with pytest.raises(ConfigError, match="schedule/policy"):
        ScheduleConfig(policy="exponential")
