"""Options of a run: declared once, parsed from the command line, stored in run.json and read back by --resume."""

import argparse
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from data.runtime.flags import MEANING_FLAGS, parse_whole, read_meaning_flags, to_flag
from data.runtime.storage import is_uri, parse_storage
from search.config.budget import Budget, parse_amount
from search.config.encoder_weights import EncoderWeights, parse_source
from search.config.plugins import hash_by_name
from search.config.stages import FINAL_PX, OBJECTIVES, PX_RANGE, STAGE_PRESETS, Stage, build_stages

if TYPE_CHECKING:  # imports torch
    from search.config.trial import TrialConfig

CONSTRAINTS = "constraints"
MEANING = "meaning of masks, depth and names"
COMPARISONS = "for comparisons"
TABLES = ("score", "stage", "space")  # options that a table of the settings file sets; --set sets one entry
_GROUPS = {
    CONSTRAINTS: "upper limits of the network's cost; a configuration that exceeds one is never trained",
    MEANING: "needed only if neither dataset.json nor the files show the meaning",
    COMPARISONS: "switches for analysis.compare",
}


def _option(help: str, *, default: Any = None, group: str = "", **argument: Any) -> Any:
    """Declare a field that the command line sets by a flag of its name; `argument` goes to argparse."""
    return field(default=default, metadata={"group": group, "argument": {"help": help, **argument}})


def parse_objectives(text: str) -> tuple[str, ...]:
    """Return the names of the objectives, score first; raise ArgumentTypeError if one is unknown or repeated."""
    names = tuple(name.strip() for name in text.split(","))
    if names[0] != "score" or len(set(names)) < len(names) or not set(names) <= set(OBJECTIVES):
        costs = ", ".join(OBJECTIVES[1:])
        raise argparse.ArgumentTypeError(f"{text!r} must begin with score, optionally followed by {costs}")
    return names


def parse_tracker(text: str) -> str:
    """Return `mlflow:URI` or `wandb:PROJECT`; raise ArgumentTypeError for other text, or if the package is missing."""
    kind, _, place = text.partition(":")
    if kind not in ("mlflow", "wandb") or not place:
        raise argparse.ArgumentTypeError(f"{text!r} is neither mlflow:URI nor wandb:PROJECT")
    if importlib.util.find_spec(kind) is None:
        raise argparse.ArgumentTypeError(f'{text!r} needs the package {kind}: pip install -e ".[trackers]"')
    return text


def _switch(help: str, *, default: bool) -> Any:
    return _option(help, default=default, action=argparse.BooleanOptionalAction)


def _limit(help: str, metavar: str = "N") -> Any:
    return _option(help, group=CONSTRAINTS, type=parse_amount, metavar=metavar)


def _meaning(name: str) -> Any:
    return _option(group=MEANING, **MEANING_FLAGS[name])


def _role(folder: str) -> Any:
    return _option(f"sub-folder of the {folder}, if its name does not show its role", metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run. A field with a flag is an option of search/run.py; its help text describes it.

    Every option can also be set in a settings file (`search.command_line.settings`), under the name of its field.
    """

    budget: Budget  # limit for all processes of the run together
    configs: "tuple[TrialConfig, ...]" = ()  # configurations trained instead of a search; empty for a search
    plugins: Mapping[str, str] = field(default_factory=dict)  # hashes of the files of --plugin, by name
    sources: tuple[str, ...] = ()  # --data, if it contains a URI: a process that resumes the run downloads the data
    storage: str | None = _option(
        "object storage for checkpoints, records and packed images, if nodes share no folder; credentials come from "
        "the environment",
        type=parse_storage,
        metavar="s3://BUCKET/PREFIX",
    )
    seed: int = _option("seed of split, search and trials (default 0)", default=0, type=parse_whole(high=2**32 - 1))
    refine: bool = _switch(
        "end the last stage without augmentation, with a fixed balance and twice the mask weight", default=False
    )
    keep: int = _option("also keep N more models from the Pareto front", default=0, type=parse_whole(), metavar="N")
    find_lr: bool = _switch("centre the learning rates of a search by a range test", default=False)
    encoder_weights: EncoderWeights | None = _option(  # noqa: RUF009 - declares the field
        "weights of encoders: a state dict (.safetensors, .pth) of timm's tf_efficientnet_lite0 to 4 for "
        "efficientnet_lite, or of ResNet18 (timm, torchvision) for resnet18_ed",
        type=parse_source,
        metavar="FILE|hf:REPO",
    )
    images: str | None = _role("images")
    masks: str | None = _role("masks")
    depth: str | None = _role("depth")
    workers: int | None = _option(
        "concurrent trials (default: one per core, or as many as share the GPUs)",
        type=parse_whole(1),
        metavar="N",
    )
    gpus: int | None = _option(
        "GPUs of this machine to use (default: all; 0 trains on CPU cores)", type=parse_whole(), metavar="N"
    )
    track: str | None = _option(
        "also report trials to an MLflow server or a Weights & Biases project",
        type=parse_tracker,
        metavar="mlflow:URI|wandb:PROJECT",
    )
    px: int = _option(
        "image size of the final stage in pixels (96 to 512, default 160)",
        default=FINAL_PX,
        type=parse_whole(*PX_RANGE, "a whole number of pixels"),
        metavar="N",
    )
    max_params: float | None = _limit("parameters (250k, 1M)")
    max_macs: float | None = _limit("multiply-adds at the final image size (1.5G)")
    max_latency_ms: float | None = _limit("milliseconds for an image of the final size (one core or GPU)", metavar="MS")
    near: str | None = _meaning("near")
    depth_unit: str | None = _meaning("depth_unit")
    depth_scale: float | None = _meaning("depth_scale")
    missing: tuple[float, ...] | None = _meaning("missing")
    mask_foreground: tuple[float, ...] | None = _meaning("mask_foreground")
    mask_ignored: tuple[float, ...] | None = _meaning("mask_ignored")
    group_size: int | None = _meaning("group_size")
    split: str = _option(
        "split by background (and by foreground if manifest.csv names both), or by image like the study, which leaks; "
        "a split in the data set takes precedence",
        default="background",
        group=COMPARISONS,
        choices=("background", "random"),
    )
    sampler: str = _option("sampler of the search", default="tpe", group=COMPARISONS, choices=("tpe", "random"))
    first: str = _option(
        "tried first by a search: the portfolio, the study's recipes and then the portfolio, or nothing",
        default="portfolio",
        choices=("portfolio", "study", "nothing"),
    )
    objectives: tuple[str, ...] = _option(
        "objectives of the search: the score, followed by costs to minimise (params, macs, latency_ms)",
        default=("score",),
        type=parse_objectives,
        metavar="score[,COST]",
    )
    stages: str = _option(
        "preset of stages; by default the budget chooses between the stages of long runs and a race at the final size; "
        "one_epoch and single are baselines of one-look compare",
        default="default",
        group=COMPARISONS,
        choices=tuple(STAGE_PRESETS),
    )
    score: Mapping[str, float] = field(default_factory=dict)  # weights of the metrics in the score
    stage: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings of stages, instead of the preset's
    space: Mapping[str, Any] = field(default_factory=dict)  # parameters of the search space with the values to try

    @property
    def roles(self) -> dict[str, str]:
        """The named folders of images, masks and depth, by role."""
        named = {"image": self.images, "mask": self.masks, "depth": self.depth}
        return {role: folder for role, folder in named.items() if folder}

    @property
    def limits(self) -> dict[str, float]:
        """The constraints that are set, by name."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("group") == CONSTRAINTS}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def dataset_fields(self) -> dict[str, Any]:
        """The fields of dataset.json that the command line sets."""
        return read_meaning_flags(self)

    def build_stages(self, trainings: float | None) -> tuple[Stage, ...]:
        """Return the stages for a budget of `trainings` full trainings; None without a time budget."""
        return build_stages(
            self.stages,
            trainings=math.inf if trainings is None else trainings,
            refine=self.refine,
            fixed=bool(self.configs),
            px=self.px,
            configured=self.stage,
            tried_first=self.first,
            objectives=self.objectives,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for run.json."""
        own: dict[str, Any] = {"budget": asdict(self.budget), "configs": [config.to_dict() for config in self.configs]}
        own["encoder_weights"] = self.encoder_weights and asdict(self.encoder_weights)
        return own | {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunOptions":
        """Invert `to_dict`; missing options get their defaults."""
        names = {f.name for f in fields(cls)}
        plain: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items() if n in names}
        if values["configs"]:
            from search.config.trial import TrialConfig

            plain["configs"] = tuple(TrialConfig.from_dict(config) for config in values["configs"])
        if plain.get("encoder_weights"):
            plain["encoder_weights"] = EncoderWeights(**plain["encoder_weights"])
        return cls(**plain | {"budget": Budget(**values["budget"])})

    @classmethod
    def from_args(cls, args: argparse.Namespace, *, budget: Budget, configs: "tuple[TrialConfig, ...]") -> "RunOptions":
        """Return the options that were parsed by a parser with `add_options`."""
        plain = {f.name: getattr(args, f.name) for f in fields(cls) if f.metadata or f.name in TABLES}
        plugins = hash_by_name(getattr(args, "plugin", ()))
        data = tuple(map(str, getattr(args, "data", None) or ()))
        sources = data if any(map(is_uri, data)) else ()
        return cls(budget=budget, configs=configs, plugins=plugins, sources=sources, **plain)


def add_options(parser: argparse.ArgumentParser, **groups: argparse._ActionsContainer) -> None:
    """Add an argument for each option; `groups` maps single fields to other groups, such as an exclusive one."""
    titled = {title: parser.add_argument_group(title, text) for title, text in _GROUPS.items()}
    parser.set_defaults(**{name: {} for name in TABLES})
    for f in fields(RunOptions):
        if f.metadata:
            place: argparse._ActionsContainer = groups.get(f.name) or titled.get(f.metadata["group"]) or parser
            place.add_argument(to_flag(f.name), default=f.default, **f.metadata["argument"])
