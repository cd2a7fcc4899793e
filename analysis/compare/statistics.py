"""The interquartile mean of a few runs, and its bootstrap interval.

Source: Agarwal et al. 2021, arXiv:2108.13264, section 4 (stratified bootstrap intervals, interquartile mean).
"""

import numpy as np
from jaxtyping import Float
from scipy.stats import bootstrap, trim_mean

CUT = 0.25  # share of the runs that is cut at either end
RESAMPLES = 2000


def iqm(values: Float[np.ndarray, "runs ..."], axis: int = 0) -> Float[np.ndarray, "..."]:
    """Return the mean of the middle half of the runs; for fewer than four runs the mean of all.

    Whole runs are cut, as rliable does: one at either end of four to seven.
    """
    return np.asarray(trim_mean(values, CUT, axis=axis))


def iqm_interval(values: Float[np.ndarray, "runs ..."], *, seed: int = 0) -> Float[np.ndarray, "2 ..."]:
    """Return the 95 % percentile bootstrap interval of `iqm`, lower end first.

    Runs are drawn with replacement within each stratum, which is a task; one data set is one task. The interval is too
    narrow for a handful of runs, and a point for a single run.
    """
    if len(values) == 1:
        return np.repeat(values, 2, axis=0)
    rng = np.random.default_rng(seed)
    found = bootstrap((values,), iqm, n_resamples=RESAMPLES, method="percentile", vectorized=True, rng=rng)
    return np.stack(found.confidence_interval)
