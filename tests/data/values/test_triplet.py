"""From the values in files to packed values."""

import dataclasses
import struct
import zlib

import cv2
import numpy as np
import pytest

from data.dataset import DataError, DatasetSpec
from data.reading.dataset_json import join_folders
from data.reading.layout import read_dataset
from data.values.depth import DepthScale, decode_depth
from data.values.triplet import decode_triplet, find_common_scale, resolve_near_distance


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


def test_near_distance_is_the_first_percentile(tmp_path, write_triplet):
    depth = np.full((100, 100), 4000, np.uint16)
    depth[:, :4], depth[:, 4:8] = 0, 2000
    for number in (1, 2):
        write_triplet(tmp_path, number, px=100, depth=depth)
    maps = read_dataset(tmp_path).depth_maps
    assert resolve_near_distance(DatasetSpec(depth_unit="mm"), maps).near_m == pytest.approx(2.0)
    assert resolve_near_distance(DatasetSpec(depth_unit="mm", near_m=0.5), maps).near_m == 0.5
    assert resolve_near_distance(DatasetSpec(), maps).near_m is None


@pytest.fixture
def only_triplet(tmp_path, write_triplet):
    def write(**images):
        write_triplet(tmp_path, 1, **images)
        return read_dataset(tmp_path).triplets[0]

    return write


def test_triplet_is_decoded_to_rgb_mask_and_codes(only_triplet):
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 2] = 250  # red, as OpenCV writes it
    got = decode_triplet(only_triplet(px=16, image=image), DatasetSpec(), 8)
    assert [(a.shape, a.dtype.name) for a in got] == [
        ((8, 8, 3), "uint8"),
        ((8, 8), "uint8"),
        ((8, 8), "uint16"),
        ((8, 8), "bool"),
    ]
    assert got[0][0, 0].tolist() == [250, 0, 0]
    assert got[1][3, 3] == 255 and got[1][0, 0] == 0
    assert np.diff(decode_depth(got[2])[0][0, 1:]) == pytest.approx(16 / 255, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_of_zeros_and_ones_are_spread(only_triplet, channels):
    mask = np.ones((32, 32, channels), np.uint8)
    assert (decode_triplet(only_triplet(mask=mask), DatasetSpec(), 8)[1] == 255).all()


def test_three_channel_depth_is_read(only_triplet):
    depth = np.full((32, 32, 3), 51, np.uint8)
    depth[16:] = 102
    found = decode_depth(decode_triplet(only_triplet(depth=depth), DatasetSpec(), 8)[2])[0]
    assert found == pytest.approx(np.repeat([0.2, 0.4], 32).reshape(8, 8), abs=1e-4)


def test_sizes_that_differ_are_an_error_naming_the_file(only_triplet):
    triplet = only_triplet(mask=np.zeros((16, 24), np.uint8))
    with pytest.raises(DataError, match=r"mask000001.png: is 24 x 16 px but fgbg000001.png is 32 x 32"):
        decode_triplet(triplet, DatasetSpec(), 8)


@pytest.mark.parametrize(("cut", "kind"), [(0, "unreadable"), (10, "truncated"), (-5, "truncated")])
def test_truncated_image_is_an_error_naming_the_file(only_triplet, cut, kind):
    triplet = only_triplet()
    whole = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    triplet.image.write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"fgbg000001\.png: not a whole image") as caught:
        decode_triplet(triplet, DatasetSpec(), 8)
    assert caught.value.kind == kind


def test_image_of_impossible_sides_is_an_error_naming_the_file(only_triplet):
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    triplet = only_triplet()
    triplet.image.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(DataError, match="not a whole image"):
        decode_triplet(triplet, DatasetSpec(), 16)


def test_vanished_image_is_an_error_naming_the_file(only_triplet):
    triplet = only_triplet()
    triplet.depth.unlink()
    with pytest.raises(DataError, match=r"depth/fgbg000001\.png: cannot be read"):
        decode_triplet(triplet, DatasetSpec(), 8)


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
