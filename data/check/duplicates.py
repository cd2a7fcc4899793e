"""What is wrong with a folder as a whole: duplicates, backgrounds under two names, gaps, stray files, lacking partners.

Reads names; what the pictures hold comes as findings.
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.check.examine import Finding
from data.check.faults import Fault
from data.check.perceptual_hash import MOST, Trace, repeats
from data.dataset import Dataset, Triplet
from data.reading.matching import is_image_name

UNKNOWN = "unknown"  # background of files of which nothing tells it
TRACES_EACH = 3  # of a background
SERIES_LEAST = 0.5  # of a numbered series that must be there for its holes to be gaps


def named_faults(dataset: Dataset) -> list[Fault]:
    """What names alone tell is at fault; files that are missing are found where they are looked into."""
    told = [one for one in dataset.unusable if one.kind != "missing file"]
    return [Fault(one.kind, str(one.image or one.source), one.what) for one in told]


def duplicates(triplets: Sequence[Triplet], findings: Sequence[Finding]) -> list[Fault]:
    """Find images whose pixels are those of an earlier one."""
    first: dict[bytes, Triplet] = {}
    found = []
    for triplet, finding in zip(triplets, findings, strict=True):
        earlier = first.setdefault(finding.digest, triplet) if finding.digest else triplet
        if earlier is not triplet:
            found.append(Fault("duplicate", str(triplet.image), f"as {earlier.id}"))
    return found


def repeated_backgrounds(
    triplets: Sequence[Triplet], findings: Sequence[Finding], folders: Mapping[str, int] | None = None
) -> dict[str, str]:
    """Find backgrounds that look like an earlier one of another name.

    Args:
        triplets: Of one folder, or of joined ones.
        findings: One each.
        folders: Number of the folder of each background, where several are joined: all get the same share of those that
            are compared.

    Returns:
        Name -> the earlier name.
    """
    folders = folders or {}
    most, taken = MOST // (len(set(folders.values())) or 1), Counter[int]()
    names: list[str] = []
    traces: list[Trace] = []
    count: Counter[str] = Counter()
    for triplet, finding in zip(triplets, findings, strict=True):
        name = triplet.background
        folder = folders.get(name, 0)
        if _unknown(name) or finding.trace is None:
            continue
        if count[name] < TRACES_EACH and taken[folder] < most:
            count[name] += 1
            taken[folder] += 1
            names.append(name)
            traces.append(finding.trace)
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    found: dict[str, str] = {}
    for pair in repeats(np.stack(traces)) if traces else ():
        first, later = sorted((names[place] for place in pair), key=order.__getitem__)
        if first != later:
            found.setdefault(later, found.get(first, first))
    return found


def shared_backgrounds(dataset: Dataset, findings: Sequence[Finding]) -> list[Fault]:
    """Find triplets of joined folders on a background that an earlier folder has too, so that a split may part them.

    Where both folders state that they are of the same part, as `data.compose` does of the same photos, none does.

    Args:
        dataset: Joined folders.
        findings: Of all their triplets.
    """
    folder = {t.background: place for place, part in enumerate(dataset.parts) for t in part.triplets}
    parts: dict[str, set[str | None]] = defaultdict(set)
    for triplet in dataset.triplets:
        parts[triplet.background].add(triplet.split)
    shared = {
        later: first
        for later, first in repeated_backgrounds(dataset.triplets, findings, folder).items()
        if folder[later] != folder[first] and (None in parts[first] or len(parts[later] | parts[first]) > 1)
    }
    told = [(triplet, shared.get(triplet.background)) for triplet in dataset.triplets]
    return [Fault("shared background", str(t.image), f"{t.background} as {first}") for t, first in told if first]


def gaps(triplets: Sequence[Triplet]) -> list[Fault]:
    """Find numbers that lack in series of image names that are otherwise mostly whole."""
    series: dict[tuple[Path, str, str], list[int]] = defaultdict(list)
    for triplet in triplets:
        match = re.fullmatch(r"(.*?)(\d+)(\D*)", triplet.image.stem)
        if match:
            series[triplet.image.parent, match[1], match[3] + triplet.image.suffix].append(int(match[2]))
    found = []
    for (folder, before, after), numbers in series.items():
        lacking = _lacking(sorted(set(numbers)))
        if lacking:
            said = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in lacking)
            found.append(Fault("gap", str(folder / f"{before}*{after}"), said))
    return found


def strays(dataset: Dataset) -> list[Fault]:
    """Find files beside the triplets' own that belong to none; text files in the root are documents."""
    used = {path for t in dataset.triplets for path in (t.image, t.mask, t.depth) if path}
    folders = {path.parent for path in used} | {dataset.root}
    found = []
    for folder in filter(Path.is_dir, sorted(folders)):
        for path in sorted(folder.iterdir()):
            if not path.is_file() or path in used:
                continue
            if folder != dataset.root or is_image_name(path.name):
                found.append(Fault("stray file", str(path)))
    inside = {parent for folder in folders for parent in (folder, *folder.parents)}
    left = [path for path in sorted(dataset.root.iterdir()) if path.is_dir() and path not in inside]
    return found + [Fault("stray file", str(path), "folder") for path in left]


def _lacking(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of numbers that lack between the first and the last, in steps that all share."""
    if len(numbers) < 3:
        return []
    step = math.gcd(*np.diff(numbers).tolist())
    if len(numbers) < SERIES_LEAST * ((numbers[-1] - numbers[0]) // step + 1):
        return []
    pairs = itertools.pairwise(numbers)
    return [(a + step, b - step) for a, b in pairs if b - a > step]


def _unknown(background: str) -> bool:
    return background.rpartition("/")[2] == UNKNOWN  # of a joined folder, behind its name
