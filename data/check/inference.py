"""Infer fields of dataset.json from depth values and backgrounds. Only certain ones are written."""

import json
import math
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.check.examine import DepthValues, Inspection
from data.check.perceptual_hash import MAX_HASHES, find_repeats, match_neighbours
from data.check.polarity import MIN_SHARE, MIN_VOTES, Polarity
from data.dataset import DataError, DatasetSpec
from data.reading.dataset_json import read_dataset_json
from data.runtime.files import write_atomically

ISOLATED = 8  # levels of 255 without values above 0, if 0 means unknown
MIN_GROUPS = 3
MAX_MM = 30_000  # larger 16-bit values are relative: no depth camera measures 30 m in mm


@dataclass(frozen=True)
class InferredField:
    """A key of dataset.json with its inferred value (None: unknown), its certainty and the reason."""

    key: str
    value: str | int | None
    certain: bool
    reason: str


def infer_fields(
    inspections: Sequence[Inspection], polarity: Polarity, configured: Mapping[str, Any], *, ordered: bool
) -> list[InferredField]:
    """Infer the fields that are not configured in dataset.json.

    `ordered` is true if no names give the backgrounds, so that consecutive files may show a group size.
    """
    values = [inspection.values for inspection in inspections if inspection.values and inspection.values.maximum > 0]
    fields = []
    if values:
        unit = _infer_unit(values)
        near = _infer_near(polarity, configured.get("depth_unit", unit.value))
        fields = [unit, *near, *_infer_missing(values, unit)]
    fields += _infer_group_size(inspections) if ordered else []
    return [field for field in fields if field.key not in configured]


def write_dataset_json(root: Path, fields: dict[str, str | int]) -> Path:
    """Set fields in dataset.json, keep its other content, and return its path."""
    path = root / "dataset.json"
    if not root.stat().st_mode & stat.S_IWUSR:  # the root user could write, but respects the mode
        raise DataError(f"{path}: not written, the folder is read-only; copy it, or allow writing")
    try:
        merged = read_dataset_json(path) | fields
        DatasetSpec.from_dict(merged)
        text = json.dumps(merged, indent=2) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); copy the data to a writable folder") from error
    return path


def _infer_unit(values: Sequence[DepthValues]) -> InferredField:
    dtypes = Counter(value.dtype for value in values)
    dtype = dtypes.most_common(1)[0][0]
    maximum = max(value.maximum for value in values if value.dtype == dtype)
    median = float(np.median([value.median for value in values if value.dtype == dtype]))
    if len(dtypes) > 1:
        return InferredField("depth_unit", None, False, "files of different types: " + ", ".join(sorted(dtypes)))
    unit, certain = "mm", 300 < median < 15_000
    if dtype == "uint8" or (dtype.startswith("float") and maximum <= 1):
        unit, certain = "relative", True
    elif dtype.startswith("float"):
        unit, certain = "m" if maximum < 300 else "mm", 1 < median < 100 or median > 300
    elif maximum > MAX_MM:
        unit, certain = "relative", False
    return InferredField("depth_unit", unit, certain, f"{dtype}, maximum {maximum:.4g}, median {median:.4g}")


def _infer_near(polarity: Polarity, unit: str) -> list[InferredField]:
    if unit != "relative" or not polarity.near:
        return []
    votes = polarity.votes
    if polarity.mixed:
        return [InferredField("near", None, False, f"{votes}; both polarities in one folder")]
    value = votes.majority if votes.share >= 0.6 else None
    return [InferredField("near", value, votes.decide(MIN_VOTES) is not None, str(votes))]


def _infer_missing(values: Sequence[DepthValues], unit: InferredField) -> list[InferredField]:
    with_zeros = [value for value in values if value.zeros > 0.001]
    if not with_zeros or unit.value is None:
        return []
    if unit.value != "relative":
        reason = f"zeros in {len(with_zeros)} of {len(values)} depth maps; no distance is 0"
        return [InferredField("missing", 0, True, reason)]
    gap = ISOLATED * {"uint8": 1.0, "uint16": 257.0}.get(with_zeros[0].dtype, 1 / 255)
    isolated = sum(value.minimum >= gap for value in with_zeros)
    share = isolated / len(with_zeros)
    if share < 0.5:
        return []
    reason = f"no values next to 0 in {isolated} of {len(with_zeros)} depth maps with zeros"
    return [InferredField("missing", 0, share >= MIN_SHARE and isolated >= MIN_VOTES, reason)]


def _infer_group_size(inspections: Sequence[Inspection]) -> list[InferredField]:
    """Infer the number of consecutive images that share a background."""
    found = [inspection.hash for inspection in inspections if inspection.hash is not None]
    if len(found) < max(2, len(inspections)):
        return []
    hashes = np.stack(found)
    same = match_neighbours(hashes)
    if not same.any():
        if len(hashes) > MAX_HASHES:
            return []
        if repeats := len(find_repeats(hashes)):
            reason = f"{repeats} files repeat the background of a file elsewhere; name backgrounds in manifest.csv"
            return [InferredField("group_size", None, False, reason)]
        reason = "no two files look alike; but frames of one film, or views of one place, also share a background"
        return [InferredField("group_size", 1, False, reason)]
    ends = np.flatnonzero(~same) + 1
    if len(ends) + 1 < MIN_GROUPS:
        return [InferredField("group_size", None, False, f"the background changes {len(ends)} times")]
    size = math.gcd(*(int(end) for end in ends))
    runs = np.diff([0, *ends, len(hashes)])
    even = bool(size > 1 and (runs[:-1] == size).all() and runs[-1] <= size)
    reason = f"background changes every {size} files" if even else f"{len(runs)} runs of 1 to {runs.max()} files"
    return [InferredField("group_size", size if even else None, even, reason)]
