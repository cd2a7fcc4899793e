"""The ladder: stages, and who goes up. Pure functions over trial records; no clock, no Ray."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from search.records import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One rung of the ladder.

    Attributes:
        name: explore, confirm or final.
        fraction: Part of the training data, nested in the next stage's.
        px: Side of the square images in pixels.
        epochs: Passes over that part; the clock may cut them short.
        enter: How many of the best come up from the stage below (explore: none).
        control: How many of the lower half come up at random, so that rank correlation is no survivors' tale.
        refine: Part of the progress, at its end, without augmentation and with the mask favoured.
        pictures: Validation images whose predictions are kept at each epoch, to watch them change.
    """

    name: str
    fraction: float
    px: int
    epochs: int
    enter: int = 0
    control: int = 0
    refine: float = 0.0
    pictures: int = 0


def default_ladder(*, refine: bool = True) -> tuple[Stage, ...]:
    """Return the study's path: 10 % at 80 px, all at 80 px, all at 160 px with a refinement at the end, if wanted."""
    return (
        Stage(name="explore", fraction=0.1, px=80, epochs=9),
        Stage(name="confirm", fraction=1.0, px=80, epochs=30, enter=3, control=1, pictures=4),
        Stage(name="final", fraction=1.0, px=160, epochs=30, enter=2, refine=0.2 if refine else 0.0, pictures=4),
    )


def ranked(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the records that have a score, best first; ties go to fewer parameters, then to the earlier trial."""
    scored = [r for r in records if math.isfinite(r.score) and r.status != "failed"]
    return sorted(scored, key=lambda r: (-r.score, r.figures.get("params", math.inf), r.trial_id))


def promote(records: Sequence[TrialRecord], stage: Stage, *, seed: int) -> list[TrialRecord]:
    """Return who enters `stage`: its best few and, from the lower half, its random controls.

    Args:
        records: All finished trials of the stage below.
        stage: The stage to enter.
        seed: Draws the controls.

    Returns:
        The best in order, then the controls; fewer than asked for where there are fewer.
    """
    order = ranked(records)
    best, lower = order[: stage.enter], order[max(stage.enter, len(order) // 2) :]
    controls = random.Random(seed).sample(lower, min(stage.control, len(lower)))
    return best + controls


def rank_correlation(below: Sequence[float], above: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation of the same trials' scores at two stages, or None under three trials.

    Source: Spearman 1904; ties share their mean rank.
    """
    if len(below) < 3 or len(set(below)) < 2 or len(set(above)) < 2:
        return None
    from scipy import stats  # nearly a second to import, and workers need none of it

    return float(stats.spearmanr(below, above).statistic)
