"""Hypervolume, by hand and against drawn points."""

import numpy as np
import pytest

from search.study.pareto import compute_hypervolume


@pytest.mark.parametrize(
    ("points", "volume"),
    [
        ([], 0),
        ([(0.0, 0.0)], 1),
        ([(0.5, 0.0), (0.0, 0.5)], 0.75),
        ([(0.5, 0.0), (0.0, 0.5), (0.6, 0.6), (0.0, 0.5)], 0.75),  # dominated and equal points add nothing
        ([(1.5, 0.0), (0.2, 3.0)], 0),  # no better than the reference
        ([(-1.0, 0.5)], 1),
    ],
)
def test_hypervolume_of_two_coordinates(points, volume):
    assert compute_hypervolume(points, (1.0, 1.0)) == pytest.approx(volume)


def test_hypervolume_of_three_coordinates_is_the_share_of_drawn_points_that_are_dominated():
    rng = np.random.default_rng(0)
    points, drawn = rng.random((12, 3)), rng.random((40_000, 3))
    dominated = (drawn[:, None] >= points[None]).all(2).any(1).mean()
    assert compute_hypervolume([tuple(map(float, p)) for p in points], (1.0, 1.0, 1.0)) == pytest.approx(
        dominated, abs=0.01
    )
