"""A run on a simulated clock: workers, a searcher and a ladder over recorded curves, as a heap of what happens next.

What the real search does is done with the real one's own parts: the sampler, the stages and who is promoted, the cap of
a trial's time. What trains is looked up. Times are processor seconds as recorded, of one thread whatever idles: with
many workers the real ladder gives those that climb more threads, and does better than here.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from analysis.surrogate import Curve, Recording
from search.ladder import Stage, promote, ranked
from search.limits import search_cap_s
from search.records import TrialRecord

OVERHEAD = 0.02  # of a whole explore trial, per trial: 0.3 s of the 14 s that one takes on two cores
LATE = 0.25  # of a trial's cap; so long before a search's deadline nothing new starts


class Searcher(Protocol):
    """Who says what is trained next."""

    def ask(self) -> tuple[int, int]:
        """Return a token and the number of the recorded configuration that answers."""

    def tell(self, token: int, status: str, scores: Sequence[float]) -> None:
        """Take up how a trial ended and what it reported; the last score is the one that counts."""


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving: the factor, and the first epoch after which trials may be stopped.

    Source: Li et al. 2018, arXiv:1810.05934.
    """

    factor: int = 3
    grace: int = 1

    def rungs(self, epochs: int) -> list[int]:
        """Return the epochs at which trials of so many are compared; at their last they end anyway."""
        return [self.grace * self.factor**k for k in range(epochs) if self.grace * self.factor**k < epochs]

    def stops(self, recorded: Sequence[float], score: float) -> bool:
        """Return whether a trial stops at a rung: it is not among the best 1 / factor of those before it."""
        return bool(recorded) and score < float(np.percentile(recorded, (1 - 1 / self.factor) * 100))


@dataclass(frozen=True)
class Rung:
    """A stage of a ladder and the recorded curve that stands for its trials.

    Attributes:
        stage: Its share, its epochs, whether it races, who enters.
        curve: Name of the recorded stage.
        skip: Epochs of that curve that trials have behind them when they enter.
    """

    stage: Stage
    curve: str
    skip: int = 0

    def of(self, recording: Recording, config: int) -> Curve | None:
        """Return the curve of a configuration on this rung; None where the rung below diverged."""
        whole = recording.curves.get((config, self.curve))
        if whole is None or len(whole.scores) <= self.skip:
            return None
        part = slice(self.skip, self.skip + self.stage.epochs)
        return Curve(whole.scores[part], whole.ends_s[part] - (whole.ends_s[self.skip - 1] if self.skip else 0.0))


@dataclass
class _Trial:
    """A trial that runs.

    Attributes:
        name: As the real one's, a letter and a number.
        token: The searcher's.
        curve: What it will report and when.
        began: When its training began.
        limit: Seconds that it may train.
        seen: What it has reported.
    """

    name: str
    token: int
    config: int
    curve: Curve
    began: float
    limit: float
    seen: list[float] = field(default_factory=list)

    def next_s(self) -> float:
        """Return when its next epoch ends, or when the clock cuts it."""
        return self.began + min(float(self.curve.ends_s[len(self.seen)]), self.limit)

    def advance(self) -> str:
        """Take the next epoch; return how the trial ended with it, or "" if it goes on."""
        epoch = len(self.seen)
        if self.curve.ends_s[epoch] > self.limit:
            return "timed_out"
        if math.isnan(self.curve.scores[epoch]):
            return "failed"
        self.seen.append(float(self.curve.scores[epoch]))
        return "completed" if epoch + 1 == len(self.curve.scores) else ""

    def reported(self, status: str) -> list[float]:
        """Return its reports: the last of one that ended itself is of its best epoch; 0 is a constant guess's score."""
        seen = self.seen or [0.0]
        return seen if status == "stopped" else [*seen[:-1], max(seen)]


def search(
    recording: Recording, searcher: Searcher, rung: Rung, asha: Asha, *, workers: int, until_s: float
) -> list[TrialRecord]:
    """Let a searcher use `workers` workers until a moment; return the records of its trials in the order they began."""
    stage = rung.stage
    cap_s = min(search_cap_s(until_s, workers, stage.full_trials), until_s)
    heap: list[tuple[float, int, _Trial | None]] = [(0.0, number, None) for number in range(workers)]
    levels: dict[int, list[float]] = {epoch: [] for epoch in asha.rungs(stage.epochs) if stage.races}
    records: dict[str, TrialRecord] = {}
    while heap:
        now, order, trial = heapq.heappop(heap)
        if trial is not None and not _step(trial, asha, levels, searcher, records, recording):
            heapq.heappush(heap, (trial.next_s(), order, trial))
            continue
        began = now + OVERHEAD * recording.unit_s
        if now >= until_s - LATE * cap_s:
            continue
        token, config = searcher.ask()
        curve = rung.of(recording, config)
        name = f"{stage.name[0]}{len(records) + 1:04d}"
        assert curve is not None  # a first stage is recorded of all
        records[name] = TrialRecord(trial_id=name, parent_id="", stage=stage.name, config={"number": config}, seed=0)
        new = _Trial(name, token, config, curve, began, min(cap_s, max(until_s - began, 0.0)))
        heapq.heappush(heap, (new.next_s(), order, new))
    return list(records.values())


def _step(
    trial: _Trial,
    asha: Asha,
    levels: dict[int, list[float]],
    searcher: Searcher,
    records: dict[str, TrialRecord],
    recording: Recording,
) -> bool:
    """Take a trial's next epoch; return whether it ended, by itself or stopped."""
    status = trial.advance()
    if status in ("", "completed") and len(trial.seen) in levels:
        recorded, score = levels[len(trial.seen)], trial.seen[-1]
        status = "stopped" if asha.stops(recorded, score) else status
        recorded.append(score)
    if not status:
        return False
    reports = trial.reported(status)
    searcher.tell(trial.token, status, reports)
    _close(records[trial.name], status, reports[-1], recording.params[trial.config])
    return True


def _close(record: TrialRecord, status: str, score: float, params: int) -> None:
    record.status = status
    record.figures = {"params": params} if status == "failed" else {"params": params, "score": score}


def climb(
    recording: Recording, below: list[TrialRecord], rungs: Sequence[Rung], *, workers: int, wall_s: float, seed: int
) -> TrialRecord:
    """Promote from stage to stage within a wall time; return the record that would be handed out.

    Args:
        recording: What trains.
        below: Finished trials of the first rung.
        rungs: All, the first included.
        workers: Trials at the same time.
        wall_s: From the start of the first stage to the end of the last.
        seed: Draws the controls.

    Returns:
        The best of the highest stage in which any trial has a score.
    """
    total = sum(rung.stage.share for rung in rungs)
    moment, share = wall_s * rungs[0].stage.share / total, rungs[0].stage.share
    for rung in rungs[1:]:
        share += rung.stage.share
        entrants = promote(below, rung.stage, seed=seed)
        pairs = [(record, rung.of(recording, record.config["number"])) for record in entrants]
        deadline = wall_s * share / total
        done = list(_train(recording, rung, pairs, workers=workers, begin=moment, deadline=deadline))
        moment = max((end for end, _ in done), default=moment)  # what a stage leaves is the next one's
        below = [record for _, record in done] if ranked([record for _, record in done]) else below
    return ranked(below)[0]


def _train(
    recording: Recording,
    rung: Rung,
    pairs: Sequence[tuple[TrialRecord, Curve | None]],
    *,
    workers: int,
    begin: float,
    deadline: float,
) -> Iterator[tuple[float, TrialRecord]]:
    """Train those promoted, best first; yield when each ended and its record."""
    each_s = (deadline - begin) / max(1, math.ceil(len(pairs) / workers))
    free = [begin] * workers
    for number, (parent, curve) in enumerate(pairs, start=1):
        if curve is None:
            continue
        start = heapq.heappop(free) + OVERHEAD * recording.unit_s
        trial = _Trial("", 0, parent.config["number"], curve, start, max(min(each_s, deadline - start), 0.0))
        status = ""
        while not status:
            end, status = trial.next_s(), trial.advance()
        name = f"{rung.stage.name[0]}{number:04d}"
        record = replace(parent, trial_id=name, parent_id=parent.trial_id, stage=rung.stage.name)
        _close(record, status, trial.reported(status)[-1], recording.params[trial.config])
        heapq.heappush(free, end)
        yield end, record
