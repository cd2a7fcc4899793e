"""Base class of the configs: strict conversion to and from plain values, and tables of the values that are searched."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

TASKS = ("mask", "depth")  # in the order of the maps that a network returns
MIN_WIDTH, MAX_WIDTH = 4, 256
HEADS = ("sigmoid", "minmax")
STEM_STRIDES = (1, 2, 4)
Config = TypeVar("Config", bound="PlainConfig")


class ConfigError(ValueError):
    """A config cannot be built; the message is one line that says what to change."""


def name_nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return advice on an unknown name: the nearest known name; if none is near, `otherwise` or all known names."""
    names = tuple(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"the nearest is {near[0]!r}" if near else otherwise or f"it is one of {', '.join(names)}"


def check_choice(field: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise ConfigError, which lists the choices, unless `value` is one of them."""
    if value not in choices:
        raise ConfigError(f"{field}={value!r} is not one of {', '.join(map(str, choices))}")


def check_fields(owner: str, names: tuple[str, ...], fields: Mapping[str, Any]) -> None:
    """Raise ConfigError, which names the nearest known key, if a key of `fields` is not in `names`."""
    for key in fields:
        if key not in names:
            raise ConfigError(f"{owner} has no field {key!r}; {name_nearest(key, names)}")


def check_type(field: str, value: Any, default: Any) -> None:
    """Raise ConfigError unless a value is finite and of the default's type; an integer may stand for a float."""
    expected = type(default)
    allowed = (int, float) if expected is float else expected
    if not isinstance(value, allowed) or (isinstance(value, bool) and expected is not bool):
        raise ConfigError(f"{field}={value!r} must be of type {expected.__name__}")
    numbers = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise ConfigError(f"{field} is {value}; it must be finite")


class PlainConfig:
    """Mixin for frozen dataclasses that are converted to and from flat dicts of plain values."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields in order; tuples become lists, so that the dict survives a round trip through JSON."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls: type[Config], fields: Mapping[str, Any], section: str = "") -> Config:
        """Invert `to_dict`; absent fields take their defaults. `section` names the fields in error messages.

        Raise ConfigError if a key is unknown, or a value is not allowed.
        """
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        check_fields(section or cls.__name__, tuple(defaults), fields)
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        for name, value in values.items():
            check_type(f"{section}/{name}" if section else name, value, defaults[name])
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class ImageMoments:
    """Mean and std of red, green and blue in [0, 1], with which images are normalised."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(PlainConfig):
    """Base of the networks' configs."""

    arch: str = ""  # name of the architecture; each config class sets it
    width: int = 16  # channels of the first convolution; the stem ends with four times as many
    head: str = "sigmoid"  # mapping of the two outputs into [0, 1]: `sigmoid`, or `minmax` per image and channel
    stem_stride: int = 1  # factor by which the stem shrinks the image; 2 or 4 make a network several times faster

    def __post_init__(self) -> None:
        expected = type(self).__dataclass_fields__["arch"].default
        if self.arch != expected:
            raise ConfigError(f"arch={self.arch!r} does not belong to {type(self).__name__} ({expected!r})")
        if not MIN_WIDTH <= self.width <= MAX_WIDTH:
            raise ConfigError(f"width={self.width!r} must be from {MIN_WIDTH} to {MAX_WIDTH}")
        check_choice("head", self.head, HEADS)
        check_choice("stem_stride", self.stem_stride, STEM_STRIDES)

    @property
    def image_moments(self) -> ImageMoments | None:
        """Mean and std with which the network's images are normalised; None for those of the training data."""
        return None


@dataclass(frozen=True)
class Range:
    """Real numbers from `low` to `high` that the search tries, on a logarithmic scale or in steps."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


Values = tuple[Any, ...] | Range


@dataclass(frozen=True)
class OnlyIf:
    """Values of a field that is searched only if an earlier field has a certain value."""

    field: str
    value: Any
    values: Values


Choices = Mapping[str, Values | OnlyIf]


def check_choices(config: type[PlainConfig], choices: Choices, fixed: tuple[str, ...] = ()) -> None:
    """Raise ConfigError unless each field is either searched or `fixed`, and the config accepts each value."""
    names = tuple(f.name for f in dataclasses.fields(config) if f.name != "arch")  # type: ignore[arg-type]
    check_fields(config.__name__, names, {**choices, **dict.fromkeys(fixed)})
    for name in names:
        if (name in choices) == (name in fixed):
            raise ConfigError(f"{config.__name__}.{name} must be either searched or fixed: add it to choices or fixed")
    for name, entry in choices.items():
        condition, values = ({entry.field: entry.value}, entry.values) if isinstance(entry, OnlyIf) else ({}, entry)
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            config.from_dict({**condition, name: value})
