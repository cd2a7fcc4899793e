import cv2
import numpy as np

from analysis.predict.images import (
    CELL,
    TINT,
    colour_depth,
    draw_contact_sheet,
    draw_overlay,
    draw_sheet_row,
    render_prediction,
)
from data.loading.visualize import render_depth


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


def test_near_is_bright_in_colours():
    grey = cv2.cvtColor(colour_depth(np.array([[0, 30000, 65535]], np.uint16)), cv2.COLOR_BGR2GRAY)[0]
    assert grey[0] < grey[1] < grey[2] and grey[2] > 200


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
