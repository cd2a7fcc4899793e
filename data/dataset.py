"""What a data set is: its samples, what is stated about them, and the error of one that cannot be used."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal


class DataError(ValueError):
    """A data set that cannot be used as it is: one line that says what is wrong, where, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Triplet:
    """One sample's files. `mask` or `depth` is None where the data set has none for it."""

    id: str
    image: Path
    mask: Path | None
    depth: Path | None
    background: str
    foreground: str
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What the pictures themselves do not tell; the fields of dataset.json.

    Attributes:
        near: Polarity of relative depth: are near things bright or dark?
        depth_unit: Relative values, or millimetres or metres from the camera.
        missing: Value in the depth file that means unknown. None: no such value if relative, 0 if mm or m.
        group_size: Consecutive files that share a background.
        near_m: Distance in metres that becomes inverse depth 1. None: taken from the data.
        far_m: Distance in metres that becomes inverse depth 0. None: infinity.
    """

    near: Literal["bright", "dark"] = "bright"
    depth_unit: Literal["relative", "mm", "m"] = "relative"
    missing: int | None = None
    group_size: int | None = None
    near_m: float | None = None
    far_m: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("near", ("bright", "dark")), ("depth_unit", ("relative", "mm", "m"))):
            if getattr(self, name) not in allowed:
                raise DataError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(allowed)}")
        for name in ("missing", "group_size"):
            if not _is_number(getattr(self, name), whole=True):
                raise DataError(f"{name} is {getattr(self, name)!r}; it is a whole number")
        if self.group_size is not None and self.group_size < 1:
            raise DataError(f"group_size is {self.group_size}; it is at least 1")
        self._check_range()

    def _check_range(self) -> None:
        for name in ("near_m", "far_m"):
            value = getattr(self, name)
            if not _is_number(value) or (value is not None and value <= 0):
                raise DataError(f"{name} is {value!r}; it is a distance in metres above 0")
        if self.near_m and self.far_m and self.near_m >= self.far_m:
            raise DataError(f"near_m {self.near_m} is not below far_m {self.far_m}")

    @property
    def missing_value(self) -> int | None:
        """The value that means unknown, after the unit's default."""
        return 0 if self.missing is None and self.depth_unit != "relative" else self.missing

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DatasetSpec":
        """Build from plain values.

        Raises:
            DataError: Unknown key (names the nearest) or a value out of range.
        """
        names = [field.name for field in fields(cls)]
        for key in values:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
                raise DataError(f"unknown key {key!r}; the nearest is {near!r}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of triplets, in natural order or in the manifest's.

    Attributes:
        fingerprint: Hash over names, sizes and times of the files used, manifest.csv and dataset.json.
    """

    root: Path
    triplets: tuple[Triplet, ...]
    spec: DatasetSpec
    fingerprint: str


def _is_number(value: object, *, whole: bool = False) -> bool:
    """None passes: it stands for nothing stated."""
    kinds = (int,) if whole else (int, float)
    return value is None or (isinstance(value, kinds) and not isinstance(value, bool))
