"""The search space, define-by-run, and the points to try first.

Parameter names are `section/field`, and `arch/field` for the fields of one architecture, so that points and
configurations map onto each other by name. The values of architectures, losses and augmentations are declared where
those are defined (`models.build`, `models.losses.loss`, `data.loading.augment`), the others here.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import optuna

from data.loading.augment import AUGMENT_CHOICES
from models.build import ARCHITECTURES
from models.config import Choices, OnlyIf, Range, Values
from models.losses.loss import LOSS_CHOICES
from search.config.recipes import NETWORKS, build_recipe
from search.config.trial import TrialConfig

POLICIES = ("one_cycle", "cosine", "triangular2", "one_cycle+triangular2")  # those that anneal
BATCH_SIZES = (4, 8, 16, 32, 80, 192, 256)  # from the size for the smallest data sets to the study's 80, 192 and 256
LR_RANGES = {
    "adamw": (2e-3, 3e-2),  # in a few hundred steps lower rates learn nothing and higher ones diverge
    "sgd": (3e-2, 5e-1),  # ten times as high
}
STEPS = (10, 100)  # least and greatest number of optimizer steps in an epoch of the first stage
SLOW_ARCHS = ("atrous", "resnet18_ed")  # of 67 random configurations none reached a score of 0.2 in trials of seconds
WEIGHT_DECAY = Range(1e-5, 1e-1, log=True)  # from no effect in a short run to the largest in use with AdamW


@dataclass(frozen=True, kw_only=True)
class SpaceLimits:
    """Limits of the space that depend on the run."""

    archs: tuple[str, ...] = tuple(ARCHITECTURES)
    batch_sizes: tuple[int, ...] = (8, 16, 32)  # choices that leave enough steps in an epoch of the first stage
    # lowest and highest learning rate of each optimizer
    lr: Mapping[str, tuple[float, float]] = field(default_factory=LR_RANGES.copy)


def limit_space(
    images: int, *, narrow: bool, lr: Mapping[str, tuple[float, float]] = MappingProxyType(LR_RANGES)
) -> SpaceLimits:
    """Return the limits for a first stage with that many images; a narrow space is without SLOW_ARCHS."""
    archs = tuple(name for name in ARCHITECTURES if not (narrow and name in SLOW_ARCHS))
    return SpaceLimits(archs=archs, batch_sizes=choose_batch_sizes(images), lr=lr)


def choose_batch_sizes(images: int) -> tuple[int, ...]:
    """Return the BATCH_SIZES with which an epoch has STEPS, or those that come nearest."""
    few, many = STEPS
    enough = [size for size in BATCH_SIZES if few * size <= images]
    return tuple([size for size in enough if images <= many * size] or enough[-1:]) or (max(1, images // few),)


def suggest(trial: optuna.Trial, limits: SpaceLimits) -> TrialConfig:
    """Return the configuration that `trial` suggests."""
    arch = _pick(trial, "model/arch", limits.archs)
    return TrialConfig.from_dict(
        {
            "model": {"arch": arch, **_pick_fields(trial, arch, ARCHITECTURES[arch].choices)},
            "loss": _pick_fields(trial, "loss", LOSS_CHOICES),
            "optim": _pick_optim(trial, limits),
            "schedule": {"policy": _pick(trial, "schedule/policy", POLICIES)},
            "augment": _pick_fields(trial, "augment", AUGMENT_CHOICES),
        }
    )


def _pick_fields(trial: optuna.Trial, section: str, choices: Choices) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, values in choices.items():
        if isinstance(values, OnlyIf):
            if fields.get(values.field) != values.value:
                continue
            values = values.values
        fields[name] = _pick(trial, f"{section}/{name}", values)
    return fields


def _pick(trial: optuna.Trial, name: str, values: Values) -> Any:
    if isinstance(values, Range):
        return trial.suggest_float(name, values.low, values.high, log=values.log, step=values.step)
    encoded = {_encode(value): value for value in values}
    return encoded[trial.suggest_categorical(name, tuple(encoded))]


def _encode(value: Any) -> Any:
    """Return a value that Optuna can store; sequences become text."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else value


def _pick_optim(trial: optuna.Trial, limits: SpaceLimits) -> dict[str, Any]:
    name = _pick(trial, "optim/name", tuple(LR_RANGES))
    return {
        "name": name,
        "lr": scale_lr(_pick(trial, "optim/lr_scale", Range(0.0, 1.0)), *limits.lr[name]),
        "weight_decay": _pick(trial, "optim/weight_decay", WEIGHT_DECAY),
        "batch_size": _pick(trial, "optim/batch_size", limits.batch_sizes),
    }


def scale_lr(scale: float, low: float, high: float) -> float:
    """Return the learning rate at a position from 0, the lowest, to 1, the highest, on a logarithmic scale.

    Optimizers and architectures share the position, so that TPE models it together with all other parameters.
    """
    return float(f"{low * (high / low) ** scale:.6g}")


def encode_point(config: TrialConfig, limits: SpaceLimits) -> dict[str, Any]:
    """Return the point of the space nearest to `config`, by parameter name."""
    arch, optim = config.model.arch, config.optim
    names = {f"{arch}/{name}": _encode(value) for name, value in config.model.to_dict().items()}
    names |= {name: value for name, value in config.flat().items() if not name.startswith("model/")}
    low, high = limits.lr[optim.name]
    nearest = min(limits.batch_sizes, key=lambda size: abs(size - optim.batch_size))
    shared = {"model/arch": arch, "optim/batch_size": nearest}
    scale = math.log(min(max(optim.lr, low), high) / low) / math.log(high / low)
    return {**names, **shared, "optim/lr_scale": scale}


def build_first_points(
    limits: SpaceLimits, fits: Callable[[TrialConfig], bool], names: Iterable[str]
) -> list[dict[str, Any]]:
    """Return recipes of the space as points, each at the greatest width up to its own that `fits`."""
    points = []
    for name in names:
        network = NETWORKS[name]["model"]
        if network["arch"] in limits.archs:
            widths = [w for w in ARCHITECTURES[network["arch"]].values("width") if w <= network["width"]]
            width = next((w for w in sorted(widths, reverse=True) if fits(build_recipe(name, width=w))), min(widths))
            points.append(encode_point(build_recipe(name, width=width), limits))
    return points


def list_smallest_networks() -> list[TrialConfig]:
    """Return the narrowest networks of every architecture and stem; if these are too large, the whole space is."""
    return [
        TrialConfig.from_dict(
            {"model": {"arch": name, "width": min(family.values("width")), "stem_stride": stem, **fields}}
        )
        for name, family in ARCHITECTURES.items()
        for stem in family.values("stem_stride")
        for fields in ({}, family.lightest)
    ]
