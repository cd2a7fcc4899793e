from dataclasses import dataclass

import pytest

from models.architectures.network import Architecture, Network
from models.config import ConfigError, ModelConfig, OnlyIf, PlainConfig, Range, check_choices


@dataclass(frozen=True, kw_only=True)
class ToyConfig(ModelConfig):
    arch: str = "toy"
    deep: bool = False


CHOICES = {"width": (4, 8), "stem_stride": (1, 2), "deep": (False, True)}


def test_complete_table_is_accepted():
    check_choices(ToyConfig, CHOICES, fixed=("head",))
    toy = Architecture(config=ToyConfig, network=Network, choices=CHOICES, fixed=("head",))
    assert toy.name == "toy" and toy.choices["width"] == (4, 8)


@pytest.mark.parametrize(
    ("choices", "fixed", "says"),
    [
        (CHOICES, (), "ToyConfig.head must be either searched or fixed"),
        ({k: v for k, v in CHOICES.items() if k != "deep"}, ("head",), "ToyConfig.deep must be either"),
        (CHOICES, ("head", "deep"), "ToyConfig.deep must be either"),
        ({**CHOICES, "widht": (4, 8)}, ("head",), "no field 'widht'; the nearest is 'width'"),
        ({**CHOICES, "width": (2, 4)}, ("head",), "width=2 must be from 4 to 256"),
        ({**CHOICES, "deep": (0, 1)}, ("head",), "deep=0 must be of type bool"),
        ({**CHOICES, "head": OnlyIf("deep", True, ("tanh",))}, (), "head='tanh' is not one of"),
        ({**CHOICES, "head": OnlyIf("deep", 7, ("sigmoid",))}, (), "deep=7 must be of type bool"),
        ({**CHOICES, "width": Range(4.0, 8.0)}, ("head",), "width=4.0 must be of type int"),
    ],
)
def test_incomplete_or_wrong_table_is_an_error(choices, fixed, says):
    with pytest.raises(ConfigError, match=says):
        check_choices(ToyConfig, choices, fixed)
    with pytest.raises(ConfigError, match=says):
        Architecture(config=ToyConfig, network=Network, choices=choices, fixed=fixed)


def test_architecture_lists_its_widths_and_builds_its_lightest():
    with pytest.raises(ConfigError, match="toy: choices must list values of width"):
        Architecture(
            config=ToyConfig,
            network=Network,
            choices={k: v for k, v in CHOICES.items() if k != "width"},
            fixed=("head", "width"),
        )
    with pytest.raises(ConfigError, match="no field 'deeep'"):
        Architecture(config=ToyConfig, network=Network, choices=CHOICES, fixed=("head",), lightest={"deeep": True})


def test_range_must_lie_within_what_the_config_allows():
    @dataclass(frozen=True, kw_only=True)
    class Share(PlainConfig):
        share: float = 0.5

        def __post_init__(self) -> None:
            if self.share > 1:
                raise ConfigError("share must be at most 1")

    check_choices(Share, {"share": Range(0.0, 1.0)})
    with pytest.raises(ConfigError, match="at most 1"):
        check_choices(Share, {"share": Range(0.0, 1.5)})
