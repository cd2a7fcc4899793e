"""Compare the files of a folder: duplicates, repeated backgrounds, groups of one background, stray files."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.check.faults import Fault
from data.check.inspection import Inspection
from data.check.perceptual_hash import MAX_HASHES, find_repeats, match_neighbours
from data.dataset import Dataset, Triplet
from data.reading.listing import is_system_name
from data.reading.matching import group_backgrounds, is_image_name
from data.values.infer_depth import InferredField

HASHES_EACH = 3  # hashes compared for each background
MIN_GROUPS = 3  # number of groups from which a group size is inferred


def find_duplicates(triplets: Sequence[Triplet], inspections: Sequence[Inspection]) -> list[Fault]:
    """Find images with the same pixels as an earlier image."""
    first: dict[bytes, Triplet] = {}
    found = []
    for triplet, inspection in zip(triplets, inspections, strict=True):
        earlier = first.setdefault(inspection.digest, triplet) if inspection.digest else triplet
        if earlier is not triplet:
            found.append(Fault("duplicate", str(triplet.image), f"equals {earlier.id}"))
    return found


def find_repeated_backgrounds(
    triplets: Sequence[Triplet], inspections: Sequence[Inspection], folders: Mapping[str, int] | None = None
) -> dict[str, str]:
    """Find backgrounds that look like an earlier background of another name, as name -> earlier name.

    `folders` gives the number of each background's folder, if several are joined; each folder gets a share of
    `MAX_HASHES`.
    """
    folders = folders or {}
    limit = MAX_HASHES // (len(set(folders.values())) or 1)
    hashes: list[np.ndarray] = []
    names: list[str] = []
    by_folder, by_name = Counter[int](), Counter[str]()
    for triplet, inspection in zip(triplets, inspections, strict=True):
        name = triplet.background
        folder = folders.get(name, 0)
        known = triplet.has_known_background
        if known and inspection.hash is not None and by_name[name] < HASHES_EACH and by_folder[folder] < limit:
            by_name[name] += 1
            by_folder[folder] += 1
            names.append(name)
            hashes.append(inspection.hash)
    order = {name: position for position, name in enumerate(dict.fromkeys(names))}
    found: dict[str, str] = {}
    for pair in find_repeats(np.stack(hashes)) if hashes else ():
        first, later = sorted((names[position] for position in pair), key=order.__getitem__)
        if first != later:
            found.setdefault(later, found.get(first, first))
    return found


def find_shared_backgrounds(dataset: Dataset, inspections: Sequence[Inspection]) -> list[Fault]:
    """Find triplets of joined folders on a background of an earlier folder, unless both are in the same split."""
    folder = {t.background: number for number, part in enumerate(dataset.parts) for t in part.triplets}
    splits: dict[str, set[str | None]] = defaultdict(set)
    for triplet in dataset.triplets:
        splits[triplet.background].add(triplet.split)
    repeated = find_repeated_backgrounds(dataset.triplets, inspections, folder)
    found = []
    for triplet in dataset.triplets:
        own, first = triplet.background, repeated.get(triplet.background, triplet.background)
        if folder[own] != folder[first] and (None in splits[first] or len(splits[own] | splits[first]) > 1):
            found.append(Fault("shared background", str(triplet.image), f"{own} looks like {first}"))
    return found


def find_stray_files(dataset: Dataset) -> list[Fault]:
    """Find files and folders that belong to no triplet; files in the root that are not images count as documents."""
    used = {path for triplet in dataset.triplets for path in triplet.files.values()}
    folders = {path.parent for path in used} | {dataset.root}
    files = (path for folder in filter(Path.is_dir, sorted(folders)) for path in _list_folder(folder))
    stray = (path for path in files if path.is_file() and path not in used)
    stray = (path for path in stray if path.parent != dataset.root or is_image_name(path.name))
    inside = {parent for folder in folders for parent in (folder, *folder.parents)}
    left = [path for path in _list_folder(dataset.root) if path.is_dir() and path not in inside]
    return [
        *(Fault("stray file", str(path)) for path in stray),
        *(Fault("stray file", str(path), "folder") for path in left),
    ]


def _list_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_system_name(path.name))


def infer_group_size(triplets: Sequence[Triplet], inspections: Sequence[Inspection]) -> InferredField:
    """Infer the number of consecutive images that share a background; the groups must match how the images look."""
    found = [inspection.hash for inspection in inspections if inspection.hash is not None]
    if len(found) < max(2, len(inspections)):
        return InferredField("group_size", None, False, "too few images can be read")
    hashes = np.stack(found)
    same = match_neighbours(hashes)
    if not same.any():
        if len(hashes) > MAX_HASHES:
            return InferredField("group_size", None, False, f"more than {MAX_HASHES:,} files are not compared")
        if repeats := len(find_repeats(hashes)):
            reason = f"{repeats} files repeat the background of a file elsewhere; name backgrounds in manifest.csv"
            return InferredField("group_size", None, False, reason)
        reason = "no two files look alike, but frames of one film or views of one place also share a background"
        return InferredField("group_size", 1, False, reason)
    ends = np.flatnonzero(~same) + 1
    if len(ends) + 1 < MIN_GROUPS:
        return InferredField("group_size", None, False, f"the background changes {len(ends)} times")
    size = math.gcd(*(int(end) for end in ends))
    runs = np.diff([0, *ends, len(hashes)])
    even = bool(size > 1 and (runs[:-1] == size).all() and runs[-1] <= size)
    uneven = f"{runs.min()} to {runs.max()} consecutive files look alike, so the groups differ in size"
    reason = f"background changes every {size} files" if even else uneven
    if even:
        groups = group_backgrounds([triplet.image.stem for triplet in triplets], size)
        even = [a == b for a, b in itertools.pairwise(groups)] == same.tolist()
        if not even:
            reason += ", but the numbers in the file names group them differently; name backgrounds in manifest.csv"
    return InferredField("group_size", size if even else None, even, reason)
