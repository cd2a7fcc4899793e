"""Copy-paste: the foreground of another sample over this one, with its mask and depth."""

import dataclasses
import time

import numpy as np
import pytest
import torch

from data.loading.augment import PASTE_OPAQUE, AugmentConfig, paste_foregrounds
from data.loading.loaders import Loader
from data.pack.pack import Pack, RawBatch, pack_split
from data.reading.layout import read_dataset
from data.reading.splits import sort_nested

PX = 64
SEEDS = np.random.default_rng(0).integers(2**63, size=8, dtype=np.uint64)
PASTE = AugmentConfig(flip=0.0, copy_paste=1.0)


class Sources(Pack):
    """A pack of equal samples: a white square of depth 40000 in the centre."""

    px = PX

    def __init__(self, *, mask_known=True, depth=40000, count=100):
        self.count = count
        self.sample = samples(1, depth=0, mask_known=mask_known)
        square = (0, slice(24, 40), slice(24, 40))
        self.sample.image[square], self.sample.mask[square], self.sample.depth[square] = 255, 255 * mask_known, depth
        self.asked = []

    def gather(self, indices):
        self.asked += indices.tolist()
        return RawBatch(*(getattr(self.sample, name)[indices * 0] for name in ("image", "mask", "depth", "mask_known")))


def samples(count=8, *, depth=100, mask_known=True):
    """Black samples without foreground."""
    shape = (count, PX, PX)
    image, mask = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)
    return RawBatch(image, mask, np.full(shape, depth, np.uint16), np.full(count, mask_known))


def paste(batch, sources=None, probability=1.0):
    paste_foregrounds(batch, SEEDS[: len(batch)], Sources() if sources is None else sources, probability)
    return batch


def test_image_mask_and_depth_get_the_same_pixels_and_the_rest_stays():
    batch = paste(samples())
    pasted = batch.mask >= PASTE_OPAQUE
    assert pasted.any(axis=(1, 2)).all()
    assert (np.abs(batch.image.astype(int) - batch.mask[..., None]) <= 64).all()  # the edges are interpolated twice
    assert (batch.image[batch.mask == 255] == 255).all() and (batch.image[batch.mask == 0] == 0).all()
    assert np.isin(batch.depth[pasted], (0, 100)).all() and (batch.depth[pasted] == 100).mean() > 0.9
    assert (batch.depth[~pasted] == 100).all()


def test_pasted_foreground_keeps_its_relief_and_is_put_before_what_it_covers():
    ramp = np.broadcast_to(np.linspace(2000, 60000, PX).astype(np.uint16)[:, None], (8, PX, PX))
    batch = samples()
    batch.depth[:] = ramp
    paste(batch, Sources(depth=40000))
    for mask, depth, before in zip(batch.mask >= PASTE_OPAQUE, batch.depth, ramp, strict=True):
        placed = depth[mask & (depth > 0)]
        assert np.ptp(placed) == 0 and (before[mask] <= placed[0]).mean() == pytest.approx(0.95, abs=0.06)


def test_pasted_foreground_over_unknown_depth_keeps_its_own():
    batch = samples(depth=0)
    batch.depth[:, 0, 0] = 7  # known at one pixel, which nothing covers
    paste(batch, Sources())
    assert set(np.unique(batch.depth[batch.mask >= PASTE_OPAQUE])) <= {0, 7, 40000} and (batch.depth == 40000).any()


def test_scale_shift_and_angle_vary_within_their_limits():
    batch = samples(200)
    seeds = np.random.default_rng(1).integers(2**63, size=200, dtype=np.uint64)
    paste_foregrounds(batch, seeds, Sources(), 1.0)
    areas = (batch.mask >= PASTE_OPAQUE).sum(axis=(1, 2)) / 16**2
    rows, columns = (batch.mask.argmax(axis=axis).max(axis=1) for axis in (1, 2))
    assert 0.3 < areas.min() < 0.5 and 1.7 < areas.max() < 2.1
    assert rows.std() > 5 and columns.std() > 5 and areas.std() > 0.2


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_probability_is_met(probability):
    batch = samples(400)
    paste_foregrounds(batch, np.arange(400, dtype=np.uint64), Sources(), probability)
    assert batch.mask.any(axis=(1, 2)).mean() == pytest.approx(probability, abs=0.07)


def test_sources_are_drawn_from_all_samples_of_the_pack():
    sources = Sources(count=7)
    paste_foregrounds(samples(400), np.arange(400, dtype=np.uint64), sources, 1.0)
    assert set(sources.asked) == set(range(7))


def test_sample_without_a_mask_is_no_source():
    batch = paste(samples(), Sources(mask_known=False))
    assert not batch.mask.any() and not batch.image.any() and (batch.depth == 100).all()


def test_pasted_pixels_without_depth_become_unknown():
    batch = paste(samples(), Sources(depth=0))
    assert (batch.depth[batch.mask >= PASTE_OPAQUE] == 0).all() and (batch.depth == 100).any(axis=(1, 2)).all()


def test_unlabelled_sample_gets_the_pixels_but_no_label():
    without_mask, without_depth = paste(samples(mask_known=False), Sources(depth=0)), paste(samples(depth=0))
    assert without_mask.image.any() and not without_mask.mask.any() and (without_mask.depth == 0).any()
    assert without_depth.image.any() and without_depth.mask.any() and not without_depth.depth.any()


def test_pasted_pixels_of_the_mask_are_valid_and_no_others_become_so():
    batch = dataclasses.replace(samples(), mask_valid=np.zeros((8, PX, PX), bool))
    paste(batch)
    assert batch.mask_valid.any() and (batch.mask_valid == (batch.mask >= PASTE_OPAQUE)).all()


def test_sample_depends_on_its_own_seed_alone():
    together = paste(samples(), probability=0.5)
    for row in range(8):
        alone = samples(1)
        paste_foregrounds(alone, SEEDS[row : row + 1], Sources(), 0.5)
        assert (alone.image[0] == together.image[row]).all() and (alone.depth[0] == together.depth[row]).all()


@pytest.fixture
def pack(partial_datasets, tmp_path):
    dataset = read_dataset(partial_datasets["mixed"])
    return pack_split(dataset, sort_nested(dataset.triplets), 32, cache=tmp_path / "cache")


def batches(pack, config=PASTE, **options):
    return [
        b.tensors for b in Loader(pack, **{"batch_size": 40, "stats": pack.stats, **options}, augment=config).epoch(1)
    ]


def test_loader_pastes_repeatably_whatever_the_batch_size(pack):
    whole, small = batches(pack)[0], batches(pack, batch_size=8)
    plain = batches(pack, AugmentConfig(flip=0.0))[0]
    assert (whole[0] != plain[0]).flatten(1).any(1).sum() > 10
    assert all(torch.equal(a, torch.cat(b)) for a, b in zip(whole, zip(*small, strict=True), strict=True))
    assert not torch.equal(whole[0], batches(pack, seed=1)[0][0])
    unlabelled = ~plain[4]
    assert torch.equal(whole[4], plain[4]) and not whole[1][unlabelled].any()
    assert torch.equal(whole[3].flatten(1).any(1), plain[3].flatten(1).any(1))


def test_loader_stops_pasting_with_the_other_augmentations(pack):
    loader = Loader(pack, batch_size=40, stats=pack.stats, augment=PASTE)
    loader.stop_augmenting()
    assert torch.equal(next(loader.epoch(1)).image, batches(pack, None)[0][0])


def test_pasting_reaches_3000_images_a_second_of_one_core():
    batch, fastest = samples(16), float("inf")
    for _ in range(20):
        start = time.thread_time()
        paste_foregrounds(batch, np.arange(16, dtype=np.uint64), Sources(), 0.5)
        fastest = min(fastest, time.thread_time() - start)
    assert 16 / fastest > 3000
