import dataclasses
import json
import math

import optuna
import pytest
import torch

from data.loading.augment import AugmentConfig
from models.architectures.atrous import ATROUS_UPSAMPLERS
from models.architectures.blocks import UPSAMPLERS
from models.architectures.registry import ARCHITECTURES, build_model
from models.architectures.unet import BLOCKS, DECODERS, MERGES
from models.config import STEM_STRIDES, OnlyIf, Range
from models.cost import count_macs, probe
from models.losses.loss import build_loss
from models.losses.registry import BALANCES, NONE, TERMS, list_terms
from models.target import Target
from search.config.recipes import LOSSES, NETWORKS, build_recipe
from search.config.trial import OPTIMIZERS, POLICIES, TrialConfig
from search.study.search_space import (
    LR_RANGES,
    SLOW_ARCHS,
    build_first_points,
    build_space,
    choose_batch_sizes,
    encode_point,
    limit_space,
    list_smallest_networks,
    scale_lr,
    suggest,
)
from search.study.space_settings import read_space

LIMITS = build_space()
STRUCTURAL = (NONE, *list_terms("structural"))
PX = 80
WIDTHS = {name: architecture.choices["width"] for name, architecture in ARCHITECTURES.items()}
DECODER = {"upsample": UPSAMPLERS, "merge": MERGES, "groups": (1, 2, 4), "decoders": DECODERS}
ATROUS = {"upsample": ATROUS_UPSAMPLERS, "dilations": ("2,4,8", "2,3,4")}
OWN = {
    "unet": {**DECODER, "block": BLOCKS, "levels": (3, 4)},
    "resnet18_ed": {**DECODER, "skips": (False, True)},
    "efficientnet_lite": {
        **{name: DECODER[name] for name in ("upsample", "merge", "decoders")},
        "stem_stride": (2,),
        "variant": (0, 1, 2),
        "encoder_stride": (16, 32),
        "frozen_stages": (0, 3),
        "freeze_norm": (False, True),
    },
    "residual": ATROUS,
    "atrous": ATROUS,
}


def own_choices(arch):
    """Return the values of an architecture's own parameters as Optuna stores them."""
    choices = [(name, entry) for name, entry in ARCHITECTURES[arch].choices.items() if not isinstance(entry, Range)]
    values = {name: entry.values if isinstance(entry, OnlyIf) else entry for name, entry in choices}
    return {
        name: tuple(",".join(map(str, v)) if isinstance(v, tuple) else v for v in vs) for name, vs in values.items()
    }


def searched(name, task):
    return name == "none" or task in TERMS[name].searched_for


REGISTRIES = {
    "model/arch": tuple(ARCHITECTURES),
    "loss/mask_pixel": list_terms("pixel"),
    "loss/mask_structural": tuple(name for name in STRUCTURAL if searched(name, "mask")),
    "loss/depth_pixel": list_terms("pixel"),
    "loss/depth_structural": tuple(name for name in STRUCTURAL if searched(name, "depth")),
    "loss/balance": tuple(BALANCES),
    "optim/name": OPTIMIZERS,
    "optim/batch_size": LIMITS["optim/batch_size"],
    "schedule/policy": tuple(set(POLICIES) - {"constant"}),  # it does not anneal
    **{f"{arch}/{name}": values for arch in ARCHITECTURES for name, values in own_choices(arch).items()},
}


@pytest.fixture(scope="module")
def samples():
    """Trials of a random search and what they suggest."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(500)]
    return [(trial, suggest(trial, LIMITS)) for trial in trials]


def test_choices_are_those_of_the_registries(samples):
    written = {name: d for trial, _ in samples for name, d in trial.distributions.items()}
    categorical = {
        n: d.choices for n, d in written.items() if isinstance(d, optuna.distributions.CategoricalDistribution)
    }
    augment = {name: categorical.pop(name) for name in list(categorical) if name.startswith("augment/")}
    assert {name: set(choices) for name, choices in categorical.items()} == {
        name: set(choices) for name, choices in REGISTRIES.items()
    }
    assert set(augment) == {f"augment/{field.name}" for field in dataclasses.fields(AugmentConfig)}
    assert all(off == 0 < on <= 1 for off, on in augment.values())


@pytest.mark.parametrize("arch", OWN)
def test_architecture_s_choices_are_those_of_its_options(arch):
    expected = {"width": WIDTHS[arch], "stem_stride": STEM_STRIDES, **OWN[arch]}
    assert {name: set(values) for name, values in own_choices(arch).items()} == {
        name: set(values) for name, values in expected.items()
    }


def test_losses_are_searched_but_for_dice_of_the_depth():
    assert {(name, task) for name in STRUCTURAL for task in ("mask", "depth") if not searched(name, task)} == {
        ("dice", "depth")  # depth has no inside and outside
    }


def test_every_choice_is_reached(samples):
    seen = {(name, value) for trial, _ in samples for name, value in trial.params.items()}
    assert {(name, value) for name, choices in REGISTRIES.items() for value in choices} <= seen


def test_choices_arrive_in_the_config(samples):
    for trial, config in samples:
        flat, arch = config.flatten(), config.model.arch
        for name, value in trial.params.items():
            section, _, key = name.partition("/")
            if name == "optim/lr_scale":
                assert flat["optim/lr"] == scale_lr(value, *LR_RANGES[config.optim.name])
                continue
            got = flat[f"model/{key}" if section == arch else name]
            assert value == (",".join(map(str, got)) if key == "dilations" else got)


def test_options_that_mean_nothing_are_not_asked_for(samples):
    for trial, config in samples:
        assert ("loss/balance_max" in trial.params) == (config.loss.balance == "adaptive")
        assert ("resnet18_ed/groups" in trial.params) == getattr(config.model, "skips", False)


@pytest.mark.slow
def test_200_random_samples_round_trip_build_and_train_a_step(samples):
    image = torch.randn(1, 3, PX, PX, generator=torch.Generator().manual_seed(0))
    image = image.to(memory_format=torch.channels_last)
    target = torch.rand(1, 1, PX, PX, generator=torch.Generator().manual_seed(1))
    for _, config in samples[:200]:
        assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        model = build_model(dataclasses.replace(config.model, width=4)).move_to("cpu")
        truth = Target((target > 0.9).float(), target, target > 0.1, torch.tensor([True]))
        loss = build_loss(config.loss, PX)(model(image), truth).total
        loss.backward()
        assert math.isfinite(loss.item()), config
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters()), config


@pytest.mark.parametrize("name", NETWORKS)
def test_recipe_as_a_point_comes_back_as_itself(name):
    trial = optuna.trial.FixedTrial(encode_point(build_recipe(name), LIMITS))
    assert suggest(trial, LIMITS) == build_recipe(name)


@pytest.mark.parametrize(
    "name", ["study", *(f"{network}+{loss}" for network in ("residual", "unet") for loss in LOSSES)]
)
def test_study_takes_a_recipe_as_its_next_point(name):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(encode_point(build_recipe(name), LIMITS))
    assert suggest(study.ask(), LIMITS) == build_recipe(name)


def test_recipes_are_tried_first_and_the_space_accepts_them():
    study = optuna.create_study()
    points = build_first_points(LIMITS, lambda config: config.model.width <= 8, NETWORKS)
    for p in points:
        study.enqueue_trial(p)
    asked = [suggest(study.ask(), LIMITS) for _ in points]
    assert [c.model.arch for c in asked] == [known["model"]["arch"] for known in NETWORKS.values()]
    assert [c.model.width for c in asked] == [min(known["model"]["width"], 8) for known in NETWORKS.values()]
    assert asked == [build_recipe(name, width=c.model.width) for name, c in zip(NETWORKS, asked, strict=True)]


def test_first_points_take_the_greatest_width_that_fits():
    points = build_first_points(LIMITS, lambda config: config.model.width < 16, ["unet", "atrous_first"])
    assert [p[f"{p['model/arch']}/width"] for p in points] == [12, 8]


def test_narrow_space_has_neither_slow_architectures_nor_their_recipes():
    narrow, wide = (limit_space(400, narrow=narrow) for narrow in (True, False))
    assert set(wide["model/arch"]) - set(narrow["model/arch"]) == set(SLOW_ARCHS)
    assert narrow["optim/batch_size"] == (4, 8, 16, 32)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {suggest(study.ask(), narrow).model.arch for _ in range(40)}
    tried = {p["model/arch"] for p in build_first_points(narrow, lambda config: True, NETWORKS)}
    assert drawn == tried == set(narrow["model/arch"])


def test_optimizers_share_one_parameter_for_the_learning_rate(samples):
    assert all("optim/lr_scale" in trial.params for trial, _ in samples)
    assert [scale_lr(scale, 2e-3, 3.2e-2) for scale in (0.0, 0.5, 1.0)] == [2e-3, 8e-3, 3.2e-2]
    for _, config in samples:
        assert LR_RANGES[config.optim.name][0] <= config.optim.lr <= LR_RANGES[config.optim.name][1]


def test_channels_can_be_doubled_as_the_study_did():
    assert {16, 32} <= set(WIDTHS["residual"]) and {16, 32} <= set(WIDTHS["atrous"])


@pytest.mark.parametrize("step", [0.01, 0.25, 0.35])
def test_first_points_keep_to_the_steps_that_the_user_configures(step):
    alpha = Range(0.1, 1.0, step=step)
    points = build_first_points(build_space(configured={"loss/mask_alpha": alpha}), lambda _: True, NETWORKS)
    allowed = optuna.distributions.FloatDistribution(0.1, round(0.1 + int(0.9 / step + 1e-9) * step, 12), step=step)
    assert all(allowed._contains(point["loss/mask_alpha"]) for point in points)
    assert {point["loss/mask_alpha"] for point in points} >= ({0.84, 0.5, 0.16, 1.0} if step == 0.01 else set())


def test_value_that_is_on_a_step_but_for_rounding_is_unchanged():
    config, value = build_recipe("quick_unet"), 35 * 0.01
    assert value != 0.35
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, mask_alpha=value))
    assert encode_point(config, build_space())["loss/mask_alpha"] == value


def test_learning_rates_can_be_narrowed_and_points_follow():
    limits = build_space(lr={"adamw": (6e-3, 8e-3), "sgd": (0.1, 0.2)})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for config in (suggest(study.ask(), limits) for _ in range(40)):
        rates = limits[f"{config.optim.name}/lr"]
        assert rates.low <= config.optim.lr <= rates.high
    scales = [encode_point(build_recipe(name), limits)["optim/lr_scale"] for name in ("unet", "quick_unet")]
    assert scales == [0.0, 1.0]  # their rates are 5e-3 and 1e-2
    usual = {name: build_space()[f"{name}/lr"] for name in OPTIMIZERS}
    assert {name: (rates.low, rates.high) for name, rates in usual.items()} == LR_RANGES


@pytest.mark.parametrize(
    ("images", "sizes"),
    [(3, (1,)), (25, (2,)), (160, (4, 8, 16)), (1600, (16, 32, 80)), (40_000, (256,))],
)
def test_batch_sizes_leave_steps_in_an_epoch(images, sizes):
    assert choose_batch_sizes(images) == sizes


def test_no_network_of_the_space_is_smaller_than_the_smallest(samples):
    smallest = list_smallest_networks(build_space())
    narrow = {config.model for _, config in samples if config.model.width == WIDTHS[config.model.arch][0]}
    for cost in (lambda model: probe(model).params, lambda model: count_macs(model, PX)):
        least = min(cost(config.model) for config in smallest)
        assert all(cost(model) >= least for model in sorted(narrow, key=str)[:40])


@pytest.mark.parametrize(
    ("given", "groups", "levels"), [({}, 4, 3), ({"unet.groups": [1, 2]}, 2, 3), ({"unet.levels": [4, 5]}, 4, 4)]
)
def test_smallest_networks_combine_default_and_lightest_values_of_the_space(given, groups, levels):
    space = build_space(configured=read_space({"model.arch": "unet", **given}))
    smallest = [config.model for config in list_smallest_networks(space)]
    light = {"width": 4, "block": "dilated", "merge": "concat", "groups": groups, "levels": levels}
    least = TrialConfig.from_dict({"model": {"arch": "unet", **light}}).model
    assert min(probe(model).params for model in smallest) == probe(least).params
    assert all(getattr(model, name) in own for name, own in own_values(space).items() for model in smallest)


def own_values(space):
    return {name.removeprefix("unet/"): values for name, values in space.items() if name.startswith("unet/")}
