import json
import math

import numpy as np
import pytest

from analysis.demo.point_cloud import FARTHEST, FIELD_OF_VIEW_DEG, make_points, plot_points


def scene(height, width):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    return photo, rng.random((height, width), dtype=np.float32)


def test_nearest_is_at_1_and_farthest_at_its_distance():
    photo, _ = scene(1, 3)
    xyz, _ = make_points(photo, np.array([[1, 0.5, 0]], np.float32))
    assert xyz[:, 1] == pytest.approx([1, 2 * FARTHEST / (1 + FARTHEST), FARTHEST])


@pytest.mark.parametrize(("height", "width"), [(7, 20), (20, 7), (1, 1)])
def test_points_are_seen_where_their_pixels_are(height, width):
    photo, depth = scene(height, width)
    xyz, rgb = make_points(photo, depth)
    focal = max(height, width) / 2 / math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)
    column = focal * xyz[:, 0] / xyz[:, 1] + width / 2 - 0.5
    row = -focal * xyz[:, 2] / xyz[:, 1] + height / 2 - 0.5
    np.testing.assert_allclose(column, np.tile(np.arange(width), height), atol=1e-4)
    np.testing.assert_allclose(row, np.repeat(np.arange(height), width), atol=1e-4)
    np.testing.assert_array_equal(rgb, photo.reshape(-1, 3))


def test_the_longer_side_fills_the_field_of_view():
    photo, depth = scene(40, 300)
    xyz, _ = make_points(photo, depth)
    angles = np.degrees(np.arctan2(xyz[:, 0], xyz[:, 1]))
    assert FIELD_OF_VIEW_DEG - 0.5 < angles.max() - angles.min() < FIELD_OF_VIEW_DEG


def test_large_photos_give_about_as_many_points_as_asked_for():
    photo, depth = scene(300, 400)
    xyz, rgb = make_points(photo, depth, most=1200)
    assert len(xyz) == len(rgb) == 30 * 40
    assert rgb.mean() == pytest.approx(photo.mean(), abs=1)


def test_plot_has_every_point_in_its_colour_and_nothing_else():
    photo = np.array([[[255, 0, 16]], [[1, 2, 3]]], np.uint8)
    figure = plot_points(*make_points(photo, np.ones((2, 1), np.float32)))
    (cloud,) = figure.data
    assert cloud.mode == "markers" and list(cloud.marker.color) == ["#ff0010", "#010203"]
    assert cloud.z[0] > 0 > cloud.z[1]  # what is above in the photo is above
    scene = json.loads(figure.to_json())["layout"]["scene"]
    assert scene["aspectmode"] == "data" and not scene["xaxis"]["visible"] and not scene["zaxis"]["visible"]
