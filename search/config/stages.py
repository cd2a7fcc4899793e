"""The stages of a run: data, size, epochs and share of time of each, in presets."""

import math
from dataclasses import dataclass, replace
from typing import Literal

REDUCTION_FACTOR = 3  # of ASHA: one of three trials continues at each rung
GRACE_PERIOD = 4  # epochs before the first rung; ranks after fewer do not predict final ranks (README.md beside)
EPSILON = 0.03  # scores of two trainings of one configuration differ by as much
SEARCH_FROM = 3.0  # good trainings in a budget from which a part of it is searched at half the size
WIDE_FROM = 12.0  # the same from which all architectures are searched
RACE_SHARES, RACERS = (0.25, 0.6), (2, 8)  # least and greatest share of the race, and number of its trials


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
    share: float = 0.0  # fraction of the time after start-up; 0 for a stage that uses what the previous ones leave
    early_stopping: bool = False  # True if ASHA stops poor trials
    full_trials: int = 25  # trials of full length that would fill a search; most trials are stopped well before
    # multiply-adds of the network for which the images of a first stage are chosen, relative to
    # `efficientnet_lite`
    macs_factor: float = 1.0
    narrow: bool = False  # True leaves out the architectures that win nothing in trials of less than a minute
    top_k: int = 0  # best trials of the previous stage that are promoted or repeated
    epsilon: float = math.inf  # greatest difference to the best score with which a trial is among them
    # True if one of them is the smallest network on the Pareto front of score and parameters
    include_smallest: bool = False
    # True if one of them is the best network that starts from published weights, which gain most from the whole
    # data
    include_pretrained: bool = False
    controls: int = 0  # random trials of the lower half that are promoted too, so that rank correlations are unbiased
    repeats: int = 0  # further seeds of each repeated finalist, as far as time allows
    refine: float = 0.0  # final fraction of the progress without augmentation and with more weight on the mask
    pictures: int = 0  # validation images whose predictions are kept at each epoch

    @property
    def is_first(self) -> bool:
        """True for a stage whose trials start from random weights."""
        return self.kind in ("search", "fixed")


_SEARCH = Stage(name="explore", kind="search", fraction=0.1, px=80, epochs=9, share=0.4, early_stopping=True)
_FINAL = Stage(
    name="final", kind="promote", fraction=1.0, px=160, epochs=30, share=0.4, pictures=4, top_k=2, epsilon=EPSILON,
    refine=0.2,
)  # fmt: skip
_CONFIRM = replace(
    _FINAL, name="confirm", share=0.2, top_k=3, epsilon=math.inf, include_smallest=True, include_pretrained=True,
    controls=1, refine=0.0,
)  # fmt: skip
_REPEAT = replace(_FINAL, name="repeat", kind="repeat", share=0.0, repeats=2, pictures=0)
_RACE = replace(_SEARCH, fraction=1.0, px=160, epochs=3, share=0.25, early_stopping=False)

FINAL_PX = _FINAL.px
PX_RANGE = (96, 512)  # below 96 the explore stage sees less than 48 px; above 512 a CPU trains too few images

STAGE_PRESETS = {
    # the study's path: 10 % of the data at 80 px, all at 160 px, and a refinement at the end
    "default": (_SEARCH, _CONFIRM, _FINAL, _REPEAT),
    # few trainings: some configurations compete at the final size, and the best is trained on
    "race": (_RACE, replace(_FINAL, share=0.75), _REPEAT),
    # baseline: one epoch for all trials, then the best two in full
    "one_epoch": (replace(_SEARCH, fraction=1.0, epochs=1, early_stopping=False), replace(_FINAL, share=0.6)),
    # baseline: ASHA at the final size, without promotion
    "single": (replace(_SEARCH, fraction=1.0, px=160, epochs=27, share=1.0, full_trials=10),),
}


def build_stages(
    preset: str = "default",
    *,
    trainings: float = math.inf,
    refine: bool = True,
    fixed: bool = False,
    px: int = FINAL_PX,
) -> tuple[Stage, ...]:
    """Return the stages of a preset, with "default" adapted to the budget.

    One rule decides how much is searched. It counts the budget in good trainings at the final size, see
    `search.tuning.allocation.count_trainings`:

    - below SEARCH_FROM, the final stage gets the time of one good training and a race gets the rest, within
      RACE_SHARES; it has four trials for each training, within RACERS, which begin with the portfolio;
    - from SEARCH_FROM on, a search at half the size and a confirmation at the final size come before the final stage;
    - below WIDE_FROM, architectures that win nothing in short trials are left out;
    - the images of the first stage leave time for networks whose multiply-adds grow with the root of the budget.

    Args:
        preset: A name in STAGE_PRESETS.
        trainings: How many good trainings the budget pays for.
        refine: False leaves out the refinement of the final stage.
        fixed: True if the user's configurations replace the search.
        px: Side of the images of the final stage in pixels; the other stages' sides change in proportion.
    """
    preset = "race" if preset == "default" and trainings < SEARCH_FROM else preset
    first, *later = (replace(stage, px=round(stage.px * px / FINAL_PX)) for stage in STAGE_PRESETS[preset])
    if preset == "race":
        share = _clip(1 - 1 / trainings, *RACE_SHARES)
        first = replace(first, share=share, full_trials=round(_clip(4 * trainings, *RACERS)))
        later[0] = replace(later[0], share=1 - share)
    if math.isfinite(trainings):
        first = replace(first, macs_factor=math.sqrt(max(trainings, 1.0)), narrow=trainings < WIDE_FROM)
    first = replace(first, kind="fixed", early_stopping=False) if fixed else first
    return tuple(stage if refine else replace(stage, refine=0.0) for stage in (first, *later))


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
