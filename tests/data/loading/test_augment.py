"""Random changes: the same geometry for all three, photometry for the image alone, all of it repeatable."""

import copy
import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest

from data.loading import augment as tables
from data.loading.augment import AUGMENT_CHOICES, Augment, AugmentConfig, list_choices
from data.pack.pack import RawBatch

PX = 80
GEOMETRY, PHOTOMETRY = tuple(tables.GEOMETRY), tuple(tables.PHOTOMETRY)
NONE = dict.fromkeys((*GEOMETRY, *PHOTOMETRY), 0.0)


def only(*names, probability=1.0):
    return Augment(AugmentConfig(**{**NONE, **dict.fromkeys(names, probability)}))


def change(augment, batch, rng):
    """Return a changed copy of a batch; `rng` draws one seed per sample."""
    return augment.change(copy.deepcopy(batch), rng.integers(2**63, size=len(batch), dtype=np.uint64))


def marked(count=32):
    """Black samples with one marker pixel at the same place in image, mask and depth."""
    batch = RawBatch(
        np.zeros((count, PX, PX, 3), np.uint8),
        np.zeros((count, PX, PX), np.uint8),
        np.ones((count, PX, PX), np.uint16),
        np.ones(count, bool),
    )
    for sample, (row, column) in enumerate(np.random.default_rng(0).integers(16, PX - 16, (count, 2))):
        batch.image[sample, row, column] = 255
        batch.mask[sample, row, column] = 255
        batch.depth[sample, row, column] = 60000
    return batch


def noise(count=8):
    rng = np.random.default_rng(0)
    return RawBatch(
        rng.integers(0, 256, (count, PX, PX, 3), np.uint8),
        rng.integers(0, 256, (count, PX, PX), np.uint8),
        rng.integers(0, 65536, (count, PX, PX), np.uint16),
        np.ones(count, bool),
    )


def same(one, other):
    return all((getattr(one, name) == getattr(other, name)).all() for name in ("image", "mask", "depth"))


def places(pictures):
    """Row and column of the brightest pixel of each picture."""
    flat = pictures.reshape(len(pictures), -1).argmax(axis=1)
    return np.stack(np.unravel_index(flat, pictures.shape[1:]), axis=1)


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_moves_the_marker_alike_in_all_three(name):
    before = marked()
    after = change(only(name), before, np.random.default_rng(1))
    assert (after.mask == after.image[..., 0]).all()
    kept = (after.depth > 1).any(axis=(1, 2))  # nearest neighbour may skip a single pixel
    assert kept.sum() > len(kept) / 2
    assert np.abs(places(after.depth) - places(after.mask))[kept].max() <= 1
    assert (places(after.mask) != places(before.mask)).any()


def test_flip_mirrors_every_pixel():
    before = noise()
    after = change(only("flip"), before, np.random.default_rng(0))
    flipped = (array[:, :, ::-1] for array in (before.image, before.mask, before.depth))
    mirrored = RawBatch(*flipped, before.mask_known)
    assert same(after, mirrored)


def test_rotation_stays_within_ten_degrees():
    before = marked()
    row, column = 40, 75
    for array, value in ((before.image, 255), (before.mask, 255), (before.depth, 60000)):
        array[:] = array.min()
        array[:, row - 1 : row + 2, column - 1 : column + 2] = value
    after = change(only("rotate"), before, np.random.default_rng(0))
    rows = np.array([np.argwhere(mask > 0)[:, 0].mean() for mask in after.mask]) - (PX - 1) / 2
    degrees = np.rad2deg(np.arcsin(rows / (column - (PX - 1) / 2)))
    assert np.abs(degrees).max() < 12 and degrees.std() > 3


@pytest.mark.parametrize("name", ["rotate", "grid_distortion"])
def test_geometry_invents_no_depth(name):
    before = noise()
    before.depth[:, 20:60, 20:60] = 0
    after = change(only(name), before, np.random.default_rng(0))
    assert all(np.isin(a, b).all() for a, b in zip(after.depth, before.depth, strict=True))
    assert 0.15 < (after.depth == 0).mean() < 0.35  # borders are reflected, not filled with the unknown


@pytest.mark.parametrize("name", PHOTOMETRY)
def test_photometry_changes_the_image_alone(name):
    before = noise()
    after = change(only(name), before, np.random.default_rng(0))
    assert (after.image != before.image).any(axis=(1, 2, 3)).all()
    assert (after.mask == before.mask).all() and (after.depth == before.depth).all()


def test_grayscale_makes_channels_equal():
    image = change(only("grayscale"), noise(), np.random.default_rng(0)).image
    assert (image == image[..., :1]).all()


def test_same_rng_gives_the_same_batch_and_another_a_different_one():
    augment = only(*GEOMETRY, *PHOTOMETRY, probability=0.5)
    first = change(augment, noise(), np.random.default_rng(3))
    assert same(first, change(augment, noise(), np.random.default_rng(3)))
    assert same(first, change(only(*GEOMETRY, *PHOTOMETRY, probability=0.5), noise(), np.random.default_rng(3)))
    assert not same(first, change(augment, noise(), np.random.default_rng(4)))


def test_sample_changes_by_its_own_seed_whatever_its_neighbours():
    augment = only(*GEOMETRY, *PHOTOMETRY, probability=0.5)
    seeds = np.arange(8, dtype=np.uint64)
    together = augment.change(noise(), seeds)
    for row in range(8):
        alone = RawBatch(*(array[row : row + 1] for array in dataclasses.astuple(noise()) if array is not None))
        augment.change(alone, seeds[row : row + 1])
        assert (alone.image[0] == together.image[row]).all() and (alone.depth[0] == together.depth[row]).all()


def test_probability_is_met_and_changes_are_independent():
    before = noise(400)
    before.image[:] = before.image[:1]
    after = change(only("flip", "grayscale", probability=0.5), before, np.random.default_rng(0))
    flipped = (after.mask == before.mask[:, :, ::-1]).all(axis=(1, 2))
    grey = (after.image == after.image[..., :1]).all(axis=(1, 2, 3))
    assert flipped.mean() == pytest.approx(0.5, abs=0.1) and grey.mean() == pytest.approx(0.5, abs=0.1)
    assert (flipped & grey).mean() == pytest.approx(0.25, abs=0.08)


def test_nothing_asked_for_changes_nothing():
    assert same(change(only(), noise(), np.random.default_rng(0)), noise())


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_probability_outside_range_is_an_error(value):
    with pytest.raises(ValueError, match="augment/blur is"):
        AugmentConfig(blur=value)


def test_tables_and_config_name_the_same_augmentations():
    both = tables.GEOMETRY | tables.PHOTOMETRY
    assert {"flip", "rotate", "grid_distortion"} <= set(GEOMETRY)
    assert {"blur", "brightness_contrast", "grayscale"} <= set(PHOTOMETRY)
    assert list(AUGMENT_CHOICES) == [field.name for field in dataclasses.fields(AugmentConfig)]
    assert AUGMENT_CHOICES["flip"] == (0.0, 0.5) and AUGMENT_CHOICES["blur"] == (0.0, 0.3)
    with pytest.raises(TypeError, match="blur: define it both in AugmentConfig and in GEOMETRY or PHOTOMETRY"):
        list_choices(AugmentConfig, {name: each for name, each in both.items() if name != "blur"})
    with pytest.raises(TypeError, match="haze: define it both"):
        list_choices(AugmentConfig, both | {"haze": both["flip"]})


def test_config_does_not_import_albumentations():
    code = "import sys, data.loading.augment as a; a.AugmentConfig(); sys.exit('albumentations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flip_and_brightness_reach_3000_images_a_second_of_one_core():
    augment = Augment(AugmentConfig(brightness_contrast=0.5))
    batch, rng = noise(16), np.random.default_rng(0)
    change(augment, batch, rng)
    fastest = float("inf")
    for _ in range(20):
        start = time.thread_time()
        change(augment, batch, rng)
        fastest = min(fastest, time.thread_time() - start)
    assert 16 / fastest > 3000


def test_zoom_scales_both_ways_and_invents_no_depth():
    before = noise(64)
    before.image[:], before.mask[:], before.depth[:] = 0, 0, 1
    before.mask[:, 32:48, 32:48], before.depth[:, 32:48, 32:48] = 255, 60000
    after = change(only("zoom"), before, np.random.default_rng(0))
    sides = np.stack([(after.mask > 127).any(axis=axis).sum(axis=1) for axis in (1, 2)])  # widths, heights
    assert 12 <= sides.min() <= 14 and 26 <= sides.max() <= 30
    assert np.isin(after.depth, (1, 60000)).all()
    assert ((after.mask > 127) == (after.depth > 1)).mean() > 0.99


def test_hue_and_saturation_leave_grey_pixels_and_the_brightest_channel():
    before = noise(16)
    before.image[:, :40] = 100
    after = change(only("hue_saturation"), before, np.random.default_rng(0))
    coloured = slice(40, None)
    assert np.abs(after.image.max(axis=3)[:, coloured].astype(int) - before.image.max(axis=3)[:, coloured]).max() <= 3
    assert (after.image[:, coloured] != before.image[:, coloured]).any(axis=(1, 2, 3)).all()
