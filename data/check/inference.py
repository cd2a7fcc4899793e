"""What dataset.json could state of a folder that has none: guessed from its depth and its backgrounds, with how sure.

A guess is sure, or it is no more than a hint: only sure ones are written.
"""

import json
import math
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.check.examine import DepthValues, Finding
from data.check.perceptual_hash import MOST, neighbours, repeats
from data.check.polarity import LEAST_VOTES, SURE, Polarity
from data.dataset import DataError, DatasetSpec
from data.reading.dataset_json import read_dataset_json
from data.runtime.files import write_atomically

ISOLATED = 8  # levels between 0 and the next value, where 0 means unknown
LEAST_GROUPS = 3
RELATIVE_ABOVE = 30_000  # 16-bit values beyond: no camera measures 30 m in mm


@dataclass(frozen=True)
class InferredField:
    """A key of dataset.json, the value guessed for it (None: cannot be told), whether that is sure, and why."""

    key: str
    value: str | int | None
    sure: bool
    why: str


def guess(
    findings: Sequence[Finding], polarity: Polarity, stated: Mapping[str, Any], *, ordered: bool
) -> list[InferredField]:
    """Guess what can be guessed.

    Args:
        findings: Of all triplets, in natural order of their images.
        polarity: What they say of polarity.
        stated: What dataset.json states, which needs no guess.
        ordered: No names tell the backgrounds, so that consecutive files may tell a group size.

    Returns:
        At most one guess a key.
    """
    values = [finding.values for finding in findings if finding.values and finding.values.greatest > 0]
    found = []
    if values:
        unit = _unit(values)
        found = [unit, *_near(polarity, stated.get("depth_unit", unit.value)), *_missing(findings, values, unit)]
    found += _group_size(findings) if ordered else []
    return [told for told in found if told.key not in stated]


def write_spec(root: Path, keys: dict[str, str | int]) -> Path:
    """Write keys into dataset.json, and keep what else it states.

    Args:
        root: The data set folder.
        keys: What to state.

    Returns:
        The file.

    Raises:
        DataError: A value out of range, a dataset.json that is no JSON object, a folder that cannot be written to.
    """
    path = root / "dataset.json"
    if not root.stat().st_mode & stat.S_IWUSR:  # asked of the mode: root may write anywhere, and should not
        raise DataError(f"{path}: not written, the folder is read-only; copy it, or allow writing")
    try:
        merged = read_dataset_json(path) | keys
        DatasetSpec.from_dict(merged)
        text = json.dumps(merged, indent=2) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); copy the folder to where it can") from error
    return path


def _unit(values: Sequence[DepthValues]) -> InferredField:
    kinds = Counter(value.dtype for value in values)
    dtype = kinds.most_common(1)[0][0]
    greatest = max(value.greatest for value in values if value.dtype == dtype)
    median = float(np.median([value.median for value in values if value.dtype == dtype]))
    range_ = f"{dtype}, up to {greatest:.4g}, half of it below {median:.4g}"
    if len(kinds) > 1:
        return InferredField("depth_unit", None, False, "files of different types: " + ", ".join(sorted(kinds)))
    if dtype == "uint8" or (dtype.startswith("float") and greatest <= 1):
        return InferredField("depth_unit", "relative", True, range_)
    if dtype.startswith("float"):
        return InferredField("depth_unit", "m" if greatest < 300 else "mm", 1 < median < 100 or median > 300, range_)
    if greatest > RELATIVE_ABOVE:
        return InferredField("depth_unit", "relative", False, range_)
    return InferredField("depth_unit", "mm", 300 < median < 15_000, range_)


def _near(polarity: Polarity, unit: str) -> list[InferredField]:
    if unit != "relative" or not polarity.near:
        return []
    votes, why = polarity.votes, str(polarity.votes)
    if polarity.mixed:
        return [InferredField("near", None, False, f"{why}; both polarities in one folder")]
    return [
        InferredField("near", votes.most if votes.share >= 0.6 else None, votes.agreed(LEAST_VOTES) is not None, why)
    ]


def _missing(findings: Sequence[Finding], values: Sequence[DepthValues], unit: InferredField) -> list[InferredField]:
    with_zeros = [value for value in values if value.zeros > 0.001]
    if not with_zeros or unit.value is None:
        return []
    if unit.value != "relative":
        return [
            InferredField(
                "missing", 0, True, f"zeros in {len(with_zeros)} of {len(values)} depth maps; no distance is 0"
            )
        ]
    step = ISOLATED * {"uint8": 1.0, "uint16": 257.0}.get(with_zeros[0].dtype, 1 / 255)
    apart = sum(value.least >= step for value in with_zeros)
    share = apart / len(with_zeros)
    if share < 0.5:
        return []
    why = f"no values next to 0 in {apart} of {len(with_zeros)} depth maps with zeros"
    return [InferredField("missing", 0, share >= SURE and apart >= LEAST_VOTES, why)]


def _group_size(findings: Sequence[Finding]) -> list[InferredField]:
    """Whether consecutive images share their backgrounds in groups of one size."""
    traces = [finding.trace for finding in findings if finding.trace is not None]
    if len(traces) < max(2, len(findings)):
        return []
    same = neighbours(np.stack(traces))
    if not same.any():
        return _all_different(np.stack(traces))
    ends = np.flatnonzero(~same) + 1
    if len(ends) + 1 < LEAST_GROUPS:
        return [InferredField("group_size", None, False, f"the background changes {len(ends)} times")]
    size = math.gcd(*(int(end) for end in ends))
    runs = np.diff([0, *ends, len(traces)])
    even = bool(size > 1 and (runs[:-1] == size).all() and runs[-1] <= size)
    why = f"the background changes after every {size} files" if even else f"{len(runs)} runs of 1 to {runs.max()} files"
    return [InferredField("group_size", size if even else None, even, why)]


def _all_different(traces: np.ndarray) -> list[InferredField]:
    if len(traces) > MOST:
        return []
    again = repeats(traces)
    if again:
        why = f"{len(again)} files repeat the background of one that is not beside them; name it in a manifest.csv"
        return [InferredField("group_size", None, False, why)]
    why = "no two files look alike; but frames of one film, or views of one place, share a background too"
    return [InferredField("group_size", 1, False, why)]
