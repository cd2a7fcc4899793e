"""Splits that do not leak, and subsets that nest."""

from pathlib import Path

import pytest

from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.reading.splits import sort_nested, split_by_background, split_randomly, take_subset


def dataset_of(backgrounds, per_background=5, split=lambda background, number: None):
    triplets = tuple(
        Triplet(
            id=f"s{b}_{n}",
            image=Path(f"{b}_{n}.png"),
            mask=None,
            depth=None,
            background=f"b{b}",
            foreground="",
            split=split(b, n),
        )
        for b in range(backgrounds)
        for n in range(per_background)
    )
    return Dataset(root=Path("set"), triplets=triplets, spec=DatasetSpec(), fingerprint="x")


def backgrounds_of(part):
    return {triplet.background for triplet in part}


def test_no_background_is_in_two_parts():
    dataset = dataset_of(20)
    splits = split_by_background(dataset)
    parts = [backgrounds_of(part) for part in (splits.train, splits.val, splits.test)]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert len(set.union(*parts)) == 20
    assert len(splits.train) + len(splits.val) + len(splits.test) == len(dataset.triplets)


@pytest.mark.parametrize(("count", "sizes"), [(2, [1, 1, 0]), (3, [1, 1, 1]), (4, [2, 1, 1])])
def test_few_backgrounds_are_shared_out(count, sizes):
    splits = split_by_background(dataset_of(count))
    assert [len(backgrounds_of(part)) for part in (splits.train, splits.val, splits.test)] == sizes


def test_one_background_is_an_error_that_says_what_to_state():
    with pytest.raises(DataError, match=r"it has 1 background.*group_size"):
        split_by_background(dataset_of(1))


def test_unstated_backgrounds_are_an_error(make_dataset):
    from data.reading.layout import read_dataset

    with pytest.raises(DataError, match="backgrounds are unknown"):
        split_by_background(read_dataset(make_dataset(4)))


def test_split_repeats_by_seed_and_differs_between_seeds():
    dataset = dataset_of(20)
    assert split_by_background(dataset, seed=1) == split_by_background(dataset, seed=1)
    assert split_by_background(dataset, seed=1) != split_by_background(dataset, seed=2)


def test_manifest_split_wins():
    splits = split_by_background(dataset_of(3, split=lambda b, n: ("train", "val")[n % 2]))
    assert {t.split for t in splits.train} == {"train"} and {t.split for t in splits.val} == {"val"}
    assert splits.test == () and len(splits.val) == 6


def test_manifest_split_without_validation_is_an_error():
    with pytest.raises(DataError, match="names no val rows"):
        split_by_background(dataset_of(3, split=lambda b, n: "train"))


def test_random_split_shares_backgrounds():
    splits = split_randomly(dataset_of(10, per_background=20))
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [162, 18, 20]
    assert backgrounds_of(splits.train) & backgrounds_of(splits.val)
    assert not set(splits.train) & set(splits.val)


def test_random_split_keeps_the_test_backgrounds_apart():
    dataset = dataset_of(10, per_background=20)
    splits = split_randomly(dataset)
    assert splits.test == split_by_background(dataset).test
    assert not backgrounds_of(splits.test) & backgrounds_of(splits.train + splits.val)


def test_random_split_keeps_the_configured_validation_apart_where_there_is_no_test_part():
    dataset = dataset_of(3, split=lambda b, n: ("train", "val")[b == 2])
    splits = split_randomly(dataset)
    assert splits.test == split_by_background(dataset).val
    assert backgrounds_of(splits.val) <= backgrounds_of(splits.train)


def test_random_split_keeps_configured_test_rows_apart_whatever_their_background():
    dataset = dataset_of(1, per_background=9, split=lambda b, n: ("train", "val", "test")[n % 3])
    assert {triplet.split for triplet in split_randomly(dataset).test} == {"test"}


def test_random_split_of_one_background_has_no_test_part():
    splits = split_randomly(dataset_of(1, per_background=20))
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [18, 2, 0]


def test_random_split_needs_two_images():
    with pytest.raises(DataError, match="1 triplet cannot be split"):
        split_randomly(dataset_of(1, per_background=1))


def test_nested_order_depends_on_ids_not_on_position():
    triplets = dataset_of(4).triplets
    order = sort_nested(triplets)
    assert sort_nested(reversed(triplets)) == order != triplets
    fewer = [triplet for triplet in triplets if triplet.background != "b0"]
    assert sort_nested(fewer) == tuple(triplet for triplet in order if triplet.background != "b0")


def test_subsets_nest_and_are_never_empty():
    train = split_by_background(dataset_of(20)).train
    tenth, third = take_subset(train, 0.1), take_subset(train, 0.3)
    assert third[: len(tenth)] == tenth == train[: len(tenth)]
    assert (len(tenth), len(third), len(take_subset(train, 1e-6))) == (8, 24, 1)
    assert take_subset(train, 1.0) == train


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_subset_rejects_fractions_outside_range(fraction):
    with pytest.raises(ValueError, match="fraction is"):
        take_subset(dataset_of(1).triplets, fraction)
