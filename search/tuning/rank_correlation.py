"""Rank correlation between the scores of the same trials at two stages, and means over seeds, with intervals."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

RESAMPLES = 500
LEVEL = 0.95


def correlate_ranks(lower: Sequence[float], upper: Sequence[float], *, seed: int = 0) -> dict[str, Any] | None:
    """Return the rank correlations of the same trials' scores at two stages, both in the same order.

    The result has `trials` and, for `spearman` and `kendall` (tau-b), `value`, `low`, `high` and `chance`; it is None
    for fewer than three trials, or if all scores of a stage are equal. Few trials are promoted, so each correlation has
    the interval of a paired percentile bootstrap, without resamples that have no correlation. The interval of a few
    trials in perfect order has zero width, so `chance` is the one-sided p-value of a permutation test.

    Source: Spearman 1904; Kendall 1938; Efron 1979; Fisher 1935 (permutations).
    """
    x, y = np.asarray(lower, float), np.asarray(upper, float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    from scipy import stats  # takes nearly a second to import, and workers do not need it

    result: dict[str, Any] = {"trials": len(x)}
    for name, measure in (("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns of resamples whose scores are all equal
            resampled = stats.bootstrap(
                (x, y),
                lambda a, b, measure=measure: measure(a, b).statistic,
                paired=True,
                vectorized=False,
                n_resamples=RESAMPLES,
                confidence_level=LEVEL,
                method="percentile",
                rng=seed,
            ).bootstrap_distribution
        low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        test = stats.permutation_test(
            (y,),
            lambda order, measure=measure: measure(x, order).statistic,
            permutation_type="pairings",
            vectorized=False,
            n_resamples=RESAMPLES,
            alternative="greater",
            rng=seed,
        )
        result[name] = {"value": float(test.statistic), "low": float(low), "high": float(high)}
        result[name]["chance"] = float(test.pvalue)
    return result


def compute_mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Return the mean of a few repetitions and its 95 % interval by Student's t; for a single value the mean only.

    Source: Student 1908.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"mean": mean}
    from scipy import stats

    margin = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * stats.sem(values))
    return {"mean": mean, "low": mean - margin, "high": mean + margin}
