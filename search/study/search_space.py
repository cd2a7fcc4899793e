"""The search space, define-by-run, and the points to try first.

Parameter names are `section/field`, and `arch/field` for the fields of one architecture, so that points and
configurations map onto each other by name. The values of architectures, losses and augmentations are declared where
those are defined (`models.architectures.registry`, `models.losses.registry`, `data.loading.augment`), the others here.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeGuard

import optuna

from data.loading.augment import AUGMENT_CHOICES
from models.architectures.registry import ARCHITECTURES
from models.config import OnlyIf, Range, Values
from models.losses.registry import LOSS_CHOICES
from search.config.recipes import build_recipe
from search.config.trial import ANNEALING_POLICIES, TrialConfig

BATCH_SIZES = (4, 8, 16, 32, 80, 192, 256)  # small sizes are for small data sets; the study used 80, 192 and 256
LR_RANGES = {
    "adamw": (2e-3, 3e-2),  # in a few hundred steps lower rates learn nothing and higher ones diverge
    "sgd": (3e-2, 5e-1),  # ten times the rates of adamw
}
STEPS_PER_EPOCH = (10, 100)  # least and greatest number of optimizer steps in an epoch of the first stage
SLOW_ARCHS = (
    "atrous",
    "resnet18_ed",
)  # in short trials, none of 67 random configurations scored 0.2
WEIGHT_DECAY = Range(1e-5, 1e-1, log=True)  # from no effect in a short run to the largest in use with AdamW
Parameters = Mapping[str, Values | OnlyIf]


def limit_space(
    images: int,
    *,
    narrow: bool,
    lr: Mapping[str, tuple[float, float]] = MappingProxyType(LR_RANGES),
    configured: Parameters = MappingProxyType({}),
) -> Parameters:
    """Return the space for a first stage with that many images.

    A narrow space excludes SLOW_ARCHS, except architectures whose encoder weights are given.
    """
    archs = tuple(n for n in ARCHITECTURES if not (narrow and n in SLOW_ARCHS) or f"{n}/weights" in configured)
    return build_space(archs=archs, batch_sizes=choose_batch_sizes(images), lr=lr, configured=configured)


def choose_batch_sizes(images: int) -> tuple[int, ...]:
    """Return the BATCH_SIZES that give STEPS_PER_EPOCH, or the nearest ones."""
    few, many = STEPS_PER_EPOCH
    enough = [size for size in BATCH_SIZES if few * size <= images]
    return tuple([size for size in enough if images <= many * size] or enough[-1:]) or (max(1, images // few),)


def build_space(
    *,
    archs: tuple[str, ...] = (),
    batch_sizes: tuple[int, ...] = (8, 16, 32),
    lr: Mapping[str, tuple[float, float]] = MappingProxyType(LR_RANGES),
    configured: Parameters = MappingProxyType({}),
) -> Parameters:
    """Return the parameters of the space with their values, within a section in the order of suggestion.

    `archs` restricts the architectures; `lr` gives the range of each optimizer; `configured` are the user's parameters,
    which replace the default ones.
    """
    sections = {name: architecture.choices for name, architecture in ARCHITECTURES.items()}
    sections |= {"loss": LOSS_CHOICES, **{name: {"lr": Range(*bounds, log=True)} for name, bounds in lr.items()}}
    optim: dict[str, Values] = {"name": tuple(LR_RANGES), "weight_decay": WEIGHT_DECAY, "batch_size": batch_sizes}
    sections |= {"optim": optim, "schedule": {"policy": ANNEALING_POLICIES}, "augment": AUGMENT_CHOICES}
    listed = {f"{section}/{name}": values for section, fields in sections.items() for name, values in fields.items()}
    return {"model/arch": archs or tuple(ARCHITECTURES), **listed, **configured}


def suggest(trial: optuna.Trial, space: Parameters) -> TrialConfig:
    """Return the configuration that `trial` suggests."""
    arch = _pick(trial, "model/arch", space)
    model = {"arch": arch, **_pick_fields(trial, arch, space)}
    loss, optim = _pick_fields(trial, "loss", space), _pick_optim(trial, space)
    last = {section: _pick_fields(trial, section, space) for section in ("schedule", "augment")}
    return TrialConfig.from_dict({"model": model, "loss": loss, "optim": optim, **last})


def _pick_fields(trial: optuna.Trial, section: str, space: Parameters, **fields: Any) -> dict[str, Any]:
    """Return the fields of a section; the given `fields` are already picked."""
    for parameter, values in space.items():
        of_section, _, name = parameter.partition("/")
        if of_section != section or name in fields:
            continue
        if not isinstance(values, OnlyIf) or fields.get(values.field) == values.value:
            fields[name] = _pick(trial, parameter, space)
    return fields


def _pick(trial: optuna.Trial, name: str, space: Parameters) -> Any:
    values = strip_condition(space[name])
    if isinstance(values, Range):
        return trial.suggest_float(name, values.low, values.high, log=values.log, step=values.step)
    encoded = {_encode(value): value for value in values}
    return encoded[trial.suggest_categorical(name, tuple(encoded))]


def strip_condition(values: Values | OnlyIf) -> Values:
    """Return the values of a parameter, whether it has a condition or not."""
    return values.values if isinstance(values, OnlyIf) else values


def _encode(value: Any) -> Any:
    """Return a value that Optuna can store; sequences become text."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else value


def _pick_optim(trial: optuna.Trial, space: Parameters) -> dict[str, Any]:
    name = _pick(trial, "optim/name", space)
    values = space[f"{name}/lr"]
    if is_scaled(values):
        lr = scale_lr(trial.suggest_float("optim/lr_scale", 0.0, 1.0), values.low, values.high)
    else:
        lr = _pick(trial, f"{name}/lr", space)
    return _pick_fields(trial, "optim", space, name=name, lr=lr)


def is_scaled(values: Values | OnlyIf) -> TypeGuard[Range]:
    """Return whether a learning rate is searched as a position in its range, which the optimizers share."""
    return isinstance(values, Range) and values.log


def scale_lr(scale: float, low: float, high: float) -> float:
    """Return the learning rate at a position from 0, the lowest, to 1, the highest, on a logarithmic scale.

    Optimizers and architectures share the position, so that TPE models it together with all other parameters.
    """
    return float(f"{low * (high / low) ** scale:.6g}")


def encode_point(config: TrialConfig, space: Parameters) -> dict[str, Any]:
    """Return the point of the space nearest to `config`, by parameter name."""
    arch, optim = config.model.arch, config.optim
    values = {f"{arch}/{name}": value for name, value in config.model.to_dict().items()}
    values |= {"model/arch": arch, f"{optim.name}/lr": optim.lr}
    values |= {name: value for name, value in config.flatten().items() if not name.startswith("model/")}
    point = {name: _find_nearest(values[name], strip_condition(each)) for name, each in space.items() if name in values}
    rates = space[f"{optim.name}/lr"]
    if is_scaled(rates):
        nearest = point.pop(f"{optim.name}/lr")
        point["optim/lr_scale"] = math.log(nearest / rates.low) / math.log(rates.high / rates.low)
    return point


def _find_nearest(value: Any, values: Values) -> Any:
    """Return the encoded value among `values` that is nearest to `value`; the first one if they are not numbers."""
    if isinstance(values, Range):
        value = min(max(value, values.low), values.high)
        if values.step is None:
            return value
        steps = min(round((value - values.low) / values.step), int((values.high - values.low) / values.step + 1e-9))
        on_step = values.low + steps * values.step
        return value if math.isclose(value, on_step, abs_tol=1e-9) else on_step
    encoded, wanted = [_encode(each) for each in values], _encode(value)
    if wanted in encoded:
        return wanted
    if isinstance(value, str | bool | list):
        return encoded[0]
    return min(encoded, key=lambda each: abs(each - value))


def build_first_points(
    space: Parameters, fits: Callable[[TrialConfig], bool], names: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the recipes in the space as points, each at the largest feasible width up to its own.

    Recipes of an architecture whose encoder weights are given come first.
    """
    points = []
    models = {name: build_recipe(name).model for name in names}
    for name, model in sorted(models.items(), key=lambda item: f"{item[1].arch}/weights" not in space):
        if model.arch in list_choices("model/arch", space):
            widths = list_choices(f"{model.arch}/width", space)
            usual = sorted((w for w in widths if w <= model.width), reverse=True)
            recipes = [build_recipe(name, width=w) for w in usual] or [build_recipe(name)]
            points.append(encode_point(next(filter(fits, recipes), recipes[-1]), space))
    return points


def list_choices(name: str, space: Parameters) -> tuple[Any, ...]:
    """Return the values of a parameter that is a list of choices, such as the widths of an architecture."""
    values = strip_condition(space[name])
    assert isinstance(values, tuple)
    return values


def list_smallest_networks(space: Parameters) -> list[TrialConfig]:
    """Return the narrowest networks of every architecture and stem; if these are too large, the whole space is."""
    return [
        TrialConfig.from_dict({"model": {"arch": arch, **fields}})
        for arch in list_choices("model/arch", space)
        for fields in _combine_fields(arch, space)
    ]


def _combine_fields(arch: str, space: Parameters) -> Iterator[dict[str, Any]]:
    """Yield the fields of an architecture at its smallest width and every stem.

    Every other field takes its default and its cheapest value, or all its values if the cheapest one is not in the
    space.
    """
    usual, fields = vars(ARCHITECTURES[arch].config()), {}
    for parameter in (name for name in space if name.startswith(f"{arch}/")):
        name, values = parameter.partition("/")[2], strip_condition(space[parameter])
        listed = (values.low,) if isinstance(values, Range) else values
        lightest = ARCHITECTURES[arch].lightest.get(name, usual[name])
        fields[name] = tuple(v for v in listed if v in (usual[name], lightest)) if lightest in listed else listed
    fields["stem_stride"] = list_choices(f"{arch}/stem_stride", space)
    fields["width"] = (min(list_choices(f"{arch}/width", space)),)
    for combination in itertools.product(*fields.values()):
        yield dict(zip(fields, combination, strict=True))
