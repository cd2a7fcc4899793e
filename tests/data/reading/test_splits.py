"""Splits that do not leak, and subsets that nest."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.reading.splits import sort_nested, split_by_background, split_randomly


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
    with pytest.raises(
        DataError, match=r"it has 1 background, and a split needs 2 backgrounds; add images with other backgrounds, or"
    ):
        split_by_background(dataset_of(1))


def test_unstated_backgrounds_are_an_error(make_dataset):
    from data.reading.layout import read_dataset

    with pytest.raises(
        DataError, match=r"backgrounds are unknown, and a split needs 2 backgrounds; use --group-size N \(1"
    ):
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
    with pytest.raises(DataError, match=r"^set: its split names no val images; .* or use --group-size"):
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


def crossed(backgrounds=20, foregrounds=20, name="f{}".format):
    """Every background with every foreground."""
    whole = dataset_of(backgrounds, foregrounds)
    triplets = tuple(replace(t, foreground=name(int(t.id.partition("_")[2]))) for t in whole.triplets)
    return replace(whole, triplets=triplets)


def foregrounds_of(part):
    return {name for triplet in part for name in triplet.foreground.split("+")}


@pytest.mark.parametrize("name", ["f{}".format, lambda n: f"f{n}+f{n - n % 2}"])
def test_no_foreground_is_in_two_parts_and_mixed_triplets_are_counted(name):
    dataset = crossed(name=name)
    splits = split_by_background(dataset)
    parts = (splits.train, splits.val, splits.test)
    assert all(parts)
    for first, second in itertools.combinations(parts, 2):
        assert not foregrounds_of(first) & foregrounds_of(second) and not backgrounds_of(first) & backgrounds_of(second)
    assert splits.mixed == len(dataset.triplets) - sum(map(len, parts)) > 0
    assert split_by_background(dataset) == splits != split_by_background(dataset, seed=1)


@pytest.mark.parametrize(
    ("side", "sizes"), [(2, (1, 1, 0)), (3, (1, 1, 1)), (10, (36, 4, 4)), (20, (144, 16, 16)), (100, (6400, 100, 100))]
)
def test_more_is_held_out_until_there_are_enough_images_to_measure(side, sizes):
    splits = split_by_background(crossed(side, side))
    assert tuple(splits.sizes().values()) == sizes and splits.mixed == side**2 - sum(sizes)


def test_foregrounds_that_stay_with_their_background_are_all_kept():
    dataset = dataset_of(20)
    own = tuple(replace(t, foreground=f"only {t.id}") for t in dataset.triplets)
    splits = split_by_background(replace(dataset, triplets=own))
    assert splits.mixed == 0 and splits.sizes() == split_by_background(dataset).sizes()


def test_one_foreground_everywhere_and_a_stated_split_leave_none_out():
    same = crossed(foregrounds=5, name=lambda n: "dog")
    assert split_by_background(same).mixed == 0
    stated = dataset_of(4, split=lambda b, n: ("train", "val")[b % 2])
    dogs = replace(stated, triplets=tuple(replace(t, foreground=f"dog{t.id[-1]}") for t in stated.triplets))
    assert sum(split_by_background(dogs).sizes().values()) == len(dogs.triplets)


def test_random_split_ignores_foregrounds():
    plain, named = dataset_of(20, 20), crossed()
    assert split_randomly(plain).sizes() == split_randomly(named).sizes()


def test_mixed_triplets_of_joined_folders_are_added_up():
    one = crossed()
    two = replace(one, triplets=tuple(replace(t, id=f"z{t.id}", background=f"z{t.background}") for t in one.triplets))
    joined = replace(one, triplets=one.triplets + two.triplets, parts=(one, two))
    assert split_by_background(joined).mixed == split_by_background(one).mixed + split_by_background(two).mixed


def test_built_in_scenes_are_split_by_background_alone(tiny_dataset):
    from data.reading.layout import read_dataset

    splits = split_by_background(read_dataset(tiny_dataset))
    assert splits.mixed == 0 and splits.sizes() == {"train": 32, "val": 4, "test": 4}
