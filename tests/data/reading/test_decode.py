"""From the values in files to packed values."""

import dataclasses
import struct
import zlib

import cv2
import numpy as np
import pytest

from data.reading.dataset_json import join_folders
from data.reading.decode import decode_triplet, find_common_scale, resolve_near_distance
from data.reading.depth import DepthScale, decode_depth, encode_depth, to_inverse_depth
from data.reading.layout import DataError, DatasetSpec, read_dataset


def decoded(raw, px, **spec):
    return decode_depth(encode_depth(raw, DatasetSpec(**spec), px))


def test_codes_span_zero_to_one():
    depth, valid = decode_depth(np.array([0, 1, 32768, 65535], np.uint16))
    assert depth == pytest.approx([0, 0, 0.5, 1], abs=1e-5)
    assert valid.tolist() == [False, True, True, True]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("near", "expected"), [("bright", [0, 1]), ("dark", [1, 0])])
def test_relative_depth_follows_stated_polarity(dtype, near, expected):
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


def test_scale_is_known_where_all_folders_with_depth_share_it(make_dataset, tmp_path):
    def scale(*specs):
        folders = [make_dataset(3, name=f"{len(specs)}{i}", spec=spec) for i, spec in enumerate(specs)]
        return find_common_scale(read_dataset(join_folders(folders, tmp_path)))

    near = {"near_m": 1.0, "far_m": 9.0}
    assert scale(near) == scale(near, near, near) == DepthScale(near_m=1.0, far_m=9.0)
    assert scale({}) is None and scale(near, {}) is None
    metric = make_dataset(3, name="metric", spec={"depth_unit": "mm"})
    assert find_common_scale(read_dataset(metric)).near_m == pytest.approx(0.032, abs=1e-3)
    mask_only = make_dataset(3, name="masks")
    (mask_only / "depth").rename(tmp_path / "away")
    assert find_common_scale(read_dataset(join_folders([metric, mask_only], tmp_path))) is not None


def test_metric_depth_without_near_is_an_error():
    with pytest.raises(DataError, match="near_m"):
        to_inverse_depth(np.ones((1, 1), np.uint16), DatasetSpec(depth_unit="mm"))


def test_not_finite_depth_is_unknown():
    _, valid = to_inverse_depth(np.array([[np.nan, np.inf, 1]], np.float32), DatasetSpec(depth_unit="m", near_m=1.0))
    assert valid.tolist() == [[False, False, True]]


def test_relative_floats_outside_range_are_an_error():
    with pytest.raises(DataError, match=r"outside 0\.\.1"):
        to_inverse_depth(np.array([[0.0, 3.0]], np.float32), DatasetSpec())


def test_stated_missing_value_is_unknown_in_relative_depth():
    _, valid = to_inverse_depth(np.array([[0, 255]], np.uint8), DatasetSpec(missing=255))
    assert valid.tolist() == [[True, False]]


def test_shrinking_averages_known_pixels_only():
    # Four blocks of 2 x 2 pixels: all known, three, two and one of them known.
    raw = np.array([[100, 100, 200, 0], [100, 100, 200, 200], [60, 0, 0, 0], [0, 40, 0, 9]], np.uint8)
    depth, valid = decoded(raw, 2, missing=0)
    assert valid.tolist() == [[True, True], [True, False]]
    assert depth * 255 == pytest.approx(np.array([[100, 200], [50, 0]]), abs=0.01)


def test_depth_nowhere_known_stays_unknown():
    _, valid = decoded(np.zeros((8, 8), np.uint16), 4, depth_unit="mm", near_m=1.0)
    assert not valid.any()


def test_near_distance_is_the_first_percentile(tmp_path, write_triplet):
    depth = np.full((100, 100), 4000, np.uint16)
    depth[:, :4], depth[:, 4:8] = 0, 2000
    for number in (1, 2):
        write_triplet(tmp_path, number, px=100, depth=depth)
    triplets = read_dataset(tmp_path).triplets
    assert resolve_near_distance(DatasetSpec(depth_unit="mm"), triplets).near_m == pytest.approx(2.0)
    assert resolve_near_distance(DatasetSpec(depth_unit="mm", near_m=0.5), triplets).near_m == 0.5
    assert resolve_near_distance(DatasetSpec(), triplets).near_m is None


@pytest.fixture
def only_triplet(tmp_path, write_triplet):
    def write(**pictures):
        write_triplet(tmp_path, 1, **pictures)
        return read_dataset(tmp_path).triplets[0]

    return write


def test_triplet_is_decoded_to_rgb_mask_and_codes(only_triplet):
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 2] = 250  # red, as OpenCV writes it
    got = decode_triplet(only_triplet(px=16, image=image), DatasetSpec(), 8)
    assert [(a.shape, a.dtype.name) for a in got] == [((8, 8, 3), "uint8"), ((8, 8), "uint8"), ((8, 8), "uint16")]
    assert got[0][0, 0].tolist() == [250, 0, 0]
    assert got[1][3, 3] == 255 and got[1][0, 0] == 0
    assert np.diff(decode_depth(got[2])[0][0, 1:]) == pytest.approx(16 / 255, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_of_zeros_and_ones_are_spread(only_triplet, channels):
    mask = np.ones((32, 32, channels), np.uint8)
    assert (decode_triplet(only_triplet(mask=mask), DatasetSpec(), 8)[1] == 255).all()


def test_three_channel_depth_is_read(only_triplet):
    triplet = only_triplet(depth=np.full((32, 32, 3), 51, np.uint8))
    assert decode_depth(decode_triplet(triplet, DatasetSpec(), 8)[2])[0] == pytest.approx(0.2, abs=1e-4)


def test_sizes_that_differ_are_an_error_naming_the_file(only_triplet):
    triplet = only_triplet(mask=np.zeros((16, 24), np.uint8))
    with pytest.raises(DataError, match=r"mask000001.png: is 24 x 16 px but fgbg000001.png is 32 x 32"):
        decode_triplet(triplet, DatasetSpec(), 8)


@pytest.mark.parametrize("cut", [0, 10, -5])
def test_truncated_picture_is_an_error_naming_the_file(only_triplet, cut):
    triplet = only_triplet()
    whole = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    triplet.image.write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"fgbg000001\.png: not a whole picture"):
        decode_triplet(triplet, DatasetSpec(), 8)


def test_picture_of_impossible_sides_is_an_error_naming_the_file(only_triplet):
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    triplet = only_triplet()
    triplet.image.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(DataError, match="not a whole picture"):
        decode_triplet(triplet, DatasetSpec(), 16)


def test_vanished_picture_is_an_error_naming_the_file(only_triplet):
    triplet = only_triplet()
    triplet.depth.unlink()
    with pytest.raises(DataError, match=r"depth/fgbg000001\.png: cannot be read"):
        decode_triplet(triplet, DatasetSpec(), 8)


def test_sensor_depth_has_holes_and_plausible_values(shared_data):
    raw = cv2.imread(str(shared_data / "rgbd" / "depth" / "kit_000.png"), cv2.IMREAD_UNCHANGED)
    depth, valid = decoded(raw, 80, depth_unit="mm", near_m=0.5)
    assert valid.any() and not valid.all()
    assert depth[valid].min() > 0 and depth[valid].max() < 1 and (depth[~valid] == 0).all()


def test_real_size_mismatch_is_found(shared_data):
    triplet = next(t for t in read_dataset(shared_data / "quirks").triplets if t.id == "deepold_638")
    with pytest.raises(DataError, match=r"224 x 224 px but deepold_638\.jpg is 256 x 256"):
        decode_triplet(triplet, DatasetSpec(), 80)


def test_what_a_triplet_has_not_is_zero_everywhere(only_triplet):
    triplet = only_triplet()
    whole = decode_triplet(triplet, DatasetSpec(), 8)
    no_mask = decode_triplet(dataclasses.replace(triplet, mask=None), DatasetSpec(), 8)
    no_depth = decode_triplet(dataclasses.replace(triplet, depth=None), DatasetSpec(), 8)
    assert whole[1].any() and not no_mask[1].any() and not no_depth[2].any()
    assert (no_mask[2] == whole[2]).all() and (no_depth[1] == whole[1]).all()
