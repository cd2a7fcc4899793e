"""Read, check and write the search space of the settings file.

Parameters are named like their columns in trials.csv, with a dot: `optim.batch_size`. `unet.width` is the width for one
architecture, `model.width` for all; `adamw.lr` is the learning rate of one optimizer, `optim.lr` of both.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from models.architectures.pretrained import ENCODER_CHOICES
from models.architectures.registry import ARCHITECTURES
from models.config import (
    ConfigError,
    OnlyIf,
    PlainConfig,
    Range,
    Values,
    check_choice,
    check_fields,
    check_type,
    name_nearest,
)
from search.config.encoder_weights import EncoderWeights
from search.config.trial import SECTIONS, OptimConfig, TrialConfig
from search.study.search_space import LR_RANGES, Parameters, build_space, strip_condition

REMOVE = "remove"  # lists parameters that are not searched but keep their defaults
ARCH = "model/arch"
DECIDED = (ARCH, "optim/batch_size")  # their values follow from the budget and the number of images


def read_space(configured: Mapping[str, Any], encoder: EncoderWeights | None = None) -> Parameters:
    """Return the parameters that the user sets, with their values, and those that encoder weights change.

    `configured` gives for each name a list of values, one value, or a table of low, high, log and step (absent keys
    keep their defaults); "remove" lists parameters that are not searched. The weights fix the encoder and add its
    learning rate to the search. Raise ConfigError if a name is unknown or a value is not allowed.
    """
    removed = configured.get(REMOVE, [])
    if not isinstance(removed, list):
        raise ConfigError(f"{REMOVE} = {removed!r} must be a list of parameters")
    if "model.arch" in removed:
        raise ConfigError(f'{REMOVE}: model.arch has no default; name one architecture, such as "model.arch" = "unet"')
    named = {key: plain for key, plain in configured.items() if key != REMOVE} | dict.fromkeys(map(str, removed))
    default, archs = build_space(), tuple(ARCHITECTURES)
    found: dict[str, Any] = {}
    for key, plain in sorted(named.items(), key=lambda item: item[0] != "model.arch"):
        for parameter in _find_parameters(key, archs):
            try:
                found[parameter] = _read_values(parameter, plain, default.get(parameter))
            except ValueError as error:  # raised by a config
                raise ConfigError(f"{key}: {error}") from error
        if key == "model.arch":
            archs = found[ARCH]
    if encoder is None:
        return found
    arch, values = encoder.model["arch"], {n: (value,) for n, value in encoder.model.items() if n != "arch"}
    searched, fixed = ({f"{arch}/{n}": v for n, v in fields.items()} for fields in (ENCODER_CHOICES, values))
    return {**searched, **found, **fixed}


def simplify_space(configured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the differences from the default space, by single parameter; raise ConfigError like `read_space`."""
    default = {**build_space(), **dict.fromkeys(DECIDED)}
    read = {name: values for name, values in read_space(configured).items() if values != default.get(name)}
    return {name.replace("/", "."): _to_plain(strip_condition(values)) for name, values in read.items()}


def list_lines(configured: Mapping[str, Any]) -> list[tuple[str, Any, bool, str]]:
    """Return name, plain values, whether the run chooses them, and description of each parameter."""
    read, lines = read_space(configured), []
    for name, values in build_space(configured=read).items():
        plain = _to_plain(strip_condition(values))
        condition = f" (if {values.field} is {str(values.value).lower()})" if isinstance(values, OnlyIf) else ""
        config, field = _find_config(name)
        unknown = "architecture of the network" if name == ARCH else f"field of {config.__name__}"
        about = _describe_fields(config).get(field, unknown)
        lines.append((name.replace("/", "."), plain, name in DECIDED and name not in read, about + condition))
    return lines


def _find_config(parameter: str) -> tuple[type, str]:
    """Return the config that holds a parameter, and the name of its field."""
    section, _, field = parameter.partition("/")
    if section in ARCHITECTURES:
        return ARCHITECTURES[section].config, field
    return (OptimConfig if section in LR_RANGES else SECTIONS.get(section, TrialConfig)), field


def _list_names() -> dict[str, tuple[str, ...]]:
    """Return the parameters for each name; `model.NAME` stands for that field of all architectures."""
    configs: dict[str, type[PlainConfig]] = {name: each.config for name, each in ARCHITECTURES.items()} | SECTIONS
    names: dict[str, tuple[str, ...]] = {"model.arch": (ARCH,)}
    for section, config in configs.items():
        for field in (f.name for f in dataclasses.fields(config) if f.name != "arch"):  # type: ignore[arg-type]
            names[f"{section}.{field}"] = (f"{section}/{field}",)
            if section in ARCHITECTURES:
                names[f"model.{field}"] = (*names.get(f"model.{field}", ()), f"{section}/{field}")
    rates = {f"{optimizer}.lr": (f"{optimizer}/lr",) for optimizer in LR_RANGES}
    return names | rates | {"optim.lr": tuple(rate for each in rates.values() for rate in each)}


def _find_parameters(key: str, archs: Sequence[Any]) -> tuple[str, ...]:
    """Return the parameters for a name, for `model.` those of `archs`; raise ConfigError if it is unknown."""
    names = _list_names()
    if key not in names:
        advice = name_nearest(key, names, otherwise="--print-config lists all parameters")
        raise ConfigError(f"there is no parameter {key!r}; {advice}")
    left_out = {name for name in ARCHITECTURES if name not in archs} if key.startswith("model.") else set()
    return tuple(parameter for parameter in names[key] if parameter.partition("/")[0] not in left_out)


def _read_values(parameter: str, plain: Any, default: Values | OnlyIf | None) -> Values | OnlyIf:
    """Convert the plain values of a parameter, None to its default; raise ValueError if one is not allowed."""
    config, field = _find_config(parameter)
    usual = getattr(config, field, None) if parameter != ARCH else ""
    if isinstance(plain, Mapping):
        if not isinstance(usual, float):
            raise ConfigError("takes a list of values; a range is for real numbers")
        values: Values = _read_range(plain, strip_condition(default) if default is not None else ())
    else:
        values = _read_list(usual if plain is None else plain, usual)
    condition = {default.field: default.value} if isinstance(default, OnlyIf) else {}
    for value in (values.low, values.high) if isinstance(values, Range) else values:
        _check(parameter, config, {**condition, field: value})
    return OnlyIf(default.field, default.value, values) if isinstance(default, OnlyIf) else values


def _check(parameter: str, config: type, fields: Mapping[str, Any]) -> None:
    """Raise ValueError if a config refuses a value."""
    if parameter == ARCH:
        check_choice("arch", fields["arch"], tuple(ARCHITECTURES))
    else:
        config.from_dict(fields)  # type: ignore[attr-defined]


def _read_range(plain: Mapping[str, Any], default: Values) -> Range:
    keys = tuple(f.name for f in dataclasses.fields(Range))
    check_fields("a range", keys, plain)
    values = {**(dataclasses.asdict(default) if isinstance(default, Range) else {}), **plain}
    if missing := {"low", "high"} - values.keys():
        raise ConfigError(f"a range needs {' and '.join(sorted(missing))}")
    for key, value in plain.items():
        check_type(key, value, key == "log" or 1.0)
    found = Range(**values)
    if not found.low < found.high:
        raise ConfigError(f"low {found.low} must be below high {found.high}; write one value to fix it")
    if found.log and (found.low <= 0 or found.step):
        raise ConfigError(f"log needs a low above 0, not {found.low}, and no step")
    if found.step is not None and not found.step > 0:
        raise ConfigError(f"step {found.step} must be above 0")
    return found


def _read_list(plain: Any, usual: Any) -> tuple[Any, ...]:
    """Return the values of a list, or the one value; `usual`, of the same type, tells a list from a tuple."""
    single = not isinstance(plain, list) or (isinstance(usual, tuple) and not any(isinstance(v, list) for v in plain))
    values = tuple(tuple(v) if isinstance(v, list) else v for v in ([plain] if single else plain))
    if not values:
        raise ConfigError(f"has no value; write at least one value, or list the parameter under {REMOVE!r}")
    if len({repr(value) for value in values}) < len(values):
        raise ConfigError(f"{plain} contains a value twice")
    return values


def _to_plain(values: Values) -> Any:
    if isinstance(values, Range):
        return {k: v for k, v in dataclasses.asdict(values).items() if v is not None and v is not False}
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _describe_fields(config: type) -> dict[str, str]:
    """Return the first sentence of the comment beside or above each field of a class and its bases."""
    found: dict[str, str] = {}
    for each in (each for each in reversed(config.__mro__) if dataclasses.is_dataclass(each)):
        source = inspect.getsource(each)
        beside = re.findall(r"^    (\w+): [^#\n]*  # (.+)$", source, re.M)
        above = re.findall(r"((?:^    # .+\n)+)    (\w+): [^#\n]*$", source, re.M)
        found |= dict(beside) | {name: " ".join(about.replace("# ", "").split()) for about, name in above}
    sentences = {name: re.split(r"\.(?:\s|$)", about)[0] for name, about in found.items()}
    return {name: about[:1].lower() + about[1:] for name, about in sentences.items()}
