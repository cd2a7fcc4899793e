"""Batches from a pack."""

import numpy as np
import pytest
import torch

from data.loading.augment import AugmentConfig
from data.loading.loaders import Batch, Loader, to_pixels, to_tensors
from data.pack.pack import pack_split
from data.reading.layout import read_dataset
from data.reading.splits import sort_nested
from data.values.depth import decode_depth

ALL = AugmentConfig(flip=0.5, rotate=0.5, grid_distortion=0.3, blur=0.3, brightness_contrast=0.5, grayscale=0.2)


@pytest.fixture
def pack(make_dataset, tmp_path):
    dataset = read_dataset(make_dataset(10, spec={"missing": 0}))
    return pack_split(dataset, sort_nested(dataset.triplets), 16, cache=tmp_path / "cache")


def loader(pack, **options):
    return Loader(pack, **{"batch_size": 4, "stats": pack.stats, **options})


def tensors(batches):
    return [b.tensors for b in batches]


def equal(one, other):
    pairs = zip(one, other, strict=True)
    return len(one) == len(other) and all(all(map(torch.equal, a, b)) for a, b in pairs)


def order_of(loader, number):
    return torch.cat([batch.image.mean(dim=(1, 2, 3)) for batch in loader.epoch(number)])


def test_batches_have_the_shapes_and_ranges_of_the_contract(pack):
    batch = next(loader(pack).epoch(0))
    assert [(tuple(t.shape), t.dtype) for t in batch.tensors] == [
        ((4, 3, 16, 16), torch.float32),
        ((4, 1, 16, 16), torch.float32),
        ((4, 1, 16, 16), torch.float32),
        ((4, 1, 16, 16), torch.bool),
        ((4,), torch.bool),
    ]
    assert batch.target.mask.min() == 0 and batch.target.mask.max() == 1
    assert batch.target.depth.min() == 0 and 0.5 < batch.target.depth.max() <= 1
    assert 0 < (~batch.target.valid).float().mean() < 0.2 and (batch.target.depth[~batch.target.valid] == 0).all()
    assert len(batch) == 4


def test_values_are_those_of_the_pack(pack):
    batch = next(loader(pack).epoch(0))
    raw = pack.gather(np.arange(4))
    stats = pack.stats
    expected = (raw.image / 255 - stats.image_mean) / stats.image_std
    assert batch.image.permute(0, 2, 3, 1).numpy() == pytest.approx(expected, abs=1e-5)
    assert batch.target.mask[:, 0].numpy() == pytest.approx(raw.mask / 255)
    depth, valid = decode_depth(raw.depth)
    assert (batch.target.depth[:, 0].numpy() == depth).all() and (batch.target.valid[:, 0].numpy() == valid).all()


def test_normalised_epoch_has_mean_zero_and_deviation_one(pack):
    image = torch.cat([batch.image for batch in loader(pack).epoch(0)])
    assert image.mean(dim=(0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-4)
    assert image.std(dim=(0, 2, 3)) == pytest.approx([1, 1, 1], abs=1e-3)


def test_blank_images_normalise_to_finite_values(pack):
    raw = pack.gather(np.arange(2))
    raw.image[:] = 0
    stats = type(pack.stats)(**{**pack.stats.__dict__, "image_mean": (0.0,) * 3, "image_std": (0.0,) * 3})
    assert torch.isfinite(to_pixels(*to_tensors(raw)).normalise(stats).image).all()


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [4, 4, 2]),
        ({"drop_last": True}, [4, 4]),
        ({"first": 5}, [4, 1]),
        ({"first": 3, "drop_last": True}, [3]),
        ({"batch_size": 5, "drop_last": True}, [5, 5]),
    ],
)
def test_batch_sizes_and_length_agree(pack, options, sizes):
    batches = loader(pack.prefix(options.pop("first", 10)), **options)
    assert [len(batch) for batch in batches.epoch(0)] == sizes and len(batches) == len(sizes)


def test_unshuffled_epochs_follow_the_pack(pack):
    assert torch.equal(order_of(loader(pack), 0), order_of(loader(pack), 7))


def test_shuffled_epoch_holds_every_sample_once_in_an_order_of_its_own(pack):
    shuffled = loader(pack, shuffle=True)
    first, second = order_of(shuffled, 0), order_of(shuffled, 1)
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, order_of(loader(pack), 0).sort().values)


def test_epoch_repeats_exactly_without_the_epochs_before_it(pack):
    through = loader(pack, shuffle=True, augment=ALL, seed=5)
    epochs = [tensors(through.epoch(number)) for number in range(3)]
    resumed = loader(pack, shuffle=True, augment=ALL, seed=5)
    assert equal(tensors(resumed.epoch(2)), epochs[2])
    assert not equal(epochs[1], epochs[2])
    assert not equal(tensors(loader(pack, shuffle=True, augment=ALL, seed=6).epoch(2)), epochs[2])


def test_augmentation_of_a_sample_does_not_depend_on_batch_size(pack):
    small, large = (loader(pack, augment=ALL, batch_size=size) for size in (2, 10))
    assert torch.equal(torch.cat([b.image for b in small.epoch(1)]), next(large.epoch(1)).image)


def test_epoch_leaves_the_global_generators_alone(pack):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader(pack, shuffle=True, augment=ALL).epoch(0))
    assert torch.equal(before, torch.get_rng_state())


def test_image_has_its_channels_last_on_the_device(pack):
    batch, strides = next(loader(pack).epoch(0)).to("cpu"), (768, 1, 48, 3)
    assert isinstance(batch, Batch) and batch.image.stride() == strides


def test_batches_say_whose_mask_is_known_whatever_is_changed(partial_datasets, tmp_path):
    dataset = read_dataset(partial_datasets["mixed"])
    pack = pack_split(dataset, sort_nested(dataset.triplets), 16, cache=tmp_path / "cache")
    (plain,), (changed,) = (
        loader(pack, batch_size=40, augment=augment).epoch(0) for augment in (None, AugmentConfig(flip=1.0, rotate=1.0))
    )
    assert (
        plain.target.mask_known.tolist()
        == changed.target.mask_known.tolist()
        == [t.mask is not None for t in sort_nested(dataset.triplets)]
    )
    mask, known = changed.target.mask, changed.target.mask_known
    assert (mask[~known] == 0).all() and mask[known].flatten(1).any(1).all()
