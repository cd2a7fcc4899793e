"""Decide whether near is bright or dark in relative depth, from depth steps at the contours of foregrounds.

A foreground is nearer than its surroundings, so each step is a vote. A folder with triplets of several makers may mix
both polarities. Triplets whose names start alike (a series) are then assumed to share one polarity, unless the votes
contradict that.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.dataset import POLARITIES, Triplet
from data.values.alignment import STEP, STEP_Z, DepthStep

MIN_VOTES = 8  # clear steps from which a majority is certain
MIN_SERIES_VOTES = 2  # for a series in a mixed folder (none of 779 clear steps, real, composed and drawn, was wrong)
MIN_SHARE = 0.9  # share of the votes that must agree
MIXED_VOTES = 3  # votes of the minority from which a folder is mixed


@dataclass(frozen=True)
class Votes:
    """Triplets whose depth becomes brighter or darker at the contour, or has no clear step."""

    bright: int
    dark: int
    neither: int

    def __str__(self) -> str:
        return f"foregrounds brighter than around: {self.bright}, darker: {self.dark}, neither: {self.neither}"

    @property
    def share(self) -> float:
        """Share of the majority among the clear steps; 0 without votes."""
        return max(self.bright, self.dark) / max(self.bright + self.dark, 1)

    @property
    def majority(self) -> str:
        """Polarity with most votes."""
        return POLARITIES[self.dark > self.bright]

    def decide(self, least: int) -> str | None:
        """Return the polarity on which at least `MIN_SHARE` of at least `least` votes agree, else None."""
        return self.majority if self.share >= MIN_SHARE and self.bright + self.dark >= least else None


@dataclass(frozen=True)
class Polarity:
    """Polarity ("bright", "dark" or None for undecided) of the triplets with depth for which the manifest has none."""

    votes: Votes
    series: dict[str, Votes]
    by_series: dict[str, str | None]
    near: dict[str, str | None]  # by triplet id, from its series or its own step
    certain: dict[str, str | None]  # by triplet id, only from series with at least `MIN_VOTES` votes

    @property
    def mixed(self) -> bool:
        """True if both polarities occur: by several votes each, or in series that are certain by themselves."""
        disagreeing = self.votes.share < MIN_SHARE and min(self.votes.bright, self.votes.dark) >= MIXED_VOTES
        return disagreeing or len({votes.decide(MIN_VOTES) for votes in self.series.values()} - {None}) > 1

    @property
    def unclear(self) -> list[str]:
        """Ids of triplets of unknown polarity."""
        return [id_ for id_, near in self.near.items() if near is None]


def measure_polarity(triplets: Sequence[Triplet], steps: Sequence[DepthStep | None]) -> Polarity:
    """Count the votes of a folder, in total and by series; `steps` has None where a triplet does not vote."""
    pairs = [(t, step) for t, step in zip(triplets, steps, strict=True) if t.depth is not None and t.near is None]
    groups: dict[str, list[DepthStep | None]] = defaultdict(list)
    for triplet, step in pairs:
        groups[_get_series(triplet)].append(step)
    series = {name: _count_votes(group) for name, group in groups.items()}
    certain = {name: votes.decide(MIN_VOTES) for name, votes in series.items()}
    consistent = all(v.decide(MIN_SERIES_VOTES) for v in series.values() if v.bright + v.dark >= MIN_SERIES_VOTES)
    by_series = {name: votes.decide(MIN_SERIES_VOTES) for name, votes in series.items()} if consistent else certain
    return Polarity(
        votes=_count_votes(step for _, step in pairs),
        series=series,
        by_series=by_series,
        near={t.id: by_series[_get_series(t)] or _count_votes([step]).decide(1) for t, step in pairs},
        certain={t.id: certain[_get_series(t)] for t, _ in pairs},
    )


def _get_series(triplet: Triplet) -> str:
    """Return the image name up to its first digit."""
    return re.split(r"\d", triplet.image.stem, maxsplit=1)[0]


def _count_votes(found: Iterable[DepthStep | None]) -> Votes:
    steps = [step for step in found if step]
    clear = [step.slope > 0 for step in steps if abs(step.slope) >= STEP and abs(step.z_score) >= STEP_Z]
    return Votes(sum(clear), len(clear) - sum(clear), len(steps) - len(clear))
