"""The stages of a run and the promotion rules: pure functions over trial records."""

import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from search.records.trials import TrialRecord

REDUCTION_FACTOR = 3  # of ASHA: one of three trials continues at each rung
GRACE_PERIOD = 3  # epochs before the first rung; ranks after one epoch do not predict final ranks (README.md beside)
KEPT_CHECKPOINTS = 8  # of a stage, best first; as many again from which controls are drawn


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


def rank_trials(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the records with a score, best first; ties go to fewer parameters, then to the earlier trial."""
    scored = [r for r in records if math.isfinite(r.score) and r.status != "failed"]
    return sorted(scored, key=lambda r: (-r.score, _params(r), r.trial_id))


def find_pareto_front(scores: Sequence[float], costs: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the indices of the points that no other dominates, best score first.

    A point dominates another if it scores no worse, costs no more in anything, and is better somewhere. Of equal points
    the first is kept.
    """
    front: list[int] = []
    for i in sorted(
        range(len(scores)), key=lambda i: (-scores[i], costs[i])
    ):  # a point comes after those that dominate it
        if not any(all(a <= b for a, b in zip(costs[j], costs[i], strict=True)) for j in front):
            front.append(i)
    return front


def select_pareto_front(
    records: Sequence[TrialRecord], costs: Callable[[TrialRecord], tuple[float, ...]]
) -> list[TrialRecord]:
    """Return the records on the Pareto front of score and costs, best first."""
    order = rank_trials(records)
    return [order[i] for i in find_pareto_front([r.score for r in order], [costs(r) for r in order])]


def promote(
    records: Sequence[TrialRecord], stage: Stage, *, seed: int, excluded: Collection[str] = ()
) -> list[TrialRecord]:
    """Select the trials that are promoted to `stage`.

    Args:
        records: All trials of the previous stage that have ended.
        stage: The stage to enter.
        seed: Draws the controls.
        excluded: Trials that were promoted before or whose weights are gone.

    Returns:
        The best in order, then the controls; fewer if there are not enough. The smallest network on the Pareto front
        that scores better than a constant guess, and the best pretrained one, take the last of the best places.
    """
    order = rank_trials(records)
    available = [r for r in order if r.trial_id not in excluded]
    included = _smallest_network(available) if stage.include_smallest else []
    included += [r for r in _best_pretrained(available) if stage.include_pretrained and r not in included]
    others = [r for r in available if r not in included][: max(stage.top_k - len(included), 0)]
    best = [r for r in available if r in included or r in others]
    lower_half = [r for r in order[len(order) // 2 :] if r in available and r not in best]
    return best + select_controls(lower_half, stage.controls, seed=seed)


def select_controls(records: Sequence[TrialRecord], count: int, *, seed: int) -> list[TrialRecord]:
    """Draw controls; which of two trials is drawn first depends on the seed and their names only."""
    return sorted(records, key=lambda r: random.Random(f"{seed} {r.trial_id}").random())[:count]


def select_checkpoints(records: Sequence[TrialRecord], *, seed: int) -> set[str]:
    """Return the trials of one stage that `promote` may select, now or when the run is given more budget."""
    order = rank_trials(records)
    included = [*_smallest_network(order), *_best_pretrained(order)]
    kept = [*order[:KEPT_CHECKPOINTS], *included, *select_controls(order, KEPT_CHECKPOINTS, seed=seed)]
    return {r.trial_id for r in kept}


def group_finalists(records: Sequence[TrialRecord], group_key: Callable[[TrialRecord], str]) -> list[list[TrialRecord]]:
    """Group the trials of the last stage by configuration and initial weights, best group first.

    Groups are ranked by the mean score over their seeds. Scores of trials without repeats are optimistic (winner's
    curse); they are reduced by the mean drop that the repeated trials showed.

    Args:
        records: Trials of the last stage and its repeats.
        group_key: Returns the same text for trials of one group.
    """
    groups: dict[str, list[TrialRecord]] = {}
    for record in rank_trials(records):
        groups.setdefault(group_key(record), []).append(record)
    drops = [min(g, key=lambda r: r.started_s).score - _mean_score(g) for g in groups.values() if len(g) > 1]
    discount = sum(drops) / len(drops) if drops else 0.0
    return sorted(groups.values(), key=lambda g: -_mean_score(g) + discount * (len(g) == 1))


def _mean_score(group: Sequence[TrialRecord]) -> float:
    return sum(record.score for record in group) / len(group)


def _smallest_network(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the smallest network on the Pareto front that scores better than a constant guess (0), if there is one."""
    return [r for r in select_pareto_front(records, lambda r: (_params(r),)) if r.score > 0][-1:]


def _best_pretrained(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the first of the ranked records whose network started from published weights, if it beats a guess."""
    return [r for r in records if r.config.get("model/weights", "none") != "none" and r.score > 0][:1]


def _params(record: TrialRecord) -> float:
    return float(record.metrics.get("params", math.inf))
