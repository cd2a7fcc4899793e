import numpy as np
import pytest

from data.compose.blending import Canvas, Light, paste_foreground
from data.compose.placement import Placement
from data.compose.sources import UNKNOWN, Background

PX = 64
MIDDLE = Placement(x=0.5, y=0.5, size=0.5)


def canvas_of(depth=0.4, *, offset=0.0, grey=100):
    photo = Background(np.full((PX, PX, 3), grey, np.uint8), np.full((PX, PX), depth, np.float32), offset)
    return Canvas.from_background(photo, (slice(0, PX), slice(0, PX)))


def square(alpha=255, value=200, side=32):
    """Premultiplied, as read_foreground gives it."""
    pixels = np.full((side, side, 4), round(value * alpha / 255), np.uint8)
    pixels[..., 3] = alpha
    return pixels


@pytest.mark.parametrize(("alpha", "covered"), [(199, False), (200, True)])
def test_mask_is_where_alpha_is_200_or_more(alpha, covered):
    canvas = canvas_of()
    paste_foreground(canvas, square(alpha), MIDDLE, distance_ratio=0.9)
    assert (canvas.mask == 255).sum() == (32 * 32 if covered else 0)
    assert set(np.unique(canvas.mask)) <= {0, 255}


def test_soft_alpha_is_blended():
    canvas = canvas_of()
    paste_foreground(canvas, square(128), MIDDLE, distance_ratio=0.9)
    assert canvas.image[32, 32, 0] == pytest.approx(150, abs=1)
    assert (canvas.image[0, 0] == 100).all()
    assert not canvas.mask.any()
    assert (canvas.depth == np.float32(0.4)).all()


def test_thing_stands_just_before_what_it_covers():
    canvas = canvas_of(0.4, offset=0.2)
    canvas.depth[30, 30] = 0.5
    paste_foreground(canvas, square(), MIDDLE, distance_ratio=0.9)
    inside = canvas.mask > 0
    np.testing.assert_allclose(canvas.depth[inside], 0.7 / 0.9 - 0.2, rtol=1e-5)  # nine tenths of the distance
    assert (canvas.depth[~inside] == np.float32(0.4)).all()
    assert (canvas.image[inside] == 200).all()


def test_holes_stay_unknown_outside_the_thing_and_are_filled_inside():
    canvas = canvas_of()
    canvas.depth[:, : PX // 2] = UNKNOWN
    paste_foreground(canvas, square(), MIDDLE, distance_ratio=0.9)
    inside = canvas.mask > 0
    assert (canvas.depth[inside] > 0.4).all()
    assert (canvas.depth[:, :10] == UNKNOWN).all()


def test_thing_before_nothing_known_stands_before_the_rest_of_the_picture():
    canvas = canvas_of(UNKNOWN)
    canvas.depth[0, 0] = 0.6
    paste_foreground(canvas, square(), MIDDLE, distance_ratio=0.9)
    assert canvas.depth[32, 32] > 0.6
    nothing = canvas_of(UNKNOWN)
    paste_foreground(nothing, square(), MIDDLE, distance_ratio=0.9)
    assert nothing.depth[32, 32] > 0
    assert nothing.depth[0, 0] == UNKNOWN


def test_thing_is_not_behind_what_it_stands_on():
    canvas = canvas_of(0.1)
    paste_foreground(canvas, square(), MIDDLE, distance_ratio=0.9, foot=0.6)
    assert canvas.depth[32, 32] > 0.6


def test_later_thing_covers_earlier_one():
    canvas = canvas_of()
    paste_foreground(canvas, square(value=50), MIDDLE, distance_ratio=0.9)
    first = canvas.depth.copy()
    right = Placement(x=0.75, y=0.5, size=0.5)
    paste_foreground(canvas, square(value=250), right, distance_ratio=0.9)
    both = canvas.mask > 0
    np.testing.assert_array_equal(both.any(axis=0).nonzero()[0], np.arange(16, 64))  # the union
    assert (canvas.image[32, 32:] == 250).all()
    assert (canvas.image[32, 16:32] == 50).all()
    assert canvas.depth[32, 40] > first[32, 40] > 0.4
    assert canvas.depth[32, 20] == first[32, 20]


def test_mirrored_thing_is_turned_around():
    pixels = square()
    pixels[:, :16, :3] = 0
    canvas = canvas_of()
    paste_foreground(canvas, pixels, Placement(x=0.5, y=0.5, size=0.5, mirrored=True), distance_ratio=0.9)
    assert canvas.image[32, 20, 0] == 200
    assert canvas.image[32, 44, 0] == 0


def test_shadow_darkens_the_ground_and_nothing_else():
    plain, shaded = canvas_of(), canvas_of()
    light = Light(side=0.8, length=0.3, strength=0.5)
    paste_foreground(plain, square(), MIDDLE, distance_ratio=0.9)
    paste_foreground(shaded, square(), MIDDLE, distance_ratio=0.9, light=light)
    np.testing.assert_array_equal(plain.mask, shaded.mask)
    np.testing.assert_array_equal(plain.depth, shaded.depth)
    assert (shaded.image <= plain.image).all()
    inside = plain.mask > 0
    np.testing.assert_array_equal(shaded.image[inside], plain.image[inside])
    assert shaded.image[44, 52, 0] < 70  # to the right of its feet
    assert (shaded.image[:16] == 100).all()  # above it
    assert (shaded.image[40:, :10] == 100).all()  # on the side the light comes from
