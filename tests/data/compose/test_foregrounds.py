import os

import cv2
import numpy as np
import pytest
from PIL import Image

from data.compose.sources import list_images, read_foreground
from data.dataset import DataError


def write_cutout(path, *, side=60, colour=(200, 60, 40), behind=(0, 255, 0)):
    """A disc with a soft edge into which the colour of what stood behind is mixed, as matting leaves it."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(side / 3 - np.hypot(rows, columns) + 1.5, 0, 3) / 3
    pixels = np.empty((side, side, 4), np.uint8)
    pixels[..., :3] = (alpha[..., None] * colour + (1 - alpha[..., None]) * behind)[..., ::-1].round()
    pixels[..., 3] = (alpha * 255).round()
    assert cv2.imwrite(str(path), pixels)
    return path


def test_margin_is_taken_off(tmp_path):
    pixels = np.zeros((40, 50, 4), np.uint8)
    pixels[5:35, 10:30] = 255
    pixels[0, 0, 3] = 5  # fainter than anyone sees
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels)
    assert read_foreground(tmp_path / "a.png", 100).shape == (30, 20, 4)


def test_colours_are_premultiplied_rgb(tmp_path):
    thing = read_foreground(write_cutout(tmp_path / "a.png"), 100)
    middle = thing[len(thing) // 2, len(thing) // 2]
    np.testing.assert_array_equal(middle, [200, 60, 40, 255])
    assert (thing[..., :3].max(axis=-1) <= thing[..., 3]).all()


@pytest.mark.parametrize("longest_px", [100, 25])
def test_edge_keeps_no_halo_of_what_it_was_cut_out_of(tmp_path, longest_px):
    thing = read_foreground(write_cutout(tmp_path / "a.png"), longest_px).astype(float)
    edge = (thing[..., 3] > 40) & (thing[..., 3] < 230)
    assert edge.any()
    own = thing[edge][:, :3] / thing[edge][:, 3:] * 255
    np.testing.assert_allclose(own, np.broadcast_to([200, 60, 40], own.shape), atol=16)


def test_glass_keeps_its_colour(tmp_path):
    pixels = np.full((40, 40, 4), (10, 200, 30, 120), np.uint8)
    pixels[:4, :4] = (255, 0, 0, 255)
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels)
    thing = read_foreground(tmp_path / "a.png", 100)
    np.testing.assert_allclose(thing[20, 20], [30 * 120 / 255, 200 * 120 / 255, 10 * 120 / 255, 120], atol=1)


def test_cutout_is_kept_no_larger_than_asked_for(tmp_path):
    assert max(read_foreground(write_cutout(tmp_path / "a.png"), 20).shape) == 20


def test_opaque_rectangle_is_no_cutout(tmp_path):
    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 30, 4), 255, np.uint8))
    with pytest.raises(DataError, match=r"a\.png: nothing in it is transparent .*; cut the object out"):
        read_foreground(tmp_path / "a.png", 20)


def test_cutout_is_turned_by_its_exif_orientation(tmp_path):
    upright = np.zeros((40, 30, 4), np.uint8)
    upright[5:15, 5:25] = 255
    upright[15:35, 12:18] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(upright).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_foreground(tmp_path / "a.png", 100), read_foreground(tmp_path / "b.png", 100))


def test_pipe_among_the_cutouts_is_not_opened(tmp_path):
    write_cutout(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert [path.name for path in list_images(tmp_path, "things")] == ["a.png"]
