"""Grids: the listed configurations are those that run, and a mistake names its entry."""

import json

import pytest

from models.config import ConfigError
from search.config.recipes import build_recipe, read_grid
from search.config.trial import TrialConfig


@pytest.fixture
def grid(tmp_path):
    def write(content):
        path = tmp_path / "grid.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_grid_runs_a_list_in_its_order(grid):
    configs = read_grid(grid([{"recipe": "residual"}, {"recipe": "unet", "model/width": 8}]))
    assert configs == [build_recipe("residual"), build_recipe("unet", width=8)]


def test_grid_expands_a_product(grid):
    entry = {"recipe": "residual", "model/width": 8, "product": {"optim/lr": [0.1, 0.01], "loss/balance": ["fixed"]}}
    configs = read_grid(grid(entry))
    assert [c.optim.lr for c in configs] == [0.1, 0.01]
    assert {(c.model.width, c.loss.balance, c.model.arch) for c in configs} == {(8, "fixed", "residual")}


def test_grid_takes_the_config_of_a_finished_model(grid):
    config = build_recipe("unet", width=4)
    assert read_grid(grid(config.to_dict())) == [config]
    assert read_grid(grid([{"trial_id": "f0001", "px": 160, "config": config.to_dict()}])) == [config]


def test_grid_with_another_architecture_keeps_the_recipe_but_its_model(grid):
    (config,) = read_grid(grid({"recipe": "unet", "model/arch": "atrous", "model/dilations": [2, 4]}))
    assert config.model.to_dict()["dilations"] == [2, 4] and config.loss == build_recipe("unet").loss
    assert config == TrialConfig.from_flat(config.flatten())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ([], "has no configuration"),
        ([3], "entry 1: 3 is not an object"),
        ([{"model/width": 8}], 'entry 1: names no network; give "recipe" or "model/arch"'),
        ([{"recipe": "unet"}, {"recipe": "net"}], "entry 2: no recipe 'net'; choose from"),
        ([{"recipe": "unet", "optim/lrr": 1}], "entry 1: optim has no field 'lrr'; the nearest is 'lr'"),
        ([{"recipe": "unet", "schedule/policy": "exponential"}], "is not one of one_cycle"),
        ([{"recipe": "unet", "config": 3}], "3 is not an object"),
        ([{"recipe": "unet", "optim/lr": "0.1"}], "optim/lr='0.1' must be of type float"),
        ([{"optim/lr": 0.1}], 'entry 1: names no network; give "recipe" or "model/arch"'),
        ([{"recipe": "unet", "product": {"optim/lr": 0.1}}], '"product" must give a list'),
    ],
)
def test_mistake_in_a_grid_names_its_entry(grid, content, says):
    with pytest.raises(ConfigError) as caught:
        read_grid(grid(content))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_missing_grid_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_grid(tmp_path / "none.json")


@pytest.mark.parametrize("value", ["1e400", "-1e400", "NaN"])
@pytest.mark.parametrize("key", ["optim/lr", "optim/weight_decay", "optim/clip_norm", "schedule/floor"])
def test_value_that_is_not_finite_is_refused(key, value, tmp_path):
    (tmp_path / "grid.json").write_text(f'[{{"recipe": "unet", "{key}": {value}}}]')
    with pytest.raises(ConfigError, match=rf"entry 1: {key} is .*; it must be finite"):
        read_grid(tmp_path / "grid.json")
