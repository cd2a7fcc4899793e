import re

import pytest

import search.config.constraints
from models.architectures.registry import build_model
from models.config import ConfigError
from models.cost import Throughput, count_macs, probe
from search.config.constraints import TIME, Constraints, Feasibility
from search.config.trial import TrialConfig

SMALL = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2}})
LARGE = TrialConfig.from_dict({"model": {"arch": "unet", "width": 16}})
PARAMS, MACS = probe(SMALL.model).params, count_macs(SMALL.model, 160)


@pytest.fixture
def measured(monkeypatch):
    """Let every network take 8 ms; what was measured is listed."""
    seen = []

    def eight_ms(config, px, *, idle_ms=None):
        seen.append((config, px))
        return 8.0

    monkeypatch.setattr(search.config.constraints, "measure_latency_ms", eight_ms)
    return seen


def test_without_constraints_nothing_is_exceeded(measured):
    assert Constraints(px=160).compute_excess(LARGE) == {} and not measured


@pytest.mark.parametrize(
    ("name", "option", "actual"),
    [("params", "max_params", PARAMS), ("macs", "max_macs", MACS), ("latency_ms", "max_latency_ms", 8.0)],
)
def test_excess_is_the_part_by_which_a_constraint_is_exceeded(name, option, actual, measured):
    assert Constraints(px=160, **{option: actual}).compute_excess(SMALL) == {name: 0.0}
    assert Constraints(px=160, **{option: actual / 3}).compute_excess(SMALL) == {name: pytest.approx(2.0)}
    assert Constraints(px=160, **{option: 2 * actual}).compute_excess(SMALL) == {name: pytest.approx(-0.5)}


def test_multiply_adds_and_latency_are_those_of_the_model_that_comes_out(measured):
    assert count_macs(SMALL.model, 80) < MACS / 3
    assert Constraints(max_macs=MACS, max_latency_ms=8.0, px=80).compute_excess(SMALL)["macs"] < -0.6
    assert measured == [(SMALL.model, 80)]


@pytest.mark.parametrize("broken", [{"max_params": 1000.0}, {"max_macs": 1000.0}])
def test_latency_is_not_measured_where_another_constraint_is_exceeded(broken, measured):
    assert "latency_ms" not in Constraints(px=160, max_latency_ms=1.0, **broken).compute_excess(SMALL) and not measured
    kept = {name: 1e12 for name in broken}
    excess = Constraints(px=160, max_latency_ms=1.0, **kept).compute_excess(SMALL)
    assert excess["latency_ms"] == 7.0 and len(measured) == 1


def test_those_that_keep_all_constraints_are_kept_in_order(measured):
    constraints = Constraints(px=160, max_params=PARAMS, max_macs=MACS, max_latency_ms=8.0)
    assert constraints.select([SMALL, LARGE, SMALL], source="a list") == [SMALL, SMALL]
    assert Constraints(px=160).select([LARGE], source="a list") == [LARGE]


def test_check_measures_no_more_networks_than_it_needs(measured):
    Constraints(px=160, max_latency_ms=8.0).check([LARGE, SMALL, SMALL], source="a list")
    assert len(measured) == 1


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ({"max_params": 100.0}, "--max-params 100:"),
        ({"max_macs": 5e3, "max_params": 1e9}, "--max-params 1,000,000,000 --max-macs 5,000:"),
        ({"max_latency_ms": 0.5}, "--max-latency-ms 0.5:"),
    ],
)
def test_when_none_keeps_them_one_line_names_the_flag_and_the_smallest(limits, asked, measured):
    with pytest.raises(ConfigError) as caught:
        Constraints(px=160, **limits).select([LARGE, SMALL], source="the search space")
    message = str(caught.value)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Constraints(px=160, **limits).check([LARGE, SMALL], source="the search space")
    assert message.startswith(asked) and "no network of the search space meets this" in message
    assert f"{PARAMS:,} parameters" in message and f"{MACS:,} multiply-adds" in message
    assert "8.0 ms at 160 px" in message and "\n" not in message


def test_rules_without_limits_fit_everything():
    rules = Feasibility(px=80, constraints=Constraints(px=160))
    assert rules.fits(LARGE) and rules.compute_excess(LARGE) == {TIME: -1.0}


def test_network_fits_when_a_trial_sees_its_images_in_its_time():
    just = count_macs(SMALL.model, 80) * 100 / 10.0
    for speed, fits in ((1.01 * just, True), (0.99 * just, False)):
        limits = {"px": 80, "images": 100, "limit_s": 10.0, "throughput": Throughput(speed)}
        assert Feasibility(constraints=Constraints(px=160), **limits).fits(SMALL) == fits


def test_one_that_takes_too_long_is_told_as_that_and_its_constraints_are_not_looked_at(measured):
    rules = Feasibility(
        px=80,
        constraints=Constraints(px=160, max_params=1.0, max_latency_ms=1.0),
        throughput=Throughput(count_macs(SMALL.model, 80) * 50),
        images=100,
        limit_s=1.0,
    )
    assert rules.compute_excess(SMALL) == {TIME: pytest.approx(1.0)} and not measured


def test_one_that_is_in_time_may_still_break_a_constraint():
    rules = Feasibility(px=80, constraints=Constraints(px=160, max_params=PARAMS / 2), limit_s=1.0)
    assert rules.compute_excess(SMALL) == {TIME: pytest.approx(-1.0, abs=1e-3), "params": pytest.approx(1.0)}
    assert not rules.fits(SMALL)


def test_params_that_are_counted_without_weights_are_those_of_the_network():
    assert sum(p.numel() for p in build_model(SMALL.model).parameters()) == PARAMS
