"""The stages of a run: data, size, epochs and share of time of each, in presets."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

REDUCTION_FACTOR = 3  # of ASHA: one of three trials continues at each rung
GRACE_PERIOD = 3  # epochs before the first rung; ranks after one epoch do not predict final ranks (README.md beside)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: explore, confirm, final or repeat; its first letter begins the names of its trials.
        kind: "search" asks Optuna for configurations, "fixed" trains the user's configurations, "promote" continues the
            best trials of the previous stage, "repeat" trains finalists again from the same weights with other seeds.
        fraction: Fraction of the training data; a subset of the next stage's.
        px: Side of the square images in pixels.
        epochs: Passes over the data; a deadline may cut them short.
        share: Fraction of the time after start-up; 0 for a stage that uses what the previous ones leave.
        early_stopping: True if ASHA stops poor trials.
        full_trials: Trials of full length that would fill a search; most trials are stopped well before.
        top_k: Best trials of the previous stage that are promoted or repeated.
        include_smallest: True if one of them is the smallest network on the Pareto front of score and parameters.
        include_pretrained: True if one of them is the best network that starts from published weights, which gain most
            from the whole data.
        controls: Random trials of the lower half that are promoted too, so that rank correlations are unbiased.
        repeats: Further seeds of each repeated finalist, as far as time allows.
        refine: Final fraction of the progress without augmentation and with more weight on the mask.
        pictures: Validation images whose predictions are kept at each epoch.
    """

    name: str
    kind: Literal["search", "fixed", "promote", "repeat"]
    fraction: float
    px: int
    epochs: int
    share: float = 0.0
    early_stopping: bool = False
    full_trials: int = 25
    top_k: int = 0
    include_smallest: bool = False
    include_pretrained: bool = False
    controls: int = 0
    repeats: int = 0
    refine: float = 0.0
    pictures: int = 0

    @property
    def is_first(self) -> bool:
        """True for a stage whose trials start from random weights."""
        return self.kind in ("search", "fixed")


_SEARCH = Stage(name="explore", kind="search", fraction=0.1, px=80, epochs=9, share=0.4, early_stopping=True)
_CONFIRM = Stage(name="confirm", kind="promote", fraction=1.0, px=80, epochs=30, share=0.26, pictures=4)
_FINAL = Stage(
    name="final", kind="promote", fraction=1.0, px=160, epochs=30, share=0.34, pictures=4, top_k=2, refine=0.2
)

FINAL_PX = _FINAL.px
PX_RANGE = (96, 512)  # below 96 the explore stage sees less than 48 px; above 512 a CPU trains too few images

STAGE_PRESETS = {
    # the study's path: 10 % of the data at 80 px, all at 80 px, all at 160 px with a refinement at the end
    "default": (
        _SEARCH,
        replace(_CONFIRM, top_k=3, include_smallest=True, include_pretrained=True, controls=1),
        _FINAL,
        replace(_FINAL, name="repeat", kind="repeat", share=0.0, repeats=2, pictures=0),
    ),
    # baseline: one epoch for all trials, then the best two in full
    "one_epoch": (replace(_SEARCH, fraction=1.0, epochs=1, early_stopping=False), replace(_FINAL, share=0.6)),
    # baseline: ASHA at the final size, without promotion
    "single": (replace(_SEARCH, fraction=1.0, px=160, epochs=27, share=1.0, full_trials=10),),
}


def build_stages(
    preset: str = "default",
    *,
    refine: bool = True,
    fixed: bool = False,
    px: int = FINAL_PX,
    takes_all: Callable[[float], bool] = lambda fraction: fraction == 1,
) -> tuple[Stage, ...]:
    """Return the stages of a preset.

    Args:
        preset: A name in STAGE_PRESETS.
        refine: False leaves out the refinement of the final stage.
        fixed: True if the user's configurations replace the search.
        px: Side of the images of the final stage in pixels; the other stages' sides change in proportion.
        takes_all: Returns whether a stage of this fraction trains on all images. If the first one does, a stage that
            would train on the same images at the same size is left out; the next one has its share and its places.
    """
    first, *later = (replace(stage, px=round(stage.px * px / FINAL_PX)) for stage in STAGE_PRESETS[preset])
    if takes_all(first.fraction) and len(later) > 1 and later[0].px == first.px:
        same, after, *rest = later
        merged = replace(after, share=same.share + after.share, top_k=same.top_k)
        smallest, pretrained = same.include_smallest, same.include_pretrained
        later = [replace(merged, include_smallest=smallest, include_pretrained=pretrained), *rest]
    first = replace(first, kind="fixed", early_stopping=False) if fixed else first
    return tuple(stage if refine else replace(stage, refine=0.0) for stage in (first, *later))
