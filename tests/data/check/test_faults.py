"""Test each fault of one triplet on drawn images, next to a clean one."""

import cv2
import numpy as np
import pytest

from data.check import faults
from data.dataset import DatasetSpec
from data.values.alignment import DepthStep
from data.values.infer_depth import measure_contour_step
from data.values.masks import scale_mask

PX = 128


@pytest.fixture
def disc():
    """Draw a mask in [0, 1] with a foreground off the centre."""
    share = np.zeros((PX, PX), np.float32)
    cv2.ellipse(share, (50, 70), (20, 30), 20, 0, 360, 1.0, -1)
    return share


@pytest.fixture
def scene(disc):
    """Draw a bright foreground on a dim noisy ground."""
    noise = np.random.default_rng(0).integers(0, 40, (PX, PX, 3)).astype(np.uint8)
    return np.where(disc[..., None] > 0.5, 200, 60).astype(np.uint8) + noise


@pytest.fixture
def ramp():
    """Draw the depth of a floor that rises downwards."""
    return np.tile(np.linspace(40, 200, PX)[:, None], (1, PX)).astype(np.uint8)


def moved(picture, right, down):
    return cv2.warpAffine(picture, np.float32([[1, 0, right], [0, 1, down]]), (PX, PX))


def test_channels_of_an_image():
    assert not faults.WRONG_MODES.keys() & {"RGB", "P"}
    assert "1 channel" in faults.WRONG_MODES["L"]
    assert "4" in faults.WRONG_MODES["RGBA"]


def test_equal_channels_are_one_and_colours_are_not(disc):
    grey = np.repeat(np.uint8(disc * 255)[..., None], 3, axis=2)
    assert faults.describe_label_channels(grey) == ""
    coloured = grey.copy()
    coloured[..., 2] = 0
    assert "colours" in faults.describe_label_channels(coloured)
    assert "alpha" in faults.describe_label_channels(np.dstack([grey, grey[..., 0]]))
    assert "alpha" in faults.describe_label_channels(np.dstack([grey[..., 0], grey[..., 0]]))


def test_clean_masks_have_no_faults(disc):
    soft = cv2.GaussianBlur(disc, (0, 0), 1.5)
    assert faults.find_mask_faults(disc) == faults.find_mask_faults(soft) == {}
    assert scale_mask(np.uint8([[0, 1]]))[0].max() == scale_mask(np.uint8([[0, 255]]))[0].max() == 1


def test_faults_of_masks(disc):
    box = disc.copy()
    box[:60, 80:] = 0.3
    assert faults.find_mask_faults(box).keys() == {"not binary"}
    assert faults.find_mask_faults(disc * 0).keys() == {"empty mask"}
    assert faults.find_mask_faults(disc * 0 + 1).keys() == {"full mask"}
    blob = disc.copy()
    blob[10:18, 110:118] = 1
    assert faults.find_mask_faults(blob).keys() == {"stray part"}


def test_another_large_part_or_a_crumb_is_no_stray(disc):
    two, crumb = disc.copy(), disc.copy()
    two[10:40, 90:120] = 1
    crumb[10:13, 110:113] = 1
    assert faults.find_mask_faults(two) == faults.find_mask_faults(crumb) == {}


@pytest.mark.parametrize(("right", "down"), [(25, 0), (0, -20), (-15, 15)])
def test_a_shifted_mask_is_found_with_the_shift_back(scene, disc, right, down):
    assert faults.describe_mask_shift(scene, disc) == ""
    shift = faults.describe_mask_shift(scene, moved(disc, right, down))
    assert ("left" in shift) or right <= 0
    assert ("down" in shift) == (down < 0)
    assert shift


def test_a_frame_is_even_and_has_a_straight_inner_edge(ramp):
    framed = ramp.copy()
    framed[:10], framed[-12:], framed[:, :8], framed[:, -9:] = 255, 255, 255, 255
    assert faults.measure_frame(framed, framed >= 0) == (10, 12, 8, 9)
    assert faults.measure_frame(framed, framed != 255) is None, "a margin of unknown values is no frame"
    assert faults.measure_frame(ramp, ramp >= 0) is None


def test_a_thing_before_an_even_wall_is_no_frame(disc):
    assert faults.measure_frame(np.where(disc > 0, 200, 60).astype(np.uint8), disc >= 0) is None


def test_depth_steps_at_the_object_or_ignores_it(ramp, disc):
    seen = np.where(disc > 0.5, 230, ramp).astype(np.uint8)
    near = measure_contour_step(seen, DatasetSpec(), disc)
    assert near.slope > 2 * faults.STEP
    assert not faults.lacks_depth_step(near, 1)
    assert faults.lacks_depth_step(near, -1), "it recedes where it should be near"
    assert faults.lacks_depth_step(measure_contour_step(ramp, DatasetSpec(), disc), 0)


def test_a_faint_step_in_the_right_place_counts():
    assert not faults.lacks_depth_step(DepthStep(0.01, 1.0, 4.0), 1)
    assert faults.lacks_depth_step(DepthStep(0.01, 1.0, 1.0), 1)


def test_steps_that_cannot_be_measured_are_none(ramp, disc):
    assert measure_contour_step(ramp * 0, DatasetSpec(), disc) is None
    assert measure_contour_step(ramp * 0, DatasetSpec(missing=(0.0,)), disc) is None


def test_far_parts_of_several_objects_are_no_stray_parts(disc):
    disc[10:18, 110:118] = 1
    assert faults.find_mask_faults(disc, several_objects=True) == {}


def test_shift_beyond_the_tried_ones_is_not_judged(scene, disc):
    assert faults.describe_mask_shift(scene, moved(disc, 34, 0)) == ""


@pytest.mark.parametrize(("axes", "judged"), [((20, 30), True), ((11, 14), False)])
def test_the_place_of_a_small_mask_is_not_judged(axes, judged):
    mask = cv2.ellipse(np.zeros((PX, PX), np.float32), (50, 70), axes, 20, 0, 360, 1.0, -1)
    noise = np.random.default_rng(0).integers(0, 40, (PX, PX, 3)).astype(np.uint8)
    image = np.where(mask[..., None] > 0.5, 200, 60).astype(np.uint8) + noise
    assert bool(faults.describe_mask_shift(image, moved(mask, 25, 0))) is judged
