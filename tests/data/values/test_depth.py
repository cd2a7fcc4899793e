"""Depth values: polarity, units, unknown pixels, codes."""

import cv2
import numpy as np
import pytest

from data.dataset import DataError, DatasetSpec
from data.values.depth import DepthScale, decode_depth, shrink_depth, to_inverse_depth


def decoded(raw, px, **spec):
    return decode_depth(shrink_depth(*to_inverse_depth(raw, DatasetSpec(**spec)), px))


def test_codes_span_zero_to_one():
    depth, valid = decode_depth(np.array([0, 1, 32768, 65535], np.uint16))
    assert depth == pytest.approx([0, 0, 0.5, 1], abs=1e-5)
    assert valid.tolist() == [False, True, True, True]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("near", "expected"), [("bright", [0, 1]), ("dark", [1, 0])])
def test_relative_depth_follows_configured_polarity(dtype, near, expected):
    raw = np.array([[0, np.iinfo(dtype).max]], dtype)
    inverse, valid = to_inverse_depth(raw, DatasetSpec(near=near))
    assert inverse.tolist() == [expected] and valid.all()


@pytest.mark.parametrize(("unit", "scale", "dtype"), [("mm", 1000, np.uint16), ("m", 1, np.float32)])
def test_metric_depth_becomes_relative_inverse_depth(unit, scale, dtype):
    raw = (np.array([[0.5, 1, 2, 4, 8, 0]]) * scale).astype(dtype)
    inverse, valid = to_inverse_depth(raw, DatasetSpec(depth_unit=unit, near_m=1.0, far_m=4.0))
    # (1/z - 1/4) / (1 - 1/4): nearer than near is 1, farther than far is 0.
    assert inverse[0, :5] == pytest.approx([1, 1, 1 / 3, 0, 0], abs=1e-6)
    assert valid.tolist() == [[True] * 5 + [False]]


def test_metric_depth_without_far_ends_at_infinity():
    inverse, _ = to_inverse_depth(np.array([[2000, 8000]], np.uint16), DatasetSpec(depth_unit="mm", near_m=2.0))
    assert inverse[0] == pytest.approx([1, 0.25])


@pytest.mark.parametrize("far_m", [None, 8.0])
def test_relative_depth_is_turned_back_to_metres(far_m):
    raw = np.array([[1000, 2500, 7999]], np.uint16)
    inverse, _ = to_inverse_depth(raw, DatasetSpec(depth_unit="mm", near_m=0.5, far_m=far_m))
    scale = DepthScale(near_m=0.5, far_m=far_m)
    assert scale.metres(inverse) == pytest.approx(raw / 1000, rel=1e-3)
    assert scale.metres(np.float32([1, 0])).tolist() == pytest.approx([0.5, far_m or np.inf])


def test_metric_depth_without_near_is_an_error():
    with pytest.raises(DataError, match="near_m"):
        to_inverse_depth(np.ones((1, 1), np.uint16), DatasetSpec(depth_unit="mm"))


def test_not_finite_depth_is_unknown():
    _, valid = to_inverse_depth(np.array([[np.nan, np.inf, 1]], np.float32), DatasetSpec(depth_unit="m", near_m=1.0))
    assert valid.tolist() == [[False, False, True]]


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_relative_values_without_a_known_largest_one_are_an_error(dtype):
    raw = np.array([[0, 50, 100]], dtype)
    with pytest.raises(DataError, match=r"0 to 100, outside 0\.\.1"):
        to_inverse_depth(raw, DatasetSpec())
    assert to_inverse_depth(raw, DatasetSpec(depth_max=100.0))[0] == pytest.approx(np.array([[0, 0.5, 1]]))


def test_configured_missing_value_is_unknown_in_relative_depth():
    _, valid = to_inverse_depth(np.array([[0, 255]], np.uint8), DatasetSpec(missing=(255.0,)))
    assert valid.tolist() == [[True, False]]


def test_shrinking_averages_known_pixels_only():
    # Four blocks of 2 x 2 pixels: all known, three, two and one of them known.
    raw = np.array([[100, 100, 200, 0], [100, 100, 200, 200], [60, 0, 0, 0], [0, 40, 0, 9]], np.uint8)
    depth, valid = decoded(raw, 2, missing=(0.0,))
    assert valid.tolist() == [[True, True], [True, False]]
    assert depth * 255 == pytest.approx(np.array([[100, 200], [50, 0]]), abs=0.01)


def test_depth_nowhere_known_stays_unknown():
    _, valid = decoded(np.zeros((8, 8), np.uint16), 4, depth_unit="mm", near_m=1.0)
    assert not valid.any()


def test_sensor_depth_has_holes_and_plausible_values(shared_data):
    raw = cv2.imread(str(shared_data / "rgbd" / "depth" / "kit_000.png"), cv2.IMREAD_UNCHANGED)
    depth, valid = decoded(raw, 80, depth_unit="mm", near_m=0.5)
    assert valid.any() and not valid.all()
    assert depth[valid].min() > 0 and depth[valid].max() < 1 and (depth[~valid] == 0).all()
