"""Split a data set into training, validation and test without leaks, and take nested subsets."""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from data.dataset import DataError, Dataset, Triplet
from data.runtime.files import hash_name

HELD_OUT = 0.1  # share of the backgrounds for validation, and again for test
SHARES = (HELD_OUT, 0.15, 0.2, 0.25, 0.3)  # shares of backgrounds and foregrounds, tried if both are held out
# enough validation or test images: this number, or this share of the training images
USEFUL_IMAGES, USEFUL_SHARE = 96, 0.1


@dataclass(frozen=True)
class Splits:
    """Training, validation and test triplets in nested order: any prefix is a fair sample of its split."""

    train: tuple[Triplet, ...]
    val: tuple[Triplet, ...]
    test: tuple[Triplet, ...]  # empty if the data set has no test split
    # Number of triplets in no split, because their background belongs to another one than their foreground
    mixed: int = field(default=0, kw_only=True)

    def sizes(self) -> dict[str, int]:
        """Return the number of triplets of each split."""
        return {name: len(triplets) for name, triplets in self.by_name().items()}

    def by_name(self) -> dict[str, tuple[Triplet, ...]]:
        """Return the triplets of each split."""
        return {"train": self.train, "val": self.val, "test": self.test}


def _split_each_folder(split: Callable[..., Splits]) -> Callable[..., Splits]:
    """Apply a split to each joined folder by itself, so that every folder is in all splits."""

    @functools.wraps(split)
    def split_folders(dataset: Dataset, *, seed: int = 0) -> Splits:
        found = [split(folder, seed=seed) for folder in dataset.folders]
        if len(found) == 1:
            return found[0]
        columns = zip(*(splits.by_name().values() for splits in found), strict=True)
        joined = (sort_nested(itertools.chain(*column)) for column in columns)
        return Splits(*joined, mixed=sum(splits.mixed for splits in found))

    return split_folders


@_split_each_folder
def split_by_background(dataset: Dataset, *, seed: int = 0) -> Splits:
    """Split 80/10/10 so that no background is in two splits, and no foreground where manifest.csv names both.

    The column split of manifest.csv takes precedence. Triplets that mix a foreground of one split with a background of
    another are left out and counted. Two backgrounds give training and validation, but no test split.
    """
    return _split_by_column(dataset, seed) if has_split_column(dataset) else _separate_foregrounds(dataset, seed)


def _split_backgrounds(dataset: Dataset, seed: int, share: float = HELD_OUT) -> Splits:
    backgrounds = {triplet.background for triplet in dataset.triplets}
    if len(backgrounds) < 2:
        problem = "it has 1 background"
        remedy = "add images with other backgrounds, or correct manifest.csv or --group-size if it has more"
        if not any(triplet.has_known_background for triplet in dataset.triplets):
            problem = "its backgrounds are unknown"
            remedy = "use --group-size N (1 if each image has its own; see one-look check), or name them in a manifest"
        raise DataError(f"{dataset.label}: {problem}, and a split needs 2 backgrounds; {remedy}")
    val, test = _hold_out(backgrounds, seed, share)
    names = dict.fromkeys(backgrounds, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    return _build_splits(dataset, lambda triplet: names[triplet.background])


@_split_each_folder
def split_randomly(dataset: Dataset, *, seed: int = 0) -> Splits:
    """Split training and validation by image, as the original study did. It leaks: both contain the same backgrounds.

    The test split has separate backgrounds, as by `split_by_background` or the column split, so that validation minus
    test estimates the effect of the leak. With one background there is no test split.
    """
    held_out = Splits((), (), ())
    if has_split_column(dataset):
        held_out = _split_by_column(dataset, seed)
    elif len({triplet.background for triplet in dataset.triplets}) > 1:
        held_out = _split_backgrounds(dataset, seed)
    test = {triplet.id for triplet in held_out.test or held_out.val}
    ids = {triplet.id for triplet in dataset.triplets} - test
    if len(ids) < 2:
        raise DataError(f"{dataset.label}: {len(ids)} triplet cannot be split; add more")
    names = dict.fromkeys(test, "test") | dict.fromkeys(ids, "train") | dict.fromkeys(_hold_out(ids, seed)[0], "val")
    return _build_splits(dataset, lambda triplet: names[triplet.id])


SPLITS: dict[str, Callable[..., Splits]] = {"background": split_by_background, "random": split_randomly}


def sort_nested(triplets: Iterable[Triplet]) -> tuple[Triplet, ...]:
    """Sort triplets by a stable hash of their ids, so that more data never reorder existing triplets."""
    return tuple(sorted(triplets, key=lambda triplet: (hash_name(triplet.id), triplet.id)))


def _hold_out(names: set[str], seed: int, share: float = HELD_OUT) -> tuple[list[str], list[str]]:
    """Return a share of names, at least one, by a stable hash, and as many others if there are more than two."""
    ranked = sorted(names, key=lambda name: (hash_name(f"{seed}/{name}"), name))
    count = max(1, round(share * len(ranked)))
    return ranked[:count], ranked[count : 2 * count] if len(ranked) > 2 else []


def list_shared(splits: Splits, list_names: Callable[[Triplet], Iterable[str]]) -> set[str]:
    """Return the names, such as those of foregrounds, that triplets of more than one split have."""
    by_split = ({name for triplet in part for name in list_names(triplet)} for part in splits.by_name().values())
    counts = Counter(itertools.chain.from_iterable(by_split))
    return {name for name, count in counts.items() if count > 1}


def _separate_foregrounds(dataset: Dataset, seed: int) -> Splits:
    """Split by background and by foreground, and hold out the smallest share that leaves enough images to measure.

    If none does, the share that leaves most images is held out. If every share leaves a split empty, which can happen
    with composites of several foregrounds, foregrounds are not separated.
    """
    plain = _split_backgrounds(dataset, seed)
    shared = len(list_shared(plain, lambda triplet: triplet.foregrounds))
    if shared < 2:
        return plain
    best, most = plain, 0
    for share in SHARES:
        splits = _leave_out_mixed(_split_backgrounds(dataset, seed, share), seed, share)
        measured = min(len(splits.val), len(splits.test)) if plain.test and shared > 2 else len(splits.val)
        if splits.train and measured > most:
            best, most = splits, measured
        if most >= min(USEFUL_IMAGES, USEFUL_SHARE * len(best.train)) > 0:
            break
    return best


def _leave_out_mixed(splits: Splits, seed: int, share: float) -> Splits:
    """Leave out the triplets whose foreground belongs to another split than their background."""
    shared = list_shared(splits, lambda triplet: triplet.foregrounds)
    val, test = _hold_out(shared, seed, share)
    homes = dict.fromkeys(shared, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    kept = [
        tuple(t for t in triplets if all(homes.get(name, split) == split for name in t.foregrounds))
        for split, triplets in splits.by_name().items()
    ]
    return Splits(*kept, mixed=sum(splits.sizes().values()) - sum(map(len, kept)))


def has_split_column(dataset: Dataset) -> bool:
    """Return whether manifest.csv or folders name the split of a triplet."""
    return any(triplet.split is not None for triplet in dataset.triplets)


def _split_by_column(dataset: Dataset, seed: int) -> Splits:
    """Split by the column of manifest.csv; if it has no validation but a test split, hold out training backgrounds."""
    splits = _build_splits(dataset, lambda triplet: triplet.split or "train")
    backgrounds = {triplet.background for triplet in splits.train}
    if splits.test and not splits.val and len(backgrounds) > 1:
        held_out = set(_hold_out(backgrounds, seed)[0])
        names = {triplet.id: "val" for triplet in splits.train if triplet.background in held_out}
        return _build_splits(dataset, lambda triplet: names.get(triplet.id, triplet.split or "train"))
    for name in ("train", "val"):
        if not splits.by_name()[name]:
            remedy = f"mark some in manifest.csv or put some into {name}/, or use --group-size if none are known"
            raise DataError(f"{dataset.label}: its split names no {name} images; {remedy}")
    return splits


def _build_splits(dataset: Dataset, name_split: Callable[[Triplet], str]) -> Splits:
    found: dict[str, list[Triplet]] = {"train": [], "val": [], "test": []}
    for triplet in sort_nested(dataset.triplets):
        found[name_split(triplet)].append(triplet)
    return Splits(*map(tuple, found.values()))
