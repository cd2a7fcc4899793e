import json

import pytest

from models.architectures.registry import ARCHITECTURES
from models.config import ConfigError
from search.config.trial import OptimConfig, ScheduleConfig, TrialConfig


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_config_round_trips_through_json(arch):
    config = TrialConfig.from_dict({"model": {"arch": arch, "width": 8}, "optim": {"lr": 0.1}})
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_flat_config_names_section_and_field():
    flat = TrialConfig.from_dict({"model": {"arch": "unet"}, "optim": {"lr": 0.125}}).flatten()
    assert flat["model/arch"] == "unet" and flat["optim/lr"] == 0.125 and "loss/mask_pixel" in flat


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model": {"arch": "unet"}, "optim": {"lrr": 1}}, "nearest is 'lr'"),
        ({"model": {"arch": "unet"}, "optimm": {}}, "nearest is 'optim'"),
        ({"model": {"arch": "unett"}}, "unet"),
        ({"model": {"arch": "unet", "widht": 3}}, "nearest is 'width'"),
        ({"optim": {}}, "no section 'model'"),
        ({"model": {"arch": "unet"}, "augment": {"flip": 2}}, "flip"),
        ({"model": {"arch": "unet"}, "augment": {"flop": 1}}, "nearest is 'flip'"),
        ({"model": {"arch": "unet"}, "loss": {"mask_alpha": 3}}, "mask_alpha"),
    ],
)
def test_wrong_config_names_field_and_rule(values, says):
    with pytest.raises(ConfigError, match=says):
        TrialConfig.from_dict(values)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "adam"}, {"lr": 0}, {"weight_decay": -1}, {"momentum": 1}, {"batch_size": 0}, {"clip_norm": -1}],
)
def test_optim_config_rejects(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OptimConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"policy": "linear"}, {"warmup": 1.0}, {"cycles": 0}, {"floor": 1.0}])
def test_schedule_config_rejects(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ScheduleConfig(**wrong)
