"""The stages of a run: data, size, epochs and share of time of each, in presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from models.config import ConfigError, name_nearest

REDUCTION_FACTOR = 3  # ASHA continues one of three trials at each rung
KEPT_CHECKPOINTS = 8  # best trials of a stage whose weights are kept; as many again to draw controls from
GRACE_PERIOD = 4  # epochs before the first rung; ranks after fewer epochs do not predict final ranks
EPSILON = 0.03  # typical difference between the scores of two trainings of the same configuration
OBJECTIVES = ("score", "params", "macs", "latency_ms")
# full trainings from which a confirm stage follows an explore stage at half the size: the final stage's 40 % then give
# each of its two trials a full training
CONFIRM_FROM = 5.0
WIDE_FROM = 12.0  # full trainings from which all architectures are searched
# In a race of less than one full training, the order of the portfolio decides unless a later trial is better by more:
# after 1,100 images, Lite0 led Lite1 by 0.05, which is better by 0.01 after 12,800
RACE_MARGIN = 0.1
RACE_SHARES, RACERS = (0.15, 0.6), (2, 8)  # limits of the race's share of the time, and of its number of trials


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a run."""

    name: str  # explore, confirm, final or repeat; its first letter begins the names of its trials
    # "search" asks Optuna for configurations, "fixed" trains the user's configurations, "promote" continues the
    # best trials of the previous stage, "repeat" trains finalists again from the same weights with other seeds
    kind: Literal["search", "fixed", "promote", "repeat"]
    fraction: float  # fraction of the training data; a subset of the next stage's
    px: int  # side of the square images in pixels
    epochs: int  # passes over the data; a deadline may cut them short
    share: float = 0.0  # fraction of the time after start-up; 0 for the time that earlier stages leave
    early_stopping: bool = False  # True if ASHA stops poor trials
    full_trials: int = 25  # number of full-length trials that fit the stage; determines each trial's time limit
    # a first stage's images are chosen for so many times the multiply-adds of the typical network (tuning/README.md)
    macs_factor: float = 1.0
    narrow: bool = False  # True leaves out architectures that never win in trials shorter than a minute
    top_k: int = 0  # best trials of the previous stage that are promoted or repeated
    epsilon: float = math.inf  # largest distance of a promoted trial's score from the best
    # the first promoted trial is the one tried first among those whose score is at most so much below the best
    earlier_margin: float = 0.0
    # True reserves one of these places for the smallest network on the Pareto front of score and parameters
    include_smallest: bool = False
    # True reserves one of these places for the best pretrained network, which gains most from the full data
    include_pretrained: bool = False
    controls: int = 0  # random trials of the lower half that are promoted too, so that rank correlations are unbiased
    repeats: int = 0  # further seeds of each repeated finalist, as far as time allows
    # final fraction of the progress, without augmentation and with a fixed balance with twice the mask weight
    refine: float = 0.0
    samples: int = 0  # validation images, from the first, whose predictions are kept at each epoch
    objectives: tuple[str, ...] = ("score",)  # the score, followed by costs from OBJECTIVES to minimise

    @property
    def is_first(self) -> bool:
        """True for a stage whose trials have no parent."""
        return self.kind in ("search", "fixed")


_EXPLORE = Stage(name="explore", kind="search", fraction=0.1, px=80, epochs=9, share=0.4, early_stopping=True)
_FINAL = Stage(
    name="final", kind="promote", fraction=1.0, px=160, epochs=30, share=0.4, samples=4, top_k=2, epsilon=EPSILON,
    refine=0.2,
)  # fmt: skip
_CONFIRM = replace(
    _FINAL, name="confirm", share=0.2, top_k=3, epsilon=math.inf, include_smallest=True, include_pretrained=True,
    controls=1, refine=0.0,
)  # fmt: skip
_REPEAT = replace(_FINAL, name="repeat", kind="repeat", share=0.0, repeats=2, samples=0)
# Each trial of a race trains until its time is over, because the final stage is limited by time too: speed counts.
_RACE = replace(_EXPLORE, fraction=1.0, px=160, epochs=_FINAL.epochs, share=0.15, early_stopping=False, macs_factor=0.5)

FINAL_PX = _FINAL.px
PX_RANGE = (96, 512)  # below 96 the explore stage sees less than 48 px; above 512 a CPU trains too few images

STAGE_PRESETS = {
    # the study's path: 10 % of the data at 80 px, then all at 160 px
    "default": (_EXPLORE, _CONFIRM, _FINAL, _REPEAT),
    # small budgets: some configurations compete at the final size, and the best one continues
    "race": (_RACE, replace(_FINAL, share=0.85, epsilon=0.0, include_pretrained=True), _REPEAT),
    # baseline: one epoch for all trials, then full training of the best one or two
    "one_epoch": (replace(_EXPLORE, fraction=1.0, epochs=1, early_stopping=False), replace(_FINAL, share=0.6)),
    # baseline: ASHA at the final size, without promotion
    "single": (replace(_EXPLORE, fraction=1.0, px=160, epochs=27, share=1.0, full_trials=10),),
}


class StageSetting(NamedTuple):
    """A setting of a stage in a settings file."""

    limits: tuple[float, float]  # least and largest value; whole numbers only if both are
    about: str


STAGE_SETTINGS = {  # by attribute of Stage
    "fraction": StageSetting((0.001, 1.0), "fraction of the training images, at most 1"),
    "px": StageSetting((PX_RANGE[0] // 2, PX_RANGE[1]), "side of the images in pixels"),
    "epochs": StageSetting((1, 10_000), "passes over the images, at most"),
    "share": StageSetting((0.001, 1.0), "time, relative to the shares of the other stages"),
    "top_k": StageSetting((1, KEPT_CHECKPOINTS), "number of best trials that are promoted, without any others"),
}


def list_rungs(epochs: int) -> list[int]:
    """Return the epochs after which ASHA stops trials of `epochs` epochs."""
    rungs = [GRACE_PERIOD]
    while rungs[-1] * REDUCTION_FACTOR <= epochs:
        rungs.append(rungs[-1] * REDUCTION_FACTOR)
    return rungs


def list_changeable_settings(preset: str, px: int = FINAL_PX) -> dict[str, dict[str, Any]]:
    """Return the settings of each stage of a preset that a settings file can change.

    Repeats use those of the previous stage; --px sets the size of the last one.
    """
    stages = [stage for stage in build_stages(preset, px=px) if stage.kind != "repeat"]
    found = {stage.name: {name: getattr(stage, name) for name in STAGE_SETTINGS} for stage in stages}
    del found[stages[0].name]["top_k"], found[stages[-1].name]["px"]
    return found


def check_stages(configured: Mapping[str, Any], preset: str) -> None:
    """Raise ConfigError if a stage or setting is unknown (the nearest is named), or a value is not allowed."""
    stages = list_changeable_settings(preset)
    for stage, settings in configured.items():
        _check_name("stage", stage, stages)
        if not isinstance(settings, Mapping):
            raise ConfigError(f"stage.{stage} = {settings!r} must be a table of {', '.join(stages[stage])}")
        for name, value in settings.items():
            _check_name(f"stage.{stage}", name, stages[stage])
            _check_value(f"stage.{stage}.{name}", value, STAGE_SETTINGS[name])


def _check_name(owner: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        reason = "; --px sets the size of the last stage" if name == "px" else ""
        raise ConfigError(f"{owner} has no {name!r}; {name_nearest(name, known)}{reason}")


def _check_value(name: str, value: Any, setting: StageSetting) -> None:
    low, high = setting.limits
    whole = isinstance(high, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not low <= value <= high:
        kind = "whole number" if whole else "number"
        raise ConfigError(f"{name} = {value!r} must be a {kind} from {low:g} to {high:g}")


def _apply_settings(stage: Stage, configured: Mapping[str, Mapping[str, Any]]) -> Stage:
    """Return a stage with the user's settings; a configured top_k leaves no place for small networks or controls."""
    repeats = stage.kind == "repeat"
    settings = configured.get("final" if repeats else stage.name, {})
    values = {name: value for name, value in settings.items() if not repeats or name in ("fraction", "epochs")}
    if "top_k" in values:
        values |= {"epsilon": math.inf, "include_smallest": False, "include_pretrained": False, "controls": 0}
    return replace(stage, **values)


def build_stages(
    preset: str = "default",
    *,
    trainings: float = math.inf,
    refine: bool = False,
    fixed: bool = False,
    px: int = FINAL_PX,
    configured: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    tried_first: str = "portfolio",
    objectives: tuple[str, ...] = ("score",),
) -> tuple[Stage, ...]:
    """Return the stages of a preset, with "default" adapted to a budget of `trainings` full trainings.

    Without `refine`, no training ends with a refinement.

    Below CONFIRM_FROM, unless the user configures the confirm stage, "default" is replaced by "race"; from WIDE_FROM
    on, the search includes all architectures.

    `fixed` configurations of the user replace the search. The sides of all stages change in proportion to `px`, that of
    the final one. `configured` are the user's stage settings, already checked by `check_stages`. `tried_first` is the
    option --first: with the study's recipes all architectures stay in the space, and only the portfolio is in order of
    merit.
    """
    if preset == "default" and trainings < CONFIRM_FROM and "confirm" not in configured:
        preset = "race"
    first, *later = (replace(stage, px=round(stage.px * px / FINAL_PX)) for stage in STAGE_PRESETS[preset])
    if preset == "race":
        first, later[0] = _plan_race(first, later[0], trainings, ordered=tried_first == "portfolio" and not fixed)
    if math.isfinite(trainings):
        first = _adapt_to_budget(first, trainings, wide=tried_first == "study")
    if fixed:
        first = replace(first, kind="fixed", early_stopping=False)
    stages = [_apply_settings(stage, configured) for stage in (first, *later)]
    if not refine:
        stages = [replace(stage, refine=0.0) for stage in stages]
    return tuple(_apply_objectives(stage, objectives) for stage in stages)


def _plan_race(race: Stage, final: Stage, trainings: float, *, ordered: bool) -> tuple[Stage, Stage]:
    """Divide a budget of `trainings` full trainings over a race and the final stage.

    The final stage gets the time of one full training and the race gets the rest, within RACE_SHARES. The race has four
    trials for each training, within RACERS. Below one full training its trials are too short to show small differences,
    so the order of the trials decides if they are `ordered` by merit.
    """
    share = _clip(1 - 1 / trainings, *RACE_SHARES)
    race = replace(race, share=share, full_trials=round(_clip(4 * trainings, *RACERS)))
    margin = RACE_MARGIN if ordered and trainings < 1 else 0.0
    return race, replace(final, share=1 - share, earlier_margin=margin)


def _adapt_to_budget(first: Stage, trainings: float, *, wide: bool) -> Stage:
    """Adapt a first stage to a budget of `trainings` full trainings.

    The multiply-adds for which its images are chosen grow with the square root of the budget. Below WIDE_FROM,
    architectures that never win in short trials are left out, unless the search is to be `wide`.
    """
    factor = first.macs_factor * math.sqrt(max(trainings, 1.0))
    return replace(first, macs_factor=factor, narrow=trainings < WIDE_FROM and not wide)


def _apply_objectives(stage: Stage, objectives: tuple[str, ...]) -> Stage:
    """Return a stage for these objectives; with several, no rule applies that compares scores alone, such as ASHA."""
    if len(objectives) == 1:
        return stage
    stage = replace(stage, objectives=objectives, early_stopping=False, epsilon=math.inf, earlier_margin=0.0)
    return replace(stage, include_smallest=False, include_pretrained=False)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
