"""What every network's config has in common, and the strict way from plain values to a config.

Owns: the base class, the check of field names and choices. Must not know: any one network.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

MIN_WIDTH = 4
HEADS = ("sigmoid", "minmax")
STEM_STRIDES = (1, 2, 4)
Config = TypeVar("Config", bound="PlainConfig")


class ConfigError(ValueError):
    """A config that cannot be built; the message is one line that says what to change."""


def check_choice(field: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise ConfigError unless `value` is one of `choices`.

    Raises:
        ConfigError: It is not; the message lists what is allowed.
    """
    if value not in choices:
        raise ConfigError(f"{field}={value!r} is not one of {', '.join(map(str, choices))}")


def check_fields(what: str, names: tuple[str, ...], fields: Mapping[str, Any]) -> None:
    """Raise ConfigError if `fields` has a key that is not in `names`.

    Raises:
        ConfigError: Names the unknown key and the nearest known one.
    """
    for key in fields:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
            raise ConfigError(f"{what} has no field {key!r}; the nearest is {near[0]!r}")


def check_type(field: str, value: Any, default: Any) -> None:
    """Raise ConfigError unless `value` has the type of the field's default; a whole number may be a real one.

    Raises:
        ConfigError: It has not; the message names the type.
    """
    expected = type(default)
    allowed = (int, float) if expected is float else expected
    if not isinstance(value, allowed) or (isinstance(value, bool) and expected is not bool):
        raise ConfigError(f"{field}={value!r} must be of type {expected.__name__}")


class PlainConfig:
    """Mixin of frozen dataclasses that go to and come from flat dicts of plain values."""

    def to_dict(self) -> dict[str, Any]:
        """All fields in order; tuples as lists, so that the dict equals its JSON."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls: type[Config], fields: Mapping[str, Any]) -> Config:
        """The inverse of `to_dict`; absent fields take their defaults.

        Raises:
            ConfigError: An unknown key, or a value that is not allowed.
        """
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        check_fields(cls.__name__, tuple(defaults), fields)
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        for name, value in values.items():
            check_type(name, value, defaults[name])
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(PlainConfig):
    """Base of the networks' configs.

    Attributes:
        arch: Name in the registry; each family fixes its own.
        width: Channels of the first convolution; the stem ends with four times as many.
        head: How the two outputs come into [0, 1]: `sigmoid`, or `minmax` per image and channel.
        stem_stride: What the stem shrinks the image by; 2 or 4 make a network several times faster.
    """

    arch: str = ""
    width: int = 16
    head: str = "sigmoid"
    stem_stride: int = 1

    def __post_init__(self) -> None:
        expected = type(self).__dataclass_fields__["arch"].default
        if self.arch != expected:
            raise ConfigError(f"arch={self.arch!r} does not belong to {type(self).__name__} ({expected!r})")
        if self.width < MIN_WIDTH:
            raise ConfigError(f"width={self.width!r} must be at least {MIN_WIDTH}")
        check_choice("head", self.head, HEADS)
        check_choice("stem_stride", self.stem_stride, STEM_STRIDES)
