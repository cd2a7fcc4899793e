"""What a few runs say of a method: the interquartile mean and an interval around it. Pure functions over arrays.

Source: Agarwal et al. 2021, arXiv:2108.13264, section 4 (stratified bootstrap intervals, interquartile mean).
"""

import numpy as np
from jaxtyping import Float
from scipy.stats import trim_mean

CUT = 0.25  # of the runs at either end
RESAMPLES = 2000
PERCENT = (2.5, 97.5)


def iqm(values: Float[np.ndarray, "runs ..."]) -> Float[np.ndarray, "..."]:
    """Return the mean of the middle half of the runs; of fewer than four runs the mean of all.

    Whole runs are cut, as rliable does: one at either end of four to seven.
    """
    return np.asarray(trim_mean(values, CUT, axis=0))


def interval(values: Float[np.ndarray, "runs ..."], *, seed: int = 0) -> Float[np.ndarray, "2 ..."]:
    """Return the 95 % bootstrap interval of `iqm`, lower end first.

    Runs are drawn with replacement within each stratum, which is a task: one data set is one. An interval of a handful
    of runs is too narrow, and that of a single run is a point.
    """
    chosen = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    means = trim_mean(values[chosen], CUT, axis=1)
    return np.asarray(np.percentile(means, PERCENT, axis=0))
