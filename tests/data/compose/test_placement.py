import numpy as np
import pytest

from data.compose.placement import (
    compute_overlap,
    compute_plane_sizes,
    compute_standing_sizes,
    draw_placement,
    draw_standing,
)

H, W = 120, 160


def scene():
    """Sky, a wall on the left half, and level ground from the middle downwards."""
    inverse = np.zeros((H, W), np.float32)
    inverse[60:] = np.linspace(0.02, 1, 60, dtype=np.float32)[:, None]
    inverse[20:110, :80] = 0.3
    return inverse


def feet_of(sizes, count=300):
    rng = np.random.default_rng(0)
    return [draw_standing(sizes, (40, 20), rng) for _ in range(count)]


def test_things_stand_on_level_ground_only():
    for _, (row, column) in feet_of(compute_standing_sizes(scene())):
        assert row >= 60
        assert column >= 80 or row >= 107


def test_things_are_larger_towards_the_bottom():
    placed = feet_of(compute_standing_sizes(scene()))
    rows, sizes = np.array([foot[0] for _, foot in placed]), np.array([place.size for place, _ in placed])
    assert np.corrcoef(rows, sizes)[0, 1] > 0.9
    assert sizes[rows > 110].min() > sizes[rows < 75].max()


def test_feet_stand_where_the_place_says():
    for place, (row, column) in feet_of(compute_standing_sizes(scene()), 20):
        assert place.bottom((40, 20)) == pytest.approx((row + 1) / H)
        assert place.x == pytest.approx((column + 0.5) / W)


def test_without_depth_ground_is_a_plane_below_the_horizon():
    sizes = compute_standing_sizes(np.full((H, W), -1, np.float32))
    assert not sizes[:54].any()
    assert (np.diff(sizes[70:, 0]) > 0).all()
    assert sizes[-1, 0] == pytest.approx(0.9)


def test_sky_below_the_horizon_carries_nothing():
    inverse = np.full((H, W), 0.3, np.float32)
    inverse[:, :50] = 0
    sizes = compute_plane_sizes(inverse)
    assert not sizes[:, :50].any()
    assert sizes[-1, 50:].all()


def test_where_nothing_can_stand_no_place_is_drawn():
    sizes = compute_standing_sizes(np.zeros((H, W), np.float32))
    assert draw_standing(sizes, (40, 20), np.random.default_rng(0)) is None


def test_study_places_things_anywhere_at_its_sizes():
    places = [draw_placement(np.random.default_rng(seed)) for seed in range(300)]
    for values in ([place.x for place in places], [place.y for place in places]):
        assert min(values) < 0.05
        assert max(values) > 0.95
    sizes = [place.size for place in places]
    assert 0.3 <= min(sizes) < 0.32
    assert 0.58 < max(sizes) <= 0.6


def test_overlap_is_never_empty():
    for seed in range(200):
        place = draw_placement(np.random.default_rng(seed))
        for image, foreground in zip(*compute_overlap(place, (7, 31), 48), strict=True):
            assert 0 <= image.start < image.stop <= 48
            assert image.stop - image.start == foreground.stop - foreground.start
