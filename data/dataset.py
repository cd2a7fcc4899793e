"""What a data set is: its samples, what is stated about them, and the error of one that cannot be used."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

POLARITIES = ("bright", "dark")  # of near things in relative depth

# kind of fault -> description, in the order of the check's table
FAULT_KINDS = {
    "faulty line": "line of manifest.csv that cannot be used",
    "missing file": "file of manifest.csv that is not there, or no picture by its name",
    "unreadable": "file that is no picture",
    "truncated": "picture file cut off",
    "no partner": "image without its mask or depth",
    "channels": "wrong number of channels",
    "size": "another size than its image",
    "not binary": "mask with greys away from its edges",
    "empty mask": "mask without an object",
    "full mask": "mask without background",
    "stray part": "small part of a mask far from the rest",
    "shifted mask": "mask beside its object",
    "frame": "frame drawn around the depth",
    "depth range": "relative depth outside 0..1",
    "no object in depth": "depth that ignores the object",
    "polarity": "depth of unknown polarity",
    "duplicate": "image that is there twice",
    "repeated background": "one background under two names",
    "shared background": "background of an earlier folder too",
    "gap": "numbers left out",
    "stray file": "file that belongs to no triplet",
}


class DataError(ValueError):
    """A data set that cannot be used as it is: one line that says what is wrong, where, and what to do.

    Attributes:
        kind: Of a single triplet's fault, one of `FAULT_KINDS`; "" where the data set as a whole is meant.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Triplet:
    """One sample's files. `mask` or `depth` is None where the data set has none for it.

    `near` is the polarity of its relative depth where that is stated for it alone, see `DatasetSpec.of`.
    """

    id: str
    image: Path
    mask: Path | None
    depth: Path | None
    background: str
    foreground: str
    split: str | None = None
    near: str | None = None


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """A triplet whose files or statements lack, as names tell without a look into pictures.

    Attributes:
        kind: One of `FAULT_KINDS`.
        image: The image it names, if it names one.
        source: The image, or the manifest.csv that is at fault.
        what: What is wrong.
        remedy: What to do.
    """

    kind: str
    image: Path | None
    source: Path
    what: str
    remedy: str

    @property
    def message(self) -> str:
        """All of it in one line."""
        return f"{self.source}: {self.what}; {self.remedy}"


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

    near: str = "bright"
    depth_unit: str = "relative"
    missing: int | None = None
    group_size: int | None = None
    near_m: float | None = None
    far_m: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("near", POLARITIES), ("depth_unit", ("relative", "mm", "m"))):
            if getattr(self, name) not in allowed:
                raise DataError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(allowed)}")
        if self.group_size is not None and self.group_size < 1:
            raise DataError(f"group_size is {self.group_size}; it is at least 1")
        for name, value in (("near_m", self.near_m), ("far_m", self.far_m)):
            if value is not None and value <= 0:
                raise DataError(f"{name} is {value}; it is a distance in metres above 0")
        if self.near_m and self.far_m and self.near_m >= self.far_m:
            raise DataError(f"near_m {self.near_m} is not below far_m {self.far_m}")

    @property
    def missing_value(self) -> int | None:
        """The value that means unknown, after the unit's default."""
        return 0 if self.missing is None and self.depth_unit != "relative" else self.missing

    def for_triplet(self, triplet: Triplet) -> "DatasetSpec":
        """What holds for one triplet: its own polarity, if it has one, wins over that of the folder."""
        return self if triplet.near is None else replace(self, near=triplet.near)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DatasetSpec":
        """Build from plain values.

        Raises:
            DataError: Unknown key (names the nearest) or a value out of range.
        """
        return cls(**{key: _of_its_kind(key, value) for key, value in values.items()})


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of triplets, in natural order or in the manifest's.

    Attributes:
        spec: What a single folder states; see `folders`.
        fingerprint: Hash over names, sizes and times of the files used, manifest.csv and dataset.json.
        unusable: What else is named there but cannot be used.
        parts: The folders that it joins, their triplets named as here; each has a spec of its own. () of a single one.
    """

    root: Path
    triplets: tuple[Triplet, ...]
    spec: DatasetSpec
    fingerprint: str
    unusable: tuple[Unusable, ...] = ()
    parts: tuple["Dataset", ...] = ()

    @property
    def folders(self) -> tuple["Dataset", ...]:
        """The folders whose pictures it holds, of which each says what its depth means."""
        return self.parts or (self,)


_KINDS: dict[str, tuple[type, str]] = {
    "near": (str, "a word"),
    "depth_unit": (str, "a word"),
    "missing": (int, "a whole number"),
    "group_size": (int, "a whole number"),
    "near_m": (float, "a number"),
    "far_m": (float, "a number"),
}


def _of_its_kind(key: str, value: Any) -> Any:
    """The value of a key of dataset.json; null and whole numbers pass where a number may be left out."""
    if key not in _KINDS:
        nearest = difflib.get_close_matches(key, _KINDS, n=1, cutoff=0.0)[0]
        raise DataError(f"unknown key {key!r}; the nearest is {nearest!r}")
    kind, words = _KINDS[key]
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind and (value is not None or kind is str):
        raise DataError(f"{key} is {value!r}; it is {words}")
    return value
