"""Infer fields of dataset.json from depth values and backgrounds. Only certain ones are written."""

import json
import math
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.check.examine import Inspection
from data.check.perceptual_hash import MAX_HASHES, find_repeats, match_neighbours
from data.dataset import DataError, DatasetSpec
from data.reading.dataset_json import read_dataset_json
from data.runtime.files import write_atomically
from data.values.depth_inference import InferredField, infer_missing, infer_near, infer_unit
from data.values.polarity import Polarity

MIN_GROUPS = 3


def infer_fields(
    inspections: Sequence[Inspection], polarity: Polarity, configured: Mapping[str, Any], *, ordered: bool
) -> list[InferredField]:
    """Infer the fields that are not configured in dataset.json.

    `ordered` is true if no names give the backgrounds, so that consecutive files may show a group size.
    """
    values = [inspection.values for inspection in inspections if inspection.values and inspection.values.maximum]
    fields = []
    if values:
        unit = infer_unit(values, polarity)
        relative = configured.get("depth_unit", unit.value if unit.certain else None) == "relative"
        near = [infer_near(polarity, values)] if relative and polarity.near else []
        fields = [unit, *near, *infer_missing(values, str(configured.get("depth_unit", unit.value)))]
    fields += _infer_group_size(inspections) if ordered else []
    return [field for field in fields if field.key not in configured]


def write_dataset_json(root: Path, fields: Mapping[str, Any]) -> Path:
    """Set fields in dataset.json, keep its other content, and return its path."""
    path = root / "dataset.json"
    if not root.stat().st_mode & stat.S_IWUSR:  # the root user could write, but respects the mode
        raise DataError(f"{path}: not written, the folder is read-only; copy it, or allow writing")
    try:
        merged = {**read_dataset_json(path), **fields}
        DatasetSpec.from_dict(merged)
        text = json.dumps(merged, indent=2) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); copy the data to a writable folder") from error
    return path


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
