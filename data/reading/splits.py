"""Train, validation and test parts without leaks, and nested subsets of them."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.dataset import DataError, Dataset, Triplet

HELD_OUT = 0.1  # share of the backgrounds for validation, and again for test


@dataclass(frozen=True)
class Splits:
    """The parts of a data set, each in nested order: any prefix is a fair sample of the part.

    `test` is empty where the data set gives no test part.
    """

    train: tuple[Triplet, ...]
    val: tuple[Triplet, ...]
    test: tuple[Triplet, ...]


def _each_folder(split: Callable[..., Splits]) -> Callable[..., Splits]:
    """The split of every folder that a data set joins, so that all are in all parts."""

    @functools.wraps(split)
    def whole(dataset: Dataset, *, seed: int = 0) -> Splits:
        found = [split(folder, seed=seed) for folder in dataset.folders]
        if len(found) == 1:
            return found[0]
        parts = zip(*((splits.train, splits.val, splits.test) for splits in found), strict=True)
        return Splits(*(sort_nested(itertools.chain(*part)) for part in parts))

    return whole


@_each_folder
def split_by_background(dataset: Dataset, *, seed: int = 0) -> Splits:
    """Split 80/10/10 so that no background is in two parts; the manifest's own split column wins.

    Two backgrounds give train and validation and no test part. Of joined folders each is split by itself.

    Args:
        dataset: A data set as read.
        seed: Another seed holds out other backgrounds.

    Returns:
        The parts, each sorted by a stable hash of the sample's id.

    Raises:
        DataError: Fewer than two backgrounds, or a split column without train or val.
    """
    if dataset.triplets[0].split is not None:
        return _stated(dataset)
    backgrounds = {triplet.background for triplet in dataset.triplets}
    if len(backgrounds) < 2:
        raise DataError(
            f"{dataset.root}: {_lack(backgrounds)}, and a split needs 2; state group_size in dataset.json "
            "(1 if each picture has its own background) or a background per line of manifest.csv"
        )
    part = _parts(backgrounds, seed)
    return _splits(dataset, lambda triplet: part[triplet.background])


@_each_folder
def split_randomly(dataset: Dataset, *, seed: int = 0) -> Splits:
    """Split training and validation by image, as the original study did. It leaks: both hold the same backgrounds.

    The test part is what `split_by_background` holds out, its test part or else its validation: these backgrounds are
    in neither, so that validation less test says how much such a split flatters.

    Args:
        dataset: A data set as read; of its manifest's split column only the test rows count.
        seed: Another seed holds out other images.

    Returns:
        The parts, each sorted by a stable hash of the sample's id; no test part where there is one background.

    Raises:
        DataError: Fewer than two triplets to divide, or a split column without train or val.
    """
    stated = dataset.triplets[0].split is not None
    apart = stated or len({triplet.background for triplet in dataset.triplets}) > 1
    held_out = split_by_background(dataset, seed=seed) if apart else Splits((), (), ())
    test = {triplet.id for triplet in held_out.test or held_out.val}
    names = {triplet.id for triplet in dataset.triplets} - test
    if len(names) < 2:
        raise DataError(f"{dataset.root}: {len(names)} triplet cannot be split; add more")
    part = dict.fromkeys(test, "test") | dict.fromkeys(names, "train")
    part |= dict.fromkeys(_held_out(names, seed), "val")
    return _splits(dataset, lambda triplet: part[triplet.id])


SPLITS: dict[str, Callable[..., Splits]] = {"background": split_by_background, "random": split_randomly}


def take_subset(triplets: Sequence[Triplet], fraction: float) -> tuple[Triplet, ...]:
    """First `fraction` of a part in nested order, at least one: the 10 % lies within the 30 %.

    Args:
        triplets: A part of `Splits`.
        fraction: In (0, 1].

    Returns:
        A prefix.

    Raises:
        ValueError: `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it lies above 0 and is at most 1")
    return tuple(triplets[: max(1, round(fraction * len(triplets)))])


def sort_nested(triplets: Iterable[Triplet]) -> tuple[Triplet, ...]:
    """Triplets sorted by a stable hash of their ids, so that more data never moves what was there."""
    return tuple(sorted(triplets, key=lambda triplet: (_rank(triplet.id), triplet.id)))


def _parts(backgrounds: set[str], seed: int) -> dict[str, str]:
    """Part of each background: validation, then test while there are three, from those held out first."""
    val = _held_out(backgrounds, seed)
    test = _held_out(backgrounds - set(val), seed, len(val)) if len(backgrounds) > 2 else []
    return dict.fromkeys(backgrounds, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")


def _held_out(names: set[str], seed: int, count: int | None = None) -> list[str]:
    """Return `count` names, by default HELD_OUT of them and at least one, first in the order of a stable hash."""
    ranked = sorted(names, key=lambda name: (_rank(f"{seed}/{name}"), name))
    return ranked[: max(1, round(HELD_OUT * len(ranked))) if count is None else count]


def _stated(dataset: Dataset) -> Splits:
    splits = _splits(dataset, lambda triplet: triplet.split or "train")
    for name in ("train", "val"):
        if not getattr(splits, name):
            path: Path = dataset.root / "manifest.csv"
            raise DataError(f"{path}: column split names no {name} rows; mark some or empty the column")
    return splits


def _splits(dataset: Dataset, part_of: Callable[[Triplet], str]) -> Splits:
    parts: dict[str, list[Triplet]] = {"train": [], "val": [], "test": []}
    for triplet in sort_nested(dataset.triplets):
        parts[part_of(triplet)].append(triplet)
    return Splits(**{name: tuple(triplets) for name, triplets in parts.items()})


def _lack(backgrounds: set[str]) -> str:
    unknown = {name.rpartition("/")[2] for name in backgrounds} == {"unknown"}  # of a joined folder, behind its name
    return "its backgrounds are not stated" if unknown else "it has 1 background"


def _rank(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
