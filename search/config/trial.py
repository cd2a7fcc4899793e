"""The configuration of a trial: model, loss, optimizer, schedule and augmentation; frozen and validated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.loading.augment import AugmentConfig
from models.architectures.registry import parse_model_config
from models.config import ConfigError, ModelConfig, PlainConfig, check_choice, check_fields
from models.losses.registry import LossConfig
from search.config.plugins import load_inherited_plugins

OPTIMIZERS = ("adamw", "sgd")
ANNEALING_POLICIES = ("one_cycle", "cosine", "triangular2", "one_cycle+triangular2")  # the searched policies
POLICIES = (*ANNEALING_POLICIES, "constant")


@dataclass(frozen=True, kw_only=True)
class OptimConfig(PlainConfig):
    """The optimizer and its step size."""

    name: str = "adamw"  # "adamw" or "sgd" (Nesterov)
    lr: float = 5e-3  # peak learning rate; the schedule scales it
    weight_decay: float = 1e-2  # decoupled for AdamW, L2 for SGD; applied to weights of two or more dimensions only
    momentum: float = 0.9  # beta1 of AdamW, momentum of SGD
    batch_size: int = 16  # images per optimizer step
    clip_norm: float = 1.0  # largest gradient norm; 0 switches clipping off

    def __post_init__(self) -> None:
        check_choice("optim/name", self.name, OPTIMIZERS)
        _require(self.lr > 0, f"optim/lr is {self.lr}; it must be above 0")
        _require(self.weight_decay >= 0, f"optim/weight_decay is {self.weight_decay}; it must not be negative")
        _require(0 <= self.momentum < 1, f"optim/momentum is {self.momentum}; it must be in [0, 1)")
        _require(self.batch_size >= 1, f"optim/batch_size is {self.batch_size}; it must be at least 1")
        _require(self.clip_norm >= 0, f"optim/clip_norm is {self.clip_norm}; it must not be negative")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(PlainConfig):
    """The learning-rate schedule, a function of progress in [0, 1]."""

    policy: str = "one_cycle"  # `one_cycle`, `cosine`, `triangular2`, `one_cycle+triangular2` or `constant`
    warmup: float = 0.25  # fraction of the progress in which the rate rises (one_cycle, cosine)
    cycles: int = 3  # number of triangles (triangular2)
    floor: float = 0.01  # lowest rate as a fraction of the peak

    def __post_init__(self) -> None:
        check_choice("schedule/policy", self.policy, POLICIES)
        _require(0 <= self.warmup < 1, f"schedule/warmup is {self.warmup}; it must be in [0, 1)")
        _require(self.cycles >= 1, f"schedule/cycles is {self.cycles}; it must be at least 1")
        _require(0 <= self.floor < 1, f"schedule/floor is {self.floor}; it must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """All hyperparameters of a trial, excluding data and stage."""

    model: ModelConfig
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return sections of plain values, ready for JSON."""
        return {name: getattr(self, name).to_dict() for name in ("model", *SECTIONS)}

    def flatten(self) -> dict[str, Any]:
        """Return one level with keys `section/field`, as in trials.csv."""
        return {f"{section}/{key}": value for section, part in self.to_dict().items() for key, value in part.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> "TrialConfig":
        """Build a configuration from sections of plain values; raise ConfigError if a name or a value is wrong."""
        check_fields("config", ("model", *SECTIONS), values)
        if "model" not in values:
            raise ConfigError("config has no section 'model'; it needs at least model/arch")
        try:
            model = parse_model_config(values["model"])
            parts: dict[str, Any] = {n: SECTIONS[n].from_dict(values[n], n) for n in SECTIONS if n in values}
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error
        return cls(model=model, **parts)

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> "TrialConfig":
        """Build a configuration from keys `section/field`; the inverse of `flatten`."""
        sections: dict[str, dict[str, Any]] = {}
        for key, value in flat.items():
            section, _, name = key.partition("/")
            sections.setdefault(section, {})[name] = value
        return cls.from_dict(sections)


SECTIONS: dict[str, type[PlainConfig]] = {
    "loss": LossConfig,
    "optim": OptimConfig,
    "schedule": ScheduleConfig,
    "augment": AugmentConfig,
}


def _require(rule: bool, message: str) -> None:
    if not rule:
        raise ConfigError(message)


load_inherited_plugins()  # workers read configurations that use them
