import numpy as np

from analysis.compare.statistics import iqm, iqm_interval


def test_interquartile_mean_leaves_whole_runs_out():
    assert iqm(np.array([9.0, 1.0, 2.0])) == 4 and iqm(np.array([9.0, 1.0, 2.0, 3.0, -9.0])) == 2
    assert list(iqm(np.array([[1.0, 10.0], [3.0, 30.0]]))) == [2, 20]


def test_interval_holds_the_mean_and_is_a_point_for_one_run():
    low, high = iqm_interval(np.random.default_rng(0).normal(0.5, 0.1, 100))
    assert 0.45 < low < 0.5 < high < 0.55 and 0.03 < high - low < 0.07
    assert list(iqm_interval(np.array([0.3]))) == [0.3, 0.3]
    assert iqm_interval(np.zeros((4, 7))).shape == (2, 7)
