import numpy as np
import pytest

from data.loading.visualize import (
    render_comparison,
    render_depth,
    render_grey,
    render_predictions,
    render_truth,
    stack_rows,
)
from data.pack.pack import RawBatch


def test_near_is_bright_and_the_unknown_black():
    depth = np.array([[0.0, 0.5, 1.0]])
    brightness = render_depth(depth).astype(int).sum(axis=2)[0]
    assert brightness[0] < brightness[1] < brightness[2]
    assert render_depth(depth, np.array([[True, True, False]]))[0, 2].tolist() == [0, 0, 0]


def test_depth_is_coloured_red_before_blue():
    red, _, blue = render_depth(np.array([[0.7]]))[0, 0].astype(int)
    assert red > 200 > blue  # the middle of the map is orange


def test_values_beyond_their_range_are_clipped():
    assert render_grey(np.array([[-1.0, 2.0]]))[0].tolist() == [[0] * 3, [255] * 3]


def test_sheet_has_a_row_per_sample():
    dark, light = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert stack_rows([[dark, light, dark], [light, light, light]]).shape == (8, 12, 3)


def test_truth_shows_image_mask_and_depth():
    image = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    mask = np.full((2, 8, 8), 255, np.uint8)
    depth = np.full((2, 8, 8), 65535, np.uint16)
    depth[1] = 0  # not known
    shown = render_truth(RawBatch(image, mask, depth, np.ones(2, bool)))
    assert shown.shape == (16, 24, 3)
    assert np.array_equal(shown[:8, :8], image[0]) and (shown[:, 8:16] == 255).all()
    assert (shown[:8, 16:] == render_depth(np.ones((8, 8)))).all() and (shown[8:, 16:] == 0).all()


def test_mask_that_is_not_known_is_half_grey():
    image, mask, depth = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8), np.uint16)
    shown = render_truth(RawBatch(image, mask, depth, np.array([True, False])))
    assert (shown[:8, 8:16] == 0).all() and (shown[8:, 8:16] == 127).all()


def test_difference_is_of_what_is_known_alone():
    image, mask = np.zeros((4, 8, 8, 3), np.uint8), np.full((4, 8, 8), 255, np.uint8)
    depth = np.full((4, 8, 8), 65535, np.uint16)
    depth[2:] = 0  # not known
    prediction = np.stack([np.full((4, 8, 8), 0.2), np.full((4, 8, 8), 0.5)], axis=1)
    rows = render_comparison(RawBatch(image, mask, depth, np.array([True, False, True, False])), prediction)
    assert [len(row) for row in rows] == [6] * 4
    assert [row[-1].mean().item() / 255 for row in rows] == pytest.approx([0.8, 0.5, 0.8, 0.0], abs=0.01)


def test_prediction_shows_mask_and_depth():
    images = np.zeros((3, 8, 8, 2), np.uint8)
    images[..., 0] = 255
    shown = render_predictions(images)
    assert shown.shape == (24, 16, 3)
    assert (shown[:, :8] == 255).all() and (shown[:8, 8:] == render_depth(np.zeros((8, 8)))).all()
