"""How well one stage foretells the next: rank correlations with intervals. Pure functions over scores."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

RESAMPLES = 500
LEVEL = 0.95


def agreement(below: Sequence[float], above: Sequence[float], *, seed: int = 0) -> dict[str, Any] | None:
    """Return Spearman's and Kendall's rank correlation of the same trials' scores at two stages.

    Few trials climb, so each comes with the interval of a paired percentile bootstrap (resamples in which all scores of
    a stage are equal say nothing and are left out). That of a few in perfect order has no width, so the chance that an
    order drawn at random agrees as well is there too.

    Args:
        below: Scores at the lower stage.
        above: Of the same trials, in the same order, at the upper one.
        seed: Of the resampling.

    Returns:
        `trials` and, for `spearman` and `kendall`, `value`, `low`, `high` and `chance`; None under three trials, or if
        all scores of a stage are equal.

    Source: Spearman 1904; Kendall 1938 (tau-b); Efron 1979; Fisher 1935 (permutations). Ties share their mean rank.
    """
    a, b = np.asarray(below, float), np.asarray(above, float)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    from scipy import stats  # nearly a second to import, and workers need none of it

    measures = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}
    draws = np.sort(np.random.default_rng(seed).integers(len(a), size=(RESAMPLES, len(a))))
    unlike, often = np.unique(draws, axis=0, return_counts=True)  # of few trials many resamples are alike
    told = [i for i, draw in enumerate(unlike) if np.ptp(a[draw]) > 0 and np.ptp(b[draw]) > 0]
    found: dict[str, Any] = {"trials": len(a)}
    for name, measure in measures.items():
        values = np.repeat([measure(a[unlike[i]], b[unlike[i]]).statistic for i in told], often[told])
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        value = float(measure(a, b).statistic)
        drawn = [measure(a, order).statistic for order in _orders(b, seed)]
        chance = float(np.mean(np.array(drawn) >= value - 1e-9))
        found[name] = {"value": value, "low": float(low), "high": float(high), "chance": chance}
    return found


def _orders(scores: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yield all orders of a few scores, RESAMPLES random ones of more."""
    if math.factorial(len(scores)) <= RESAMPLES:
        yield from (np.array(order) for order in itertools.permutations(scores))
    else:
        rng = np.random.default_rng(seed)
        yield from (rng.permutation(scores) for _ in range(RESAMPLES))


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Return the mean of a few repetitions and its 95 % interval by Student's t; without one for a single value.

    Source: Student 1908.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"mean": mean}
    from scipy import stats

    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return {"mean": mean, "low": mean - reach, "high": mean + reach}
