import optuna
import pytest

from models.config import OnlyIf, Range
from search.config.recipes import NETWORKS, build_recipe
from search.study import space_settings
from search.study.search_space import (
    build_first_points,
    build_space,
    encode_point,
    limit_space,
    list_smallest_networks,
    suggest,
)
from search.study.space_settings import list_lines, read_space, simplify_space

CONFIGURED = {
    "model.arch": ["unet", "atrous"],
    "model.width": [8, 16],
    "atrous.dilations": [2, 4, 8],
    "optim.lr": {"low": 3e-3, "high": 1e-2},
    "optim.momentum": [0.8, 0.95],
    "optim.batch_size": 4,
    "loss.balance": "adaptive",
    "loss.balance_max": [2.0, 3.0],
    "schedule.warmup": {"low": 0.1, "high": 0.4},
    "remove": ["augment.zoom", "augment.flip"],
}


def draw(configured, count=60, *, narrow=False):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    limits = limit_space(160, narrow=narrow, configured=read_space(configured))
    return [suggest(study.ask(), limits) for _ in range(count)]


def test_search_draws_from_what_is_stated_alone():
    configs = draw(CONFIGURED)
    assert {(c.model.arch, c.model.width) for c in configs} == {(a, w) for a in ("unet", "atrous") for w in (8, 16)}
    assert {c.model.dilations for c in configs if c.model.arch == "atrous"} == {(2, 4, 8)}
    assert all(3e-3 <= c.optim.lr <= 1e-2 for c in configs)
    assert {c.optim.momentum for c in configs} == {0.8, 0.95} and {c.optim.batch_size for c in configs} == {4}
    assert {(c.loss.balance, c.loss.balance_max) for c in configs} == {("adaptive", 2.0), ("adaptive", 3.0)}
    warmups = {c.schedule.warmup for c in configs}
    assert len(warmups) == len(configs) and all(0.1 <= w <= 0.4 for w in warmups)
    assert {(c.augment.zoom, c.augment.flip) for c in configs} == {(0.0, 0.5)}  # the defaults of AugmentConfig
    assert {c.augment.blur for c in configs} == {0.0, 0.3}  # not configured


def test_stated_architectures_are_searched_even_if_the_budget_is_small():
    assert {c.model.arch for c in draw({"model.arch": ["atrous"]}, 5, narrow=True)} == {"atrous"}
    assert "atrous" not in {c.model.arch for c in draw({}, narrow=True)}


@pytest.mark.parametrize("configured", [0.01, [0.01], [0.004, 0.02], {"low": 0.001, "high": 0.1, "log": False}])
def test_learning_rate_is_fixed_listed_or_on_a_linear_scale(configured):
    rates = {c.optim.lr for c in draw({"optim.lr": configured}, 30)}
    if isinstance(configured, dict):
        assert all(0.001 <= rate <= 0.1 for rate in rates) and sum(rate > 0.05 for rate in rates) > len(rates) / 4
    else:
        assert rates == set(configured if isinstance(configured, list) else [configured])
    limits = build_space(configured=read_space({"optim.lr": configured}))
    suggested = suggest(optuna.trial.FixedTrial(encode_point(build_recipe("unet"), limits)), limits)
    assert suggested.optim.lr in rates or isinstance(configured, dict)


def test_first_points_lie_in_the_stated_space():
    limits = build_space(configured=read_space(CONFIGURED))
    points = build_first_points(limits, lambda config: True, NETWORKS)
    assert {point["model/arch"] for point in points} == {"unet", "atrous"}
    for point in points:
        config = suggest(optuna.trial.FixedTrial(point), limits)
        assert config.model.width in (8, 16) and config.optim.batch_size == 4 and config.loss.balance == "adaptive"


def test_smallest_networks_are_those_of_the_stated_space():
    configured = {"model.arch": ["unet"], "unet.width": [12, 16], "unet.block": "dilated", "unet.stem_stride": [1]}
    found = [c.model for c in list_smallest_networks(build_space(configured=read_space(configured)))]
    assert {(m.arch, m.width, m.stem_stride, m.block) for m in found} == {("unet", 12, 1, "dilated")}


def test_range_keeps_what_is_not_stated_of_the_default():
    read = read_space({"adamw.lr": {"high": 0.01}, "loss.balance_max": {"high": 4.0}})
    assert read["adamw/lr"] == Range(2e-3, 0.01, log=True)
    assert read["loss/balance_max"] == OnlyIf("balance", "adaptive", Range(2.0, 4.0, log=True))


def test_what_equals_the_default_is_no_change():
    lines = list_lines({})
    assert simplify_space({name: plain for name, plain, is_decided, _ in lines if not is_decided}) == {}
    assert {name for name, _, is_decided, _ in lines if is_decided} == {"model.arch", "optim.batch_size"}
    assert all(about and "\n" not in about for _, _, _, about in lines)
    once = simplify_space(CONFIGURED)
    assert simplify_space(once) == once and read_space(once) == read_space(CONFIGURED)


def test_field_without_a_comment_is_not_described_as_another(monkeypatch):
    monkeypatch.setattr(space_settings, "_describe_fields", lambda config: {})
    about = {name: text for name, _, _, text in list_lines({})}
    assert about["model.arch"] == "architecture of the network" and about["unet.width"] == "field of UNetConfig"
