import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from models.architectures.registry import build_model
from models.config import ConfigError
from search.config.recipes import (
    KNOWN,
    LOSSES,
    NETWORKS,
    PORTFOLIO,
    PUBLISHED,
    RECIPES,
    build_recipe,
    describe_cost,
    list_tried_first,
)
from search.config.stages import CONFIRM_FROM


def test_study_is_its_final_network_with_its_loss_policy_and_augmentation():
    config = build_recipe("study")
    assert config == build_recipe("unet") and KNOWN["study"] is RECIPES["unet"]
    assert config.schedule.policy == "one_cycle+triangular2" and config.augment.rotate > 0
    assert (config.loss.mask_alpha, config.loss.mask_structural, config.loss.depth_structural) == (
        0.16,
        *["ms_ssim"] * 2,
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", NETWORKS)
def test_loss_joins_any_network(network, loss):
    config, alone = build_recipe(f"{network}+{loss}", width=4), build_recipe(network, width=4)
    assert {k: config.loss.to_dict()[k] for k in LOSSES[loss]} == LOSSES[loss]
    assert (config.model, config.schedule, config.augment) == (alone.model, alone.schedule, alone.augment)
    assert build_recipe(f"{loss}+{network}", width=4) == alone


def test_network_replaces_a_network_and_the_rest_is_laid_over():
    config = build_recipe("quick_residual+unet")
    assert config.model == build_recipe("unet").model and config.loss == build_recipe("unet").loss
    assert config.optim == build_recipe("quick_residual").optim


def test_joining_leaves_the_recipes_as_they_are():
    before = build_recipe("unet")
    build_recipe("unet+mse_ssim", width=4)
    assert build_recipe("unet") == before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("net", "no recipe 'net'; choose from quick_efficientnet, .*study.*, l1_ms_ssim"),
        ("unet+", "no recipe ''; choose from"),
        ("unet+l2", "no recipe 'l2'"),
        ("mse_ssim", "names no network; join one of quick_efficientnet, .*, like unet.mse_ssim"),
    ],
)
def test_unknown_name_is_the_user_s_mistake(name, says):
    with pytest.raises(ConfigError, match=says):
        build_recipe(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_has_the_study_s_count_of_parameters(name):
    assert sum(p.numel() for p in build_model(build_recipe(name).model).parameters()) == PUBLISHED[name]


def test_command_writes_a_row_a_network(capsys):
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(Path(__file__).parents[3] / "search" / "config" / "recipes.py"), run_name="__main__")
    table, joined = capsys.readouterr().out.strip().split("\n\n")
    lines, parts = table.splitlines(), joined.partition(": ")[2].split(", ")
    assert {*NETWORKS, *parts, "study"} == set(KNOWN)
    assert all(build_recipe(f"unet+{part}") != build_recipe("unet") for part in parts if part != "l1_ms_ssim")
    head, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    columns = list(describe_cost("unet"))
    assert head == columns and set(rule) == {"---"}
    assert [row[0] for row in rows] == list(NETWORKS)
    named = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    for name, count in PUBLISHED.items():
        assert named[name]["parameters"] == named[name]["in the study"] == f"{count:,}"
    assert [named[name]["receptive field"] for name in ("atrous_first", "atrous_second")] == ["120", "80"]
    assert named["resnet18_ed"]["loss"] == "mse_ssim" and named["unet"]["policy"] == "one_cycle+triangular2"


@pytest.mark.parametrize(
    ("first", "trainings", "expected"),
    [
        ("portfolio", 1.0, [*PORTFOLIO]),
        ("portfolio", CONFIRM_FROM, [*PORTFOLIO, *RECIPES]),
        ("portfolio", None, [*PORTFOLIO, *RECIPES]),
        ("study", 1.0, [*RECIPES, *PORTFOLIO]),
        ("nothing", CONFIRM_FROM, []),
    ],
)
def test_study_s_recipes_are_tried_where_there_is_time_or_the_user_asks(first, trainings, expected):
    assert [*list_tried_first(first, trainings=trainings, drawn=False)] == expected


def test_portfolio_is_augmented_more_on_built_in_scenes():
    names = list_tried_first("portfolio", trainings=CONFIRM_FROM, drawn=True)
    assert [*names] == [*(f"{name}+varied" for name in PORTFOLIO), *RECIPES]
    usual, varied = build_recipe(next(iter(PORTFOLIO))), build_recipe(names[0])
    assert varied.augment.zoom > usual.augment.zoom == 0 and replace(varied, augment=usual.augment) == usual
