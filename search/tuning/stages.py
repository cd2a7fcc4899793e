"""The ladder: stages, and who goes up. Pure functions over trial records; no clock, no Ray."""

import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from search.records.trials import TrialRecord

REDUCTION = 3  # of a race: so many times fewer trials see each further rung
GRACE = 3  # epochs before the first: what leads after one epoch does not lead in the end (README, Replayed)
KEPT = 8  # trials of a stage, best first, whose weights are kept; as many again from which the controls are drawn


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One rung of the ladder.

    Attributes:
        name: explore, confirm, final or repeat; its first letter begins the names of its trials.
        fraction: Part of the training data, nested in the next stage's.
        px: Side of the square images in pixels.
        epochs: Passes over that part; the clock may cut them short.
        share: Part of the time after start-up; 0 for a stage that takes what the one below leaves.
        races: Whether its trials are stopped for doing worse than others (ASHA).
        full_trials: Trials of full length that would fill a stage that searches; most of those that race are stopped
            well before.
        enter: How many come up from the stage below (first stage: none).
        smallest: Whether one of those that enter is the smallest network of the front of score against parameters.
        control: How many of the lower half come up at random, so that rank correlation is no survivors' tale.
        repeats: How often each that enters is trained again, from the weights that it began with and with other seeds;
            only those that came to their planned end enter, and only as far as time allows.
        refine: Part of the progress, at its end, without augmentation and with the mask favoured.
        pictures: Validation images whose predictions are kept at each epoch, to watch them change.
    """

    name: str
    fraction: float
    px: int
    epochs: int
    share: float = 0.0
    races: bool = False
    full_trials: int = 25
    enter: int = 0
    smallest: bool = False
    control: int = 0
    repeats: int = 0
    refine: float = 0.0
    pictures: int = 0


_FINAL = Stage(name="final", fraction=1.0, px=160, epochs=30, share=0.34, enter=2, refine=0.2, pictures=4)

LADDERS = {
    # the study's path: 10 % at 80 px, all at 80 px, all at 160 px with a refinement at the end
    "climb": (
        Stage(name="explore", fraction=0.1, px=80, epochs=9, share=0.40, races=True),
        Stage(
            name="confirm", fraction=1.0, px=80, epochs=30, share=0.26, enter=3, smallest=True, control=1, pictures=4
        ),
        _FINAL,
        replace(_FINAL, name="repeat", share=0.0, repeats=2, pictures=0),
    ),
    # for comparison: one epoch for all, then the best few in full
    "one_epoch": (
        Stage(name="explore", fraction=1.0, px=80, epochs=1, share=0.4),
        replace(_FINAL, share=0.6),
    ),
    # for comparison: ASHA at the final size, nothing promoted, no weights used again
    "flat": (Stage(name="explore", fraction=1.0, px=160, epochs=27, share=1.0, races=True, full_trials=10),),
}


def ladder(name: str = "climb", *, refine: bool = True) -> tuple[Stage, ...]:
    """Return the stages of a ladder, without the refinement at its end if that is not wanted."""
    return tuple(stage if refine else replace(stage, refine=0.0) for stage in LADDERS[name])


def ranked(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the records that have a score, best first; ties go to fewer parameters, then to the earlier trial."""
    scored = [r for r in records if math.isfinite(r.score) and r.status != "failed"]
    return sorted(scored, key=lambda r: (-r.score, _params(r), r.trial_id))


def front(records: Sequence[TrialRecord], costs: Callable[[TrialRecord], tuple[float, ...]]) -> list[TrialRecord]:
    """Return the records that no other beats, best first.

    One is beaten by another that scores no worse and costs no more in anything, and is better somewhere; of equal ones
    the first by rank stays.
    """
    found: list[TrialRecord] = []
    order = sorted(ranked(records), key=lambda r: (-r.score, costs(r)))
    for record in order:  # whatever beats a record comes before it, and what is beaten beats nothing new
        mine = costs(record)
        if not any(all(a <= b for a, b in zip(costs(other), mine, strict=True)) for other in found):
            found.append(record)
    return found


def promote(
    records: Sequence[TrialRecord], stage: Stage, *, seed: int, absent: Collection[str] = ()
) -> list[TrialRecord]:
    """Return who enters `stage`: its best few, the smallest of the front, and random controls from the lower half.

    Args:
        records: All finished trials of the stage below.
        stage: The stage to enter.
        seed: Draws the controls.
        absent: Trials that cannot enter: they have been there, or their weights are gone.

    Returns:
        The best in order, then the controls; fewer than asked for where there are fewer. The smallest network that
        scores more than a constant guess and is on the front takes the last of the best places.
    """
    order = ranked(records)
    present = [r for r in order if r.trial_id not in absent]
    best = present[: stage.enter]
    if stage.smallest:
        small = _smallest(present)
        best = present[: stage.enter - len(small)]
        best = (best + small) if small and small[0] not in best else present[: stage.enter]
    lower = [r for r in order[len(order) // 2 :] if r in present and r not in best]
    return best + sorted(lower, key=lambda r: _lot(r, seed))[: stage.control]


def worth_keeping(records: Sequence[TrialRecord], *, seed: int) -> set[str]:
    """Return the trials of one stage whose weights `promote` may ask for, now or when the run is given more."""
    order = ranked(records)
    return {r.trial_id for r in [*order[:KEPT], *_smallest(order), *sorted(order, key=lambda r: _lot(r, seed))[:KEPT]]}


def finalists(records: Sequence[TrialRecord], beginnings: Callable[[TrialRecord], str]) -> list[list[TrialRecord]]:
    """Return the trials of the last stage in groups of one configuration and one beginning, the best group first.

    The mean over a group's seeds decides. A trial that was not repeated was chosen for its score, as the first of each
    other group was; it is taken for so much worse than its score as those turned out to be.

    Args:
        records: Of the last stage and its repeats.
        beginnings: What tells the groups apart: the trial whose weights one began with.
    """
    groups: dict[str, list[TrialRecord]] = {}
    for record in ranked(records):
        groups.setdefault(beginnings(record), []).append(record)
    luck = [min(g, key=lambda r: r.started_s).score - _mean(g) for g in groups.values() if len(g) > 1]
    discount = sum(luck) / len(luck) if luck else 0.0
    return sorted(groups.values(), key=lambda g: -_mean(g) + discount * (len(g) == 1))


def _mean(group: Sequence[TrialRecord]) -> float:
    return sum(record.score for record in group) / len(group)


def _smallest(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the smallest network on the front of score against parameters that beats a constant guess, if any does."""
    return [r for r in front(records, lambda r: (_params(r),)) if r.score > 0][-1:]


def _params(record: TrialRecord) -> float:
    return float(record.metrics.get("params", math.inf))


def _lot(record: TrialRecord, seed: int) -> float:
    """Return the lot that a trial has drawn: the lowest becomes a control."""
    return random.Random(f"{seed} {record.trial_id}").random()
