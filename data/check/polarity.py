"""Are near things bright or dark? Steps of depth at objects' edges tell: foregrounds are nearer than what is around.

A folder whose triplets come from several makers may hold both. Then those whose names begin alike are taken to be of
one maker, who had one polarity, unless the steps say that names mean nothing here.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.check.examine import Finding
from data.check.faults import STEP, STEP_LEAD
from data.dataset import POLARITIES, Triplet

LEAST_VOTES = 8  # objects whose depth steps clearly
SURE = 0.9  # share of them that agree
FEW_VOTES = 2  # for the names of a mixed folder (of 779 clear steps, real, composed and drawn, none was wrong)
BOTH = 3  # votes against the others for a folder to be mixed


@dataclass(frozen=True)
class Votes:
    """Triplets by what depth does at the edge of their object: becomes brighter, darker, or does not clearly step."""

    bright: int
    dark: int
    neither: int

    def __str__(self) -> str:
        return f"objects brighter than what surrounds them: {self.bright}, darker: {self.dark}, neither: {self.neither}"

    @property
    def count(self) -> int:
        """Clear steps."""
        return self.bright + self.dark

    @property
    def share(self) -> float:
        """Share of them that agree, at least one half; 0 where there are none."""
        return max(self.bright, self.dark) / self.count if self.count else 0.0

    @property
    def most(self) -> str:
        """What most say."""
        return POLARITIES[self.dark > self.bright]

    def agreed(self, least: int) -> str | None:
        """What nearly all say, if there are enough."""
        return self.most if self.share >= SURE and self.count >= least else None


@dataclass(frozen=True)
class Polarity:
    """What is told of the triplets with depth that state no polarity of their own.

    Attributes:
        votes: Of all whose step can be measured.
        series: The same by the beginning of their names.
        told: What a series says of all in it; None where that is not clear.
        near: bright or dark by triplet, as its series says, else its own step; None where neither is clear.
        firm: The same, only where a series has many votes.
    """

    votes: Votes
    series: dict[str, Votes]
    told: dict[str, str | None]
    near: dict[str, str | None]
    firm: dict[str, str | None]

    @property
    def mixed(self) -> bool:
        """Both polarities are there: several objects each, or in series that are sure by themselves."""
        disagreeing = self.votes.share < SURE and min(self.votes.bright, self.votes.dark) >= BOTH
        return disagreeing or len({votes.agreed(LEAST_VOTES) for votes in self.series.values()} - {None}) > 1

    @property
    def unclear(self) -> list[str]:
        """Triplets whose polarity cannot be told."""
        return [name for name, near in self.near.items() if near is None]


def weigh(triplets: Sequence[Triplet], findings: Sequence[Finding]) -> Polarity:
    """Count steps of depth, in all and by series.

    Args:
        triplets: Of a folder.
        findings: What was found of each.
    """
    told = [(t, f) for t, f in zip(triplets, findings, strict=True) if t.depth is not None and t.near is None]
    of_series: dict[str, list[Finding]] = defaultdict(list)
    for triplet, finding in told:
        of_series[series_of(triplet)].append(finding)
    series = {name: _votes(of) for name, of in of_series.items()}
    many = {name: votes.agreed(LEAST_VOTES) for name, votes in series.items()}
    by_maker = all(votes.agreed(FEW_VOTES) for votes in series.values() if votes.count >= FEW_VOTES)
    said = {name: votes.agreed(FEW_VOTES) for name, votes in series.items()} if by_maker else many
    return Polarity(
        votes=_votes(finding for _, finding in told),
        series=series,
        told=said,
        near={t.id: said[series_of(t)] or _votes([f]).agreed(1) for t, f in told},
        firm={t.id: many[series_of(t)] for t, _ in told},
    )


def series_of(triplet: Triplet) -> str:
    """What the name of the image begins with, up to its first number."""
    return re.split(r"\d", triplet.image.stem, maxsplit=1)[0]


def _votes(findings: Iterable[Finding]) -> Votes:
    """Votes of those whose step can be measured; a frame has edges of its own."""
    steps = [finding.step for finding in findings if finding.step and not finding.framed]
    clear = [step.slope > 0 for step in steps if abs(step.slope) >= STEP and abs(step.lead) >= STEP_LEAD]
    return Votes(sum(clear), len(clear) - sum(clear), len(steps) - len(clear))
