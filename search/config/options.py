"""Options of a run: declared once, parsed from the command line, stored in run.json and read back by --resume."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from data.flags import MEANING_FLAGS, parse_whole, read_meaning_flags, to_flag
from search.config.budget import Budget, parse_amount
from search.config.encoder import EncoderWeights, parse_source
from search.config.plugins import hash_by_name
from search.config.stages import FINAL_PX, PX_RANGE, STAGE_PRESETS, Stage, build_stages

if TYPE_CHECKING:  # imports torch
    from search.config.trial import TrialConfig

CONSTRAINTS = "constraints"
MEANING = "meaning of masks, depth and names"
COMPARISONS = "for comparisons"
_GROUPS = {
    CONSTRAINTS: "upper limits of the network's cost; a configuration that exceeds one is never trained",
    MEANING: "where dataset.json leaves it open and the files do not show it",
    COMPARISONS: "switches with which analysis.compare compares methods",
}


def _option(flag: str, *, default: Any = None, group: str = "", **argument: Any) -> Any:
    """Declare a field that the command line sets by `flag`; `argument` goes to argparse."""
    return field(default=default, metadata={"flag": flag, "group": group, "argument": argument})


def _meaning(name: str) -> Any:
    return _option(to_flag(name), group=MEANING, **MEANING_FLAGS[name])


def _table(description: str) -> Any:
    """Declare a field that a table of the settings file sets, and --set one entry of it."""
    return field(default_factory=dict, metadata={"table": description})


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run. A field with a flag is an option of search/run.py; its help text describes it.

    Every option can also be stated in a settings file (`search.settings`), under the name of its field.
    """

    budget: Budget  # what all processes of the run may spend together
    configs: "tuple[TrialConfig, ...]" = ()  # configurations trained instead of a search; empty for a search
    # hashes of the user's files with architectures and losses, by name
    plugins: Mapping[str, str] = field(default_factory=dict, metadata={"option": "--plugin"})
    seed: int = _option(
        "--seed", default=0, type=parse_whole(high=2**32 - 1), help="seed of split, search and trials (default 0)"
    )
    refine: bool = _option(
        "--refine",
        default=True,
        action=argparse.BooleanOptionalAction,
        help="end the last stage without augmentation and with more weight on the mask",
    )
    keep: int = _option(
        "--keep", default=0, type=parse_whole(), metavar="N", help="also keep N other models of the Pareto front"
    )
    find_lr: bool = _option(
        "--find-lr",
        default=False,
        action=argparse.BooleanOptionalAction,
        help="centre the learning rates of a search by a range test",
    )
    encoder_weights: EncoderWeights | None = _option(  # noqa: RUF009 - declares the field
        "--encoder-weights",
        type=parse_source,
        metavar="FILE|hf:REPO",
        help="weights of encoders: a state dict (.safetensors, .pth) of timm's tf_efficientnet_lite0 to 4 "
        "for efficientnet_lite, or of ResNet18 (timm, torchvision) for resnet18_ed",
    )
    images: str | None = _option(
        "--images", metavar="NAME", help="sub-folder of the images, if its name does not say so"
    )
    masks: str | None = _option("--masks", metavar="NAME", help="sub-folder of the masks, if its name does not say so")
    depth: str | None = _option("--depth", metavar="NAME", help="sub-folder of the depth, if its name does not say so")
    workers: int | None = _option(
        "--workers",
        type=parse_whole(1),
        metavar="N",
        help="trials at the same time (default: one per core, or four per GPU)",
    )
    gpus: int | None = _option(
        "--gpus",
        type=parse_whole(),
        metavar="N",
        help="GPUs of this machine to use (default: all; 0 trains on the cores)",
    )
    px: int = _option(
        "--px",
        default=FINAL_PX,
        type=parse_whole(*PX_RANGE, "a whole number of pixels"),
        metavar="N",
        help="side of the final images in pixels (96 to 512, default 160)",
    )
    max_params: float | None = _option(
        "--max-params", group=CONSTRAINTS, type=parse_amount, metavar="N", help="parameters (250k, 1M)"
    )
    max_macs: float | None = _option(
        "--max-macs", group=CONSTRAINTS, type=parse_amount, metavar="N", help="multiply-adds of one final image (1.5G)"
    )
    max_latency_ms: float | None = _option(
        "--max-latency-ms", group=CONSTRAINTS, type=parse_amount, metavar="MS", help="milliseconds of one final image"
    )
    near: str | None = _meaning("near")
    depth_unit: str | None = _meaning("depth_unit")
    depth_scale: float | None = _meaning("depth_scale")
    missing: tuple[float, ...] | None = _meaning("missing")
    mask_foreground: tuple[float, ...] | None = _meaning("mask_foreground")
    mask_ignored: tuple[float, ...] | None = _meaning("mask_ignored")
    group_size: int | None = _meaning("group_size")
    split: str = _option(
        "--split",
        default="background",
        group=COMPARISONS,
        choices=("background", "random"),
        help="separate training, validation and test by background, and by foreground where manifest.csv names both, "
        "or by image as the study did, which leaks; a split that the data set states takes precedence",
    )
    sampler: str = _option(
        "--sampler", default="tpe", group=COMPARISONS, choices=("tpe", "random"), help="sampler of the search"
    )
    first: str = _option(
        "--first",
        default="portfolio",
        choices=("portfolio", "study"),
        help="what a search tries first: the portfolio, or the study's recipes and then the portfolio",
    )
    stages: str = _option(
        "--stages", default="default", group=COMPARISONS, choices=tuple(STAGE_PRESETS), help="preset of stages"
    )
    stage: Mapping[str, Mapping[str, Any]] = _table("what a stage has, instead of what the preset and the run give it")
    space: Mapping[str, Any] = _table("parameters of the search space, by name, with the values that are tried")

    @property
    def roles(self) -> dict[str, str]:
        """The folders of images, masks and depth that are named, by role."""
        named = {"image": self.images, "mask": self.masks, "depth": self.depth}
        return {role: folder for role, folder in named.items() if folder}

    @property
    def limits(self) -> dict[str, float]:
        """The constraints that are set, by name."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("group") == CONSTRAINTS}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def stated(self) -> dict[str, Any]:
        """The fields of dataset.json that the command line states."""
        return read_meaning_flags(self)

    def build_stages(self, trainings: float) -> tuple[Stage, ...]:
        """Return the stages of a run whose budget pays for so many good trainings."""
        return build_stages(
            self.stages,
            trainings=trainings,
            refine=self.refine,
            fixed=bool(self.configs),
            px=self.px,
            stated=self.stage,
            wide=self.first == "study",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for run.json."""
        own: dict[str, Any] = {"budget": asdict(self.budget), "configs": [config.to_dict() for config in self.configs]}
        own["encoder_weights"] = self.encoder_weights and asdict(self.encoder_weights)
        return own | {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunOptions":
        """Read what `to_dict` returned; an option that is missing has its default."""
        plain = {f.name: values[f.name] for f in fields(cls) if f.name in values and f.metadata}
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
        if values["configs"]:
            from search.config.trial import TrialConfig

            plain["configs"] = tuple(TrialConfig.from_dict(config) for config in values["configs"])
        if plain.get("encoder_weights"):
            plain["encoder_weights"] = EncoderWeights(**plain["encoder_weights"])
        return cls(**{"configs": (), **plain, "budget": Budget(**values["budget"])})

    @classmethod
    def from_args(cls, args: argparse.Namespace, *, budget: Budget, configs: "tuple[TrialConfig, ...]") -> "RunOptions":
        """Return the options that were parsed by a parser with `add_options`."""
        plain = {name: getattr(args, name) for name in {**list_flags(), **list_tables()}}
        plugins = hash_by_name(getattr(args, "plugin", ()))
        return cls(budget=budget, configs=configs, plugins=plugins, **plain)


def list_flags() -> dict[str, str]:
    """Return the flag of each option of the command line, by field."""
    return {f.name: f.metadata["flag"] for f in fields(RunOptions) if "flag" in f.metadata}


def list_tables() -> dict[str, str]:
    """Return the description of each table of the settings file, by field."""
    return {f.name: f.metadata["table"] for f in fields(RunOptions) if "table" in f.metadata}


def add_options(parser: argparse.ArgumentParser, **groups: argparse._ActionsContainer) -> None:
    """Add an argument for each option; `groups` names other places, such as an exclusive group, for single fields."""
    titled = {title: parser.add_argument_group(title, text) for title, text in _GROUPS.items()}
    parser.set_defaults(**{name: {} for name in list_tables()})
    for f in fields(RunOptions):
        if "flag" in f.metadata:
            place: argparse._ActionsContainer = groups.get(f.name) or titled.get(f.metadata["group"]) or parser
            place.add_argument(f.metadata["flag"], dest=f.name, default=f.default, **f.metadata["argument"])
