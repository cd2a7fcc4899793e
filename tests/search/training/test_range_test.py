import dataclasses
import math

import numpy as np
import pytest
import torch

from data.data_module import DataModule
from search.training import lr_finder as range_test
from search.training.lr_finder import TEST_RANGES, RangeTest, centre_range, find_steepest_slope, run_range_test
from search.training.trainer import FitPlan, fit

RATES = np.geomspace(1e-5, 1.0, 100)


def curve(noise, *, middle=-2.5, seed=0):
    """Return losses that fall around a rate of 10 to the `middle` and rise again two decades above."""
    logs = np.log10(RATES)
    fall = 1 / (1 + np.exp(-4 * (logs - middle)))
    rise = np.exp(3 * (logs - middle - 2))
    return 1.2 - 0.5 * fall + 0.2 * rise + np.random.default_rng(seed).normal(0, noise, len(RATES))


def found(losses, rates=RATES):
    return RangeTest(rates=list(rates), losses=list(losses), steepest=find_steepest_slope(rates, losses))


@pytest.mark.parametrize("middle", [-3.5, -2.5, -1.5])
@pytest.mark.parametrize(("noise", "factor"), [(0.0, 1.2), (0.05, 2.0)])
def test_suggestion_is_where_the_loss_falls_fastest(middle, noise, factor):
    suggestion = found(curve(noise, middle=middle)).suggestion
    assert 10**middle / factor < suggestion < 10**middle * factor


def test_noise_alone_is_seldom_taken_for_a_fall():
    rng = np.random.default_rng(0)
    suggested = [found(rng.normal(1, 0.1, 100)).suggestion is not None for _ in range(100)]
    assert sum(suggested) <= 4


@pytest.mark.parametrize("losses", [np.linspace(1, 2, 100), np.ones(100), np.ones(7), []])
def test_no_suggestion_where_nothing_falls(losses):
    assert found(losses, RATES[: len(losses)]).suggestion is None


def trained_loss(config, data, lr):
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, lr=lr))
    reports = []
    fit(config, data, FitPlan(epochs=10), report=lambda metrics, state: reports.append(metrics))
    return reports[-1]["train_total"]


def test_suggested_rate_trains_better_than_a_hundredth_of_it(fit_data, small_config):
    reported = []
    test = run_range_test(small_config, fit_data, steps=80, progress=lambda done, total: reported.append((done, total)))
    low, high = TEST_RANGES["adamw"]
    assert test.rates[0] == pytest.approx(low) and 0.8 * high < test.rates[-1] < high
    assert len(test.rates) == len(test.losses) == 80 and reported[-1] == (80, 80)
    assert low < test.suggestion < high
    better, worse = (trained_loss(small_config, fit_data, lr) for lr in (test.suggestion, test.suggestion / 100))
    assert better < 0.9 * worse


def test_first_validation_image_need_not_have_what_counts_in_the_score(partial_datasets, small_config):
    modules = (DataModule(partial_datasets["mixed"], seed=seed, weights={"iou": 1.0}) for seed in range(20))
    stages = (module.load_stage_data(fraction=1.0, px=32) for module in modules)
    data = next(stage for stage in stages if not stage.val.gather(np.array([0])).mask_known[0])
    assert len(run_range_test(small_config, data, steps=4).losses) == 4


def run_scripted(monkeypatch, small_config, fit_data, losses):
    """Return the range test of a training that gives these losses."""

    def fake(config, data, plan, *, report, on_step, limit_s, policy):
        for rate, loss in zip(RATES, losses, strict=False):
            on_step(float(rate), torch.tensor(loss))

    monkeypatch.setattr(range_test, "fit", fake)
    return run_range_test(small_config, fit_data)


@pytest.mark.parametrize("sign", [1.0, -1.0])  # a learnt balance may make a loss negative
def test_range_test_ends_when_the_loss_explodes(monkeypatch, small_config, fit_data, sign):
    losses = [sign * 1.0] * 40 + [1.0 + 0.5 * i for i in range(60)]
    test = run_scripted(monkeypatch, small_config, fit_data, losses)
    assert 40 < len(test.losses) < 60


def test_range_test_ends_when_the_loss_is_no_number(monkeypatch, small_config, fit_data):
    test = run_scripted(monkeypatch, small_config, fit_data, [1.0] * 30 + [math.nan] * 70)
    assert len(test.losses) == 30 and test.suggestion is None


def test_range_keeps_its_width_around_the_suggestion():
    low, high = centre_range(2e-2, 1e-3, 3e-2)
    assert high / low == pytest.approx(30) and low * high == pytest.approx(4e-4)
