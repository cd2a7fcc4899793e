"""Types of a data set: its triplets, the fields of dataset.json, unusable entries and `DataError`."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

POLARITIES = ("bright", "dark")  # of near things in relative depth
TRUTHS = ("mask", "depth")
ROLES = ("image", *TRUTHS)

# kind of fault -> description, in the order of the check's table
FAULT_KINDS = {
    "faulty line": "line of manifest.csv that cannot be used",
    "missing file": "file in manifest.csv that does not exist or has no image suffix",
    "unreadable": "file that is not an image",
    "truncated": "truncated image file",
    "no partner": "image without its mask or depth",
    "channels": "wrong number of channels",
    "size": "size differs from the image's",
    "not binary": "mask with greys away from its edges",
    "empty mask": "mask without foreground",
    "full mask": "mask without background",
    "stray part": "small part of a mask far from the rest",
    "shifted mask": "mask beside its object",
    "frame": "frame drawn around the depth",
    "depth range": "relative depth outside 0..1",
    "no object in depth": "depth that ignores the object",
    "polarity": "depth of unknown polarity",
    "duplicate": "duplicate image",
    "repeated background": "one background under two names",
    "shared background": "background of an earlier folder too",
    "gap": "missing numbers",
    "stray file": "file that belongs to no triplet",
}


class DataError(ValueError):
    """A data set cannot be used as it is. The message is one line: what is wrong, where, and what to do.

    Attributes:
        kind: One of `FAULT_KINDS` if a single triplet is at fault; "" if the data set or the disk is.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Triplet:
    """The files of one sample; `mask` or `depth` is None if the sample has none.

    `near` overrides the polarity of the folder's relative depth, see `DatasetSpec.for_triplet`.
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
    """An entry of a data set that is unusable by its names alone, before any image is opened.

    `kind` is one of `FAULT_KINDS`; `source` is the image, or the manifest.csv that is at fault.
    """

    kind: str
    image: Path | None
    source: Path
    problem: str
    remedy: str

    @property
    def message(self) -> str:
        """Source, problem and remedy in one line."""
        return f"{self.source}: {self.problem}; {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """The fields of dataset.json, which cannot be read from the images themselves.

    Attributes:
        near: Polarity of relative depth: near things are bright or dark.
        depth_unit: Relative values, or millimetres or metres from the camera.
        missing: Value in the depth file that means unknown. None: no such value if relative, 0 if mm or m.
        group_size: Number of consecutive files that share a background.
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
        """The value that means unknown, with the unit's default applied."""
        return 0 if self.missing is None and self.depth_unit != "relative" else self.missing

    def for_triplet(self, triplet: Triplet) -> "DatasetSpec":
        """Return the spec of one triplet: its own polarity overrides the folder's."""
        return self if triplet.near is None else replace(self, near=triplet.near)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DatasetSpec":
        """Build a spec from the content of a dataset.json.

        Raises:
            DataError: Unknown key (the message names the nearest) or a value out of range.
        """
        return cls(**{key: _check_value(key, value) for key, value in values.items()})


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of triplets, in natural order or in the manifest's.

    Attributes:
        root: The folder.
        triplets: The usable samples.
        spec: Spec of a single folder; for joined folders see `folders`.
        fingerprint: Hash over names and sizes of the files used, the content of a sample of them, manifest.csv and
            dataset.json.
        unusable: Entries that cannot be used.
        parts: The joined folders, each with its own spec and with triplets named as here; () for a single folder.
    """

    root: Path
    triplets: tuple[Triplet, ...]
    spec: DatasetSpec
    fingerprint: str
    unusable: tuple[Unusable, ...] = ()
    parts: tuple["Dataset", ...] = ()

    @property
    def folders(self) -> tuple["Dataset", ...]:
        """The joined folders, or the data set itself if it joins none; each has one spec."""
        return self.parts or (self,)


_FIELD_TYPES: dict[str, tuple[type, str]] = {
    "near": (str, "a word"),
    "depth_unit": (str, "a word"),
    "missing": (int, "a whole number"),
    "group_size": (int, "a whole number"),
    "near_m": (float, "a number"),
    "far_m": (float, "a number"),
}


def _check_value(key: str, value: Any) -> Any:
    """Return the value of a key of dataset.json; null is allowed for numbers, whole numbers become floats."""
    if key not in _FIELD_TYPES:
        nearest = difflib.get_close_matches(key, _FIELD_TYPES, n=1, cutoff=0.0)[0]
        raise DataError(f"unknown key {key!r}; the nearest is {nearest!r}")
    kind, description = _FIELD_TYPES[key]
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind and (value is not None or kind is str):
        raise DataError(f"{key} is {value!r}; it is {description}")
    return value
