import argparse
import json

import pytest

from search.config.budget import parse_budget
from search.config.options import TABLES, RunOptions, add_options
from search.config.recipes import build_recipe

FIVE = parse_budget("5m")


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return RunOptions.from_args(parser.parse_args(arguments), budget=FIVE, configs=())


def test_options_without_arguments_are_the_defaults():
    assert parsed() == RunOptions(budget=FIVE) and parsed().limits == {}


def test_options_come_back_from_run_json():
    options = RunOptions(
        budget=FIVE, configs=(build_recipe("study"),), seed=3, refine=True, max_params=1e6, missing=(0.0,)
    )
    assert RunOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_option_that_an_earlier_run_did_not_have_has_its_default():
    values = parsed("--seed", "7").to_dict()
    del values["keep"]
    assert RunOptions.from_dict(values) == parsed("--seed", "7")


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (("--seed", "7"), "seed", 7),
        (("--refine",), "refine", True),
        (("--px", "224"), "px", 224),
        (("--max-params", "250k"), "limits", {"max_params": 250e3}),
        (("--max-latency-ms", "20", "--max-macs", "1G"), "limits", {"max_macs": 1e9, "max_latency_ms": 20.0}),
        (("--sampler", "random"), "sampler", "random"),
        (("--first", "study"), "first", "study"),
        (("--near", "dark", "--missing", "0,255"), "dataset_fields", {"near": "dark", "missing": [0.0, 255.0]}),
        (("--depth-unit", "m", "--depth-scale", "256"), "dataset_fields", {"depth_unit": "m", "depth_scale": 256.0}),
        (("--mask-foreground", "1,2"), "dataset_fields", {"mask_values": {"foreground": [1.0, 2.0]}}),
        (("--images", "a", "--depth", "c"), "roles", {"image": "a", "depth": "c"}),
    ],
)
def test_option_is_parsed(arguments, field, value):
    assert getattr(parsed(*arguments), field) == value


@pytest.mark.parametrize("px", ["95", "513", "0", "160.0", "-160", "big"])
def test_size_outside_the_range_is_refused_in_one_line(px, capsys):
    with pytest.raises(SystemExit, match="2"):
        parsed("--px", px)
    assert "pixels from 96 to 512" in capsys.readouterr().err or px.startswith("-")


def test_every_option_has_a_flag_or_a_table():
    parser = argparse.ArgumentParser()
    add_options(parser)
    flags = {flag.removeprefix("--").replace("-", "_") for action in parser._actions for flag in action.option_strings}
    assert flags - {"_h", "help", "no_refine", "no_find_lr"} | set(TABLES) == RunOptions(
        budget=FIVE
    ).to_dict().keys() - {
        "budget",
        "configs",
        "plugins",
        "sources",
    }
