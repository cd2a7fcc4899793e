"""Batches made on a device, here the CPU: as those of Loader, with changes of the same distribution."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch
from albumentations.augmentations.geometric import functional as geometry
from albumentations.augmentations.pixel import functional as photometry

from data.loading import device_augment, device_loader
from data.loading.augment import GEOMETRY as ALBUMENTATIONS_GEOMETRY
from data.loading.augment import MIXING, Augment, AugmentConfig, paste_foregrounds
from data.loading.augment import PHOTOMETRY as ALBUMENTATIONS_PHOTOMETRY
from data.loading.device_augment import DRAWS, change, draw
from data.loading.device_loader import DeviceLoader, build_loader, fits
from data.loading.loaders import Loader, to_pixels, to_tensors
from data.pack.pack import Pack, RawBatch, pack_split
from data.reading.layout import read_dataset
from data.reading.splits import sort_nested

CPU = torch.device("cpu")
OFF = AugmentConfig(flip=0.0)
GEOMETRY, PHOTOMETRY = tuple(ALBUMENTATIONS_GEOMETRY), tuple(ALBUMENTATIONS_PHOTOMETRY)
ALL = AugmentConfig(**dict.fromkeys(DRAWS, 0.5))


@pytest.fixture
def pack(make_dataset, tmp_path):
    dataset = read_dataset(
        make_dataset(10, spec={"missing": 0, "mask_values": {"foreground": [255], "ignored": [128]}})
    )
    return pack_split(dataset, sort_nested(dataset.triplets), 40, cache=tmp_path / "cache")


@pytest.fixture
def kept(monkeypatch):
    """Let every pack fit on the device."""
    monkeypatch.setattr(device_loader, "fits", lambda pack, device: True)
    monkeypatch.setattr(device_loader, "CHUNK", 3)


def batches(kind, pack, **options):
    options = {"batch_size": 4, "stats": pack.stats, "shuffle": True, "seed": 3, **options}
    return [batch.tensors for number in range(2) for batch in kind(pack, **options).epoch(number)]


def on_device(pack, **options):
    return DeviceLoader(pack, device=CPU, **options)


def same(one, other):
    return len(one) == len(other) and all(all(map(torch.equal, a, b)) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"shuffle": False}, {"augment": OFF}])
def test_batches_without_changes_are_those_of_loader_bit_by_bit(pack, options, request):
    expected = batches(Loader, pack, **options)
    assert len(expected[0]) == 6  # some pixels of masks are ignored
    assert same(batches(on_device, pack, **options), expected)
    request.getfixturevalue("kept")
    assert same(batches(on_device, pack, **options), expected)


def test_images_without_a_mask_are_those_of_loader_too(partial_datasets, tmp_path):
    dataset = read_dataset(partial_datasets["mixed"])
    pack = pack_split(dataset, sort_nested(dataset.triplets), 16, cache=tmp_path / "cache")
    assert same(batches(on_device, pack), batches(Loader, pack))


def test_samples_change_by_their_own_seeds_whether_or_not_they_are_kept(pack, request):
    first = batches(on_device, pack, augment=ALL)
    assert same(batches(on_device, pack, augment=ALL), first)
    assert not same(batches(on_device, pack, augment=ALL, seed=4), first)
    whole, small = (
        [torch.cat(column) for column in zip(*batches(on_device, pack, augment=ALL, batch_size=size), strict=True)]
        for size in (10, 3)
    )
    assert all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in zip(whole, small, strict=True))
    request.getfixturevalue("kept")
    assert same(batches(on_device, pack, augment=ALL), first)


def test_changes_stop_when_they_are_told_to(pack):
    loader = DeviceLoader(pack, device=CPU, augment=ALL, batch_size=10, stats=pack.stats)
    loader.stop_augmenting()
    assert same(
        [b.tensors for b in loader.epoch(0)],
        [b.tensors for b in Loader(pack, batch_size=10, stats=pack.stats).epoch(0)],
    )


def test_numbers_drawn_are_uniform_and_independent():
    numbers = draw(np.random.default_rng(0).integers(2**63, size=20_000, dtype=np.uint64), 6)
    assert numbers.min() >= 0 and numbers.max() < 1
    assert numbers.mean(0) == pytest.approx([0.5] * 6, abs=3 / np.sqrt(12 * 20_000))
    off_diagonal = np.corrcoef(numbers.T) - np.eye(6)
    assert np.abs(off_diagonal).max() < 4 / np.sqrt(20_000)
    neighbours = draw(np.arange(20_000, dtype=np.uint64), 1)[:, 0]
    assert abs(np.corrcoef(neighbours[:-1], neighbours[1:])[0, 1]) < 4 / np.sqrt(20_000)


PX = 80


def make_raw(count):
    """Return samples that all have the same picture: a coloured disc, off the centre, on a coloured ramp."""
    y, x = np.mgrid[:PX, :PX].astype(np.float32)
    disc = ((x - 30) ** 2 + (y - 48) ** 2 < 15**2).astype(np.float32)
    image = np.stack([40 + 2 * x, 60 + y, 200 - x - y / 2], 2) * (1 - disc[..., None]) + disc[..., None] * [200, 90, 30]
    depth = np.where(disc > 0, 50_000, 10_000 + 200 * y)
    depth[:6] = 0
    arrays = np.rint(image).astype(np.uint8), (255 * disc).astype(np.uint8), depth.astype(np.uint16)
    return RawBatch(*(np.repeat(array[None], count, 0) for array in arrays), np.ones(count, bool))


def gather(rows):
    return to_pixels(*to_tensors(make_raw(len(rows))))


class OnePack(Pack):
    """A pack that holds the picture of `make_raw` in each place."""

    def __init__(self):
        self.px, self.count = PX, 50

    def gather(self, indices):
        return make_raw(len(indices))


def describe(image, mask, depth):
    """Return numbers that tell how each sample was changed: colours, places, sizes, unknown depth."""
    share = mask / 255
    y, x = np.mgrid[:PX, :PX]
    total = share.sum((1, 2)) + 1e-6
    left = np.abs(image[:, :, 1:].astype(float) - image[:, :, :-1]).mean((1, 2, 3))
    return np.column_stack([
        image.mean((1, 2)), image.std((1, 2)), left, share.mean((1, 2)), (share * x).sum((1, 2)) / total,
        (share * y).sum((1, 2)) / total, depth.mean((1, 2)) / 655, 100 * (depth == 0).mean((1, 2)),
        image[:, 40].mean((1, 2)), image[:, :, 20].mean((1, 2)),
    ])  # fmt: skip


def change_both(config, count):
    """Return the descriptions of samples that Augment and `change` have changed."""
    seeds = np.random.default_rng(5).integers(2**63, size=count, dtype=np.uint64)
    raw = make_raw(count)
    if config.copy_paste:
        paste_foregrounds(raw, seeds, OnePack(), config.copy_paste)
    raw = Augment(config).change(raw, seeds)
    pixels = gather(range(count))
    change(pixels, config, seeds, gather, len(OnePack()))
    arrays = (pixels.image.permute(0, 2, 3, 1), pixels.mask[:, 0], pixels.depth[:, 0])
    return describe(raw.image, raw.mask, raw.depth), describe(*(array.numpy() for array in arrays))


@pytest.mark.parametrize("names", [*((name,) for name in DRAWS), tuple(DRAWS)], ids="+".join)
def test_changes_have_the_distribution_of_those_of_albumentations(names):
    """Means and spreads agree within 3 sigma and what rounding to whole grey levels moves."""
    probability = 1.0 if len(names) == 1 else 0.5
    one, other = change_both(replace(OFF, **dict.fromkeys(names, probability)), 400)
    for power, rounding in ((1, 0.8), (2, 4.0)):
        centre = 0 if power == 1 else one.mean(0)
        a, b = (np.abs(each - centre) ** power for each in (one, other))
        sigma = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        assert (np.abs(a.mean(0) - b.mean(0)) <= 3 * sigma + rounding).all(), (a.mean(0) - b.mean(0), sigma)


def test_flip_is_exact():
    pixels = gather(range(5))
    before = [plane.clone() for plane in (pixels.image, pixels.mask, pixels.depth)]
    change(pixels, replace(OFF, flip=1.0), np.arange(5, dtype=np.uint64), gather, 5)
    for plane, old in zip((pixels.image, pixels.mask, pixels.depth), before, strict=True):
        assert torch.equal(plane, old.flip(3))


@pytest.mark.parametrize("name", [*GEOMETRY, *MIXING])
def test_geometry_invents_no_depth_and_moves_all_planes_alike(name):
    pixels = gather(range(64))
    pixels.mask_valid = pixels.depth != 0
    change(
        pixels,
        replace(OFF, **{name: 1.0}),
        np.arange(64, dtype=np.uint64),
        gather,
        64,
    )
    if name != "copy_paste":
        assert torch.isin(pixels.depth, torch.from_numpy(make_raw(1).depth.astype(np.float32))).all()
        assert torch.equal(pixels.mask_valid, pixels.depth != 0)
    near = (pixels.depth == 50_000) | (pixels.depth == 0)
    inside = (pixels.mask > 250) if name != "copy_paste" else (pixels.mask > 300)
    assert near[inside].float().mean() > 0.99 or not inside.any()


@pytest.mark.parametrize("px", [80, 96, 160, 213])
def test_grid_is_that_of_albumentations(px):
    numbers = np.random.default_rng(0).random((3, 12))
    columns, rows = device_augment._bend_axes(numbers, np.ones(3, bool), px)
    for i, drawn in enumerate(numbers):
        sides = [list(part) for part in np.split(1 - 0.3 + 0.6 * drawn, 2)]
        steps = geometry.normalize_grid_distortion_steps((px, px), 5, *sides)
        map_x, map_y = geometry.generate_grid((px, px), steps["steps_x"], steps["steps_y"], 5)
        assert (columns[i] + 1) / 2 * (px - 1) == pytest.approx(map_x[0], abs=1e-3)
        assert (rows[i] + 1) / 2 * (px - 1) == pytest.approx(map_y[:, 0], abs=1e-3)


def to_image(picture):
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]


def test_colours_and_blur_are_those_of_albumentations():
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    image = to_image(picture)
    for name, drawn, expected in (
        ("hue_saturation", [0.8, 0.3], photometry.shift_hsv(picture, 0.6 * 20, -0.4 * 40, 0)),
        ("brightness_contrast", [0.8, 0.3], np.clip(picture * (1 + 0.6 * 0.2) - 0.4 * 0.2 * 255, 0, 255)),
        ("grayscale", [], cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)),
        ("blur", [0.2], cv2.blur(picture, (3, 3), borderType=cv2.BORDER_REFLECT_101)),
        ("blur", [0.7], cv2.blur(picture, (5, 5), borderType=cv2.BORDER_REFLECT_101)),
    ):
        found = device_augment.PHOTOMETRY[name](image, torch.tensor([drawn]))
        error = (found - to_image(expected)).abs()
        assert error.mean() < 1.5 and error.max() < 12, name  # OpenCV's hue has steps of two degrees


@dataclass(frozen=True, kw_only=True)
class Noisy(AugmentConfig):
    """A change that somebody has added."""

    noise: float = 0.0


def test_gpu_prepares_its_batches_unless_albumentations_must(pack, monkeypatch):
    monkeypatch.setattr(device_loader, "fits", lambda pack, device: False)
    gpu, usual = torch.device("cuda"), {"batch_size": 4, "stats": pack.stats}
    assert type(build_loader(pack, device=CPU, augment=ALL, **usual)) is Loader
    for augment in (None, ALL, Noisy()):
        assert type(build_loader(pack, device=gpu, augment=augment, **usual)) is DeviceLoader
    assert type(build_loader(pack, device=gpu, augment=Noisy(noise=0.1), **usual)) is Loader


@pytest.mark.parametrize(
    ("free", "fraction", "reserved", "expected"),
    [(10**6, 1.0, 0, True), (10**5, 1.0, 0, False), (10**6, 0.1, 0, False), (10**6, 0.5, 450_000, False)],
)
def test_pack_is_kept_where_it_leaves_room(pack, free, fraction, reserved, expected, monkeypatch):
    assert 2 * len(pack) * pack.record_bytes > 10**5
    monkeypatch.setattr(torch.cuda, "mem_get_info", {None: (free, 10**6)}.get)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", {None: fraction}.__getitem__)
    monkeypatch.setattr(torch.cuda, "memory_reserved", {None: reserved}.__getitem__)
    assert fits(pack, torch.device("cuda")) == expected and not fits(pack, CPU)
