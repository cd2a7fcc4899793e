"""Tests of analysis.predict.photos."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from analysis import AnalysisError
from analysis.predict.photos import (
    CELL,
    TINT,
    colour_depth,
    draw_contact_sheet,
    draw_overlay,
    draw_sheet_row,
    find_photos,
    read_photo,
    render_prediction,
)
from data.dataset import DataError
from data.loading.visualize import render_depth


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory, and a function that puts files of any content there."""
    monkeypatch.chdir(tmp_path)

    def put(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    return put


def names(place, *arguments, out="out"):
    return [photo.name for photo in find_photos([place / name for name in arguments], place / out)]


def test_folders_are_searched_with_all_below_and_keep_their_folders_in_names(place):
    here = place("in/b.JPG", "in/a.png", "in/deep/er/a.tiff", "in/notes.txt", "in/.hidden.jpg", "in/.trash/c.jpg")
    assert names(here, "in") == ["a", "b", "deep/er/a"]


def test_pipes_and_what_network_drives_leave_are_not_photos(place):
    here = place("in/a.png", "in/@eaDir/a.png/THUMB.jpg", "in/__MACOSX/a.jpg")
    os.mkfifo(here / "in/pipe.png")
    assert names(here, "in") == ["a"]


def test_named_file_is_accepted_with_any_suffix_and_once(place):
    here = place("in/a.png", "in/notes.txt")
    assert names(here, "in/notes.txt", "in/a.png", "in/a.png", "in/../in/a.png") == ["notes", "a"]
    assert names(here, "in", "in/a.png") == ["a"]


def test_equal_stems_get_their_suffixes_then_their_whole_path(place):
    here = place("p/a.png", "p/a.jpg", "p/b.png", "q/b.png", "q/c.png")
    whole = here.as_posix()[1:]
    assert sorted(names(here, "p", "q")) == sorted(["a_png", "a_jpg", f"{whole}/p/b_png", f"{whole}/q/b_png", "c"])


def test_names_made_longer_do_not_meet_others(place):
    here = place("p/a.png", "p/A.jpg", "p/a_png.bmp")
    found = names(here, "p/a.png", "p/A.jpg", "p/a_png.bmp")
    assert len({name.lower() for name in found}) == 3  # files of either case may be one


def test_masks_and_depth_maps_of_a_data_set_are_not_photos(place):
    here = place("set/images/a.jpg", "set/masks/a.png", "set/gt_depth/a.png", "set/dataset.json")
    assert names(here, "set") == ["images/a"]
    assert names(here, "set/masks") == ["a"]  # named directly
    here = place("split/val/JPEGImages/a.jpg", "split/val/Annotations/a.png")
    assert names(here, "split") == ["val/JPEGImages/a"]


def test_photos_whose_names_mention_depth_or_masks_are_photos(place):
    here = place("in/photo.jpg", "in/depth of field.jpg", "in/venice/mask.jpg", "in/alpha/a.jpg")
    assert names(here, "in") == ["alpha/a", "depth of field", "photo", "venice/mask"]


def test_output_folder_is_not_searched(place):
    here = place("in/a.png", "in/out/a_mask.png", "in/outer/b.png")
    assert names(here, "in", out="in/out") == ["a", "outer/b"]


@pytest.mark.parametrize("out", ["in", ".", "in/deep"])
def test_photo_in_the_output_folder_is_refused(place, out):
    here = place("in/deep/a.png")
    with pytest.raises(AnalysisError, match=r"lies in the output folder|contains no images"):
        names(here, "in", out=out)


def test_place_without_photos_is_refused(place):
    here = place("in/notes.txt")
    with pytest.raises(AnalysisError, match="no such photo or folder"):
        names(here, "none")
    with pytest.raises(AnalysisError, match=": contains no images"):
        names(here, "in")


def test_photo_is_turned_upright(tmp_path):
    upright = Image.fromarray(np.repeat(np.arange(0, 240, 4, np.uint8)[:, None], 24, axis=1)).convert("RGB")
    upright.save(tmp_path / "upright.jpg", quality=95)
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    exif = lying.getexif()
    exif[0x0112] = 6  # the camera was turned
    lying.save(tmp_path / "lying.jpg", quality=95, exif=exif)
    photo = read_photo(tmp_path / "lying.jpg")
    assert photo.shape == (60, 24, 3)
    assert np.abs(photo.astype(int) - read_photo(tmp_path / "upright.jpg")).max() < 8


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_photo_of_any_mode_comes_as_rgb_bytes(tmp_path, mode):
    path = tmp_path / ("photo.jpg" if mode == "CMYK" else "photo.png")
    Image.new("RGB", (8, 6), (255, 0, 0) if mode in ("P", "RGBA", "CMYK") else (255, 255, 255)).convert(mode).save(path)
    photo = read_photo(path)
    assert photo.shape == (6, 8, 3) and photo.dtype == np.uint8
    assert photo[0, 0, 0] > 230 and (photo[0, 0, 2] < 60) == (mode in ("P", "RGBA", "CMYK"))


def test_sixteen_bits_become_eight(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((4, 5, 3), (0, 128 * 257, 65535), np.uint16))
    assert read_photo(tmp_path / "deep.png")[0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_incomplete_image_is_refused(tmp_path, keep):
    path = tmp_path / "broken.jpg"
    data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))[1].tobytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match="not a whole image"):
        read_photo(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_photo(tmp_path / "none.jpg")


def test_image_with_a_longer_side_than_a_jpeg_may_have_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "long.png"), np.zeros((1, 65_501, 3), np.uint8))
    with pytest.raises(DataError, match="side of more than 65,500 px"):
        read_photo(tmp_path / "long.png")


def half_masked(height=120, width=200):
    photo = np.full((height, width, 3), 90, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    depth = np.linspace(0, 65535, height * width).astype(np.uint16).reshape(height, width)
    return photo, mask, depth


def test_overlay_tints_the_foreground_draws_its_outline_and_leaves_the_rest():
    photo, mask, _ = half_masked()
    drawn = draw_overlay(photo, mask)
    assert drawn.shape == photo.shape and (drawn[:, 105:] == 90).all()
    assert drawn[60, 50].tolist() == [54 + int(0.4 * value) for value in TINT]
    assert np.abs(drawn[60, 99].astype(int) - TINT).max() < 20


def test_cutout_is_the_photo_with_the_mask_as_alpha():
    photo, mask, depth = half_masked()
    written = dict(render_prediction(photo, mask, depth))
    assert list(written) == ["mask.png", "depth.png", "depth_colour.jpg", "overlay.jpg", "cutout.png"]
    assert (written["cutout.png"][..., :3] == photo).all() and (written["cutout.png"][..., 3] == mask).all()
    assert written["depth.png"].dtype == np.uint16 and written["mask.png"] is mask


def test_depth_has_the_colours_of_all_other_images():
    codes = np.arange(256, dtype=np.uint16)[None] * 257
    assert (colour_depth(codes)[..., ::-1] == render_depth(codes / 65535)).all()


def test_sheet_rows_are_of_one_size_for_any_photo():
    rows = [
        draw_sheet_row("name" * repeat, *half_masked(*size))
        for repeat, size in [(1, (30, 300)), (90, (300, 20)), (2, (2, 1))]
    ]
    assert len({row.shape for row in rows}) == 1 and rows[0].shape[1] >= 4 * CELL[0]
    sheet = draw_contact_sheet(rows)
    assert sheet.shape[1] == 2 * rows[0].shape[1] and sheet.shape[0] > 2 * rows[0].shape[0]
    assert draw_contact_sheet(rows[:1]).shape[1] == rows[0].shape[1]


def test_names_that_cannot_be_drawn_have_a_row_all_the_same():
    rows = [draw_sheet_row(name, *half_masked(20, 30)) for name in ("caf\u00e9 \U0001f600", "bad\udcff")]
    assert rows[0].shape == rows[1].shape
