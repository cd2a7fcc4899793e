"""The searchers that are replayed: Optuna's samplers, asked and told as a run asks and tells them, and plain chance.

Everything about a suggestion is the real search's, the rejection of what is too expensive included; then the recorded
configuration that is nearest takes its place.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from analysis.benchmarks.record_curves import affordable, excess
from analysis.surrogate import Recording
from search.config import TrialConfig
from search.sampler import REJECTIONS, TOLD, FeasibleTPE, sampler
from search.space import first_points, suggest

POOL = 400  # suggestions that chance draws from, with replacement
MOST_GOOD = 25  # trials that TPE takes for good at the most, as Optuna's own rule has it


class StudySearcher:
    """An Optuna study in memory.

    Args:
        recording: What answers.
        sampler: Of the study.
        points: To try first.
    """

    def __init__(self, recording: Recording, sampler: BaseSampler, points: Sequence[Mapping[str, Any]]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.recording = recording
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        for point in points:
            self.study.enqueue_trial(dict(point))

    def ask(self) -> tuple[int, int]:
        """Return Optuna's number of a trial and the recorded configuration."""
        number, config = self.suggest()
        return number, self.recording.nearest(config)

    def suggest(self) -> tuple[int, TrialConfig]:
        """Return Optuna's number of a trial and its configuration; what is too expensive is told as PRUNED."""
        for _ in range(REJECTIONS):
            trial = self.study.ask()
            config = suggest(trial, self.recording.limits)
            if affordable(config):
                return trial.number, config
            trial.set_constraint("time", excess(config))
            self.study.tell(trial, state=TrialState.PRUNED)
            if isinstance(self.study.sampler, FeasibleTPE):
                self.study.sampler.rejected += 1
        trial = self.study.ask()  # taken as it is
        return trial.number, suggest(trial, self.recording.limits)

    def tell(self, token: int, status: str, scores: Sequence[float]) -> None:
        """Tell Optuna how a trial ended, as `search.searcher.StudySearch` does."""
        trial, state = optuna.Trial(self.study, self._id(token)), TOLD[status]
        for epoch, score in enumerate(scores, start=1):
            trial.report(score, epoch)
        self.study.tell(trial, scores[-1] if state == TrialState.COMPLETE else None, state=state)

    def _id(self, number: int) -> int:
        return int(self.study._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number))


class Chance:
    """Random search, from a pool of suggestions drawn once: all ladders of a repeat are asked about the same.

    Args:
        first: Recorded configurations to begin with.
        pool: The suggestions, as recorded configurations.
        seed: Of the repeat.
    """

    def __init__(self, first: Sequence[int], pool: Sequence[int], seed: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = (int(number) for _ in iter(int, 1) for number in rng.choice(pool, size=64))
        self._numbers: Iterator[int] = chain(first, drawn)

    def ask(self) -> tuple[int, int]:
        """Return nothing to tell by, and the next configuration."""
        return 0, next(self._numbers)

    def tell(self, token: int, status: str, scores: Sequence[float]) -> None:
        """Learn nothing."""


class Searchers:
    """Makes searchers over one recording.

    Attributes:
        points: The study's recipes and the starters, as points of the space.

    Args:
        recording: What answers.
        drawn: The recipes, then suggestions of chance; None draws POOL of them.
    """

    def __init__(self, recording: Recording, drawn: Sequence[TrialConfig] | None = None) -> None:
        self.recording, self._given = recording, drawn
        self.points = first_points(recording.limits, affordable)

    @cached_property
    def drawn(self) -> Sequence[TrialConfig]:
        """The recipes, then suggestions of chance."""
        if self._given is not None:
            return self._given
        study = StudySearcher(self.recording, optuna.samplers.RandomSampler(seed=0), self.points)
        return [study.suggest()[1] for _ in range(len(self.points) + POOL)]

    @cached_property
    def _pool(self) -> list[int]:
        """Return what answers for each of those drawn."""
        return [self.recording.nearest(config) for config in self.drawn]

    def random(self, seed: int, *, recipes: bool = True) -> Chance:
        """Return random search."""
        count = len(self.points)
        return Chance(self._pool[:count] if recipes else [], self._pool[count:], seed)

    def tpe(self, seed: int, *, recipes: bool = True, **options: Any) -> StudySearcher:
        """Return the project's own TPE, with `options` in the place of its own.

        `gamma` is the part of the trials that is taken for good.
        """
        good = options.pop("gamma", None)
        chosen = sampler("tpe", seed, **options)
        if good is not None and isinstance(chosen, FeasibleTPE):
            chosen.gamma = partial(_good, good)
        return StudySearcher(self.recording, chosen, self.points if recipes else [])


def _good(part: float, trials: int) -> int:
    return min(math.ceil(part * trials), MOST_GOOD)
