"""The search space, define-by-run, and the points to try first.

Parameter names are `section/field`, and `arch/field` for what only one architecture has, so that a point of the space
and a configuration map onto each other by name. A reason stands beside every range.

Left to grids: the min-max head, which forces a foreground into every picture (measured on real composites: score 0.17
instead of 0.48), 8 groups and a fifth level.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import optuna

from search.config.recipes import RECIPES, STARTERS, build_recipe
from search.config.trial import TrialConfig

ARCHS = ("unet", "resnet18_ed", "residual", "atrous")
WIDTHS = {
    "unet": (4, 6, 8, 12, 16),  # the study: 16; below 4 nothing is learnt
    "resnet18_ed": (4, 8, 16),  # the study: 16; a ResNet18 of the usual width 64 is four times our 16
    "residual": (4, 8, 16, 32),  # the study went from 16 to 32
    "atrous": (4, 8, 16, 32),
}
POLICIES = ("one_cycle", "cosine", "triangular2", "one_cycle+triangular2")  # those that anneal
DILATIONS = ("2,4,8", "2,3,4")  # the study's first and second network
STEMS = (1, 2, 4)  # 1: the study; 2 computes at half the resolution, four times as many images a second
BATCH_SIZES = (4, 8, 16, 32, 80, 192, 256)  # from what the smallest data need to the study's 80, 192 and 256
LR_RANGES = {
    "adamw": (1e-3, 3e-2),  # learns nothing in a few hundred steps below it and blows up above it
    "sgd": (1e-2, 5e-1),  # wants ten times as much
}


@dataclass(frozen=True, kw_only=True)
class SpaceLimits:
    """What the space needs to know of the run.

    Attributes:
        batch_sizes: Choices that leave enough steps in an epoch of the first stage.
        lr: Lowest and highest learning rate of each optimizer.
    """

    batch_sizes: tuple[int, ...] = (8, 16, 32)
    lr: Mapping[str, tuple[float, float]] = field(default_factory=LR_RANGES.copy)


def choose_batch_sizes(images: int) -> tuple[int, ...]:
    """Return the three largest BATCH_SIZES under which an epoch of `images` images has 5 steps or more."""
    fitting = [size for size in BATCH_SIZES if size * 5 <= images]
    return tuple(fitting[-3:]) or (max(1, images // 2),)


def suggest(trial: optuna.Trial, limits: SpaceLimits) -> TrialConfig:
    """Return the configuration that `trial` picks from the space."""
    return TrialConfig.from_dict(
        {
            "model": _model(trial),
            "loss": _loss(trial),
            "optim": _optim(trial, limits),
            "schedule": {"policy": _pick(trial, "schedule/policy", POLICIES)},
            "augment": _augment(trial),
        }
    )


def _pick(trial: optuna.Trial, name: str, choices: tuple[Any, ...]) -> Any:
    return trial.suggest_categorical(name, choices)


def _model(trial: optuna.Trial) -> dict[str, Any]:
    arch = _pick(trial, "model/arch", ARCHS)
    own = partial(_own, trial, arch)
    model = {"arch": arch, "width": own("width", WIDTHS[arch]), "stem_stride": own("stem_stride", STEMS)}
    if arch in ("atrous", "residual"):
        dilations = [int(d) for d in own("dilations", DILATIONS).split(",")]
        return {**model, "dilations": dilations, "upsample": own("upsample", ("pixel_shuffle", "transposed"))}
    if arch == "resnet18_ed":
        model["skips"] = own("skips", (False, True))  # without them the decoder is the study's, which has no options
        return {**model, **_decoder(own)} if model["skips"] else model
    model["block"] = own("block", ("dilated", "plain"))
    model["levels"] = own("levels", (3, 4))  # the study's two; at a fifth an image of 80 px is 3 px wide
    return {**model, **_decoder(own)}


def _decoder(own: Callable[[str, tuple[Any, ...]], Any]) -> dict[str, Any]:
    return {
        "upsample": own("upsample", ("pixel_shuffle", "conv_pixel_shuffle", "transposed", "bilinear")),
        "merge": own("merge", ("concat", "add")),
        "groups": own("groups", (1, 2, 4)),  # of 8 channels at least; 8 groups would not mix them at all
        "decoders": own("decoders", ("shared", "separate")),
    }


def _own(trial: optuna.Trial, arch: str, name: str, choices: tuple[Any, ...]) -> Any:
    return _pick(trial, f"{arch}/{name}", choices)


def _loss(trial: optuna.Trial) -> dict[str, Any]:
    loss: dict[str, Any] = {}
    for task, structures in (("mask", ("none", "dice", "ssim", "ms_ssim")), ("depth", ("none", "ssim", "ms_ssim"))):
        loss[f"{task}_pixel"] = _pick(trial, f"loss/{task}_pixel", ("l1", "mse", "bce"))
        loss[f"{task}_structural"] = _pick(trial, f"loss/{task}_structural", structures)
        # 0 and 1 are single losses, the study's 0.16 lies between
        loss[f"{task}_alpha"] = trial.suggest_float(f"loss/{task}_alpha", 0.0, 1.0, step=0.01)
    # a factor of four either way; beyond it one task starves
    loss["mask_weight"] = trial.suggest_float("loss/mask_weight", 0.25, 4.0, log=True)
    loss["balance"] = _pick(trial, "loss/balance", ("fixed", "adaptive", "uncertainty"))
    if loss["balance"] == "adaptive":  # 1 would be fixed; beyond 8 the depth starves
        loss["balance_max"] = trial.suggest_float("loss/balance_max", 2.0, 8.0, log=True)
    return loss


def _optim(trial: optuna.Trial, limits: SpaceLimits) -> dict[str, Any]:
    name = _pick(trial, "optim/name", ("adamw", "sgd"))
    return {
        "name": name,
        "lr": trial.suggest_float(f"{name}/lr", *limits.lr[name], log=True),
        # from none that a short run feels up to the most that AdamW is used with
        "weight_decay": trial.suggest_float("optim/weight_decay", 1e-5, 1e-1, log=True),
        "batch_size": _pick(trial, "optim/batch_size", limits.batch_sizes),
    }


def _augment(trial: optuna.Trial) -> dict[str, Any]:
    # off, or as often as the study did it; the grid, geometry too, as often as the rotation
    choices = {"flip": 0.5, "rotate": 0.3, "grid_distortion": 0.3, "blur": 0.3}
    choices |= {"brightness_contrast": 0.5, "grayscale": 0.3}
    return {name: _pick(trial, f"augment/{name}", (0.0, probability)) for name, probability in choices.items()}


def encode_point(config: TrialConfig, limits: SpaceLimits) -> dict[str, Any]:
    """Return the point of the space nearest to `config`, by parameter name."""
    arch, optim = config.model.arch, config.optim
    names = {f"{arch}/{name}": value for name, value in config.model.to_dict().items()}
    names |= {name: value for name, value in config.flat().items() if not name.startswith("model/")}
    if f"{arch}/dilations" in names:
        names[f"{arch}/dilations"] = ",".join(str(d) for d in names[f"{arch}/dilations"])
    low, high = limits.lr[optim.name]
    nearest = min(limits.batch_sizes, key=lambda size: abs(size - optim.batch_size))
    shared = {"model/arch": arch, "optim/batch_size": nearest}
    return {**names, **shared, f"{optim.name}/lr": min(max(optim.lr, low), high)}


def build_first_points(limits: SpaceLimits, fits: Callable[[TrialConfig], bool]) -> list[dict[str, Any]]:
    """Return the study's recipes as points, each at the greatest width that `fits`, then the starters."""
    points = []
    for name, sections in (RECIPES | STARTERS).items():
        widths = [w for w in WIDTHS[sections["model"]["arch"]] if w <= sections["model"]["width"]]
        width = next((w for w in sorted(widths, reverse=True) if fits(build_recipe(name, width=w))), min(widths))
        points.append(encode_point(build_recipe(name, width=width), limits))
    return points


def list_smallest_networks() -> list[TrialConfig]:
    """Return the narrowest networks of every family at every stem: if these are too large, so is the whole space."""
    spare: dict[str, dict[str, Any]] = {
        "unet": {"block": "plain", "levels": 3, "groups": 4, "merge": "add", "upsample": "pixel_shuffle"},
        "resnet18_ed": {"skips": True, "groups": 4, "merge": "add", "upsample": "pixel_shuffle"},
    }
    return [
        TrialConfig.from_dict({"model": {"arch": arch, "width": WIDTHS[arch][0], "stem_stride": stem, **own}})
        for arch in ARCHS
        for stem in STEMS
        for own in ({}, spare.get(arch, {}))
    ]
