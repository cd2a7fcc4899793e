"""Types of a data set: its triplets, the fields of dataset.json, unusable entries and `DataError`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from models.config import TASKS, name_nearest

POLARITIES = ("bright", "dark")  # brightness of near things in relative depth
DEPTH_UNITS = ("relative", "mm", "m", "disparity")
ROLES = ("image", *TASKS)
UNKNOWN_BACKGROUND = "unknown"  # background of images for which neither names nor manifest.csv give one

# kind of fault -> description, in the order of the check's table
FAULT_KINDS = {
    "faulty line": "line of manifest.csv that cannot be used",
    "missing file": "file in manifest.csv that does not exist or has no image suffix",
    "unreadable": "file that is not an image",
    "truncated": "truncated image file",
    "too large": "image of too many pixels",
    "no partner": "image without its mask or depth",
    "channels": "wrong number of channels",
    "size": "size differs from the image's",
    "not binary": "mask with grey values away from its edges",
    "mask values": "mask whose values differ from those of other masks",
    "empty mask": "mask without foreground",
    "full mask": "mask without background",
    "stray part": "small part of a mask far from its main part",
    "shifted mask": "mask beside its object",
    "frame": "frame drawn around the depth",
    "depth range": "relative depth outside 0..1",
    "constant depth": "depth map of one value",
    "no object in depth": "depth that ignores the object",
    "polarity": "depth of unknown polarity",
    "duplicate": "duplicate image",
    "repeated background": "one background under two names",
    "shared background": "background that an earlier folder contains too",
    "stray file": "file that belongs to no triplet",
}


class DataError(ValueError):
    """A data set, a file or an option cannot be used; the message names place, fault and remedy in one line.

    `kind` is one of `FAULT_KINDS` if a single triplet is at fault, and "" if the data set or the disk is.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


def read_fields(config: type, values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Check names and types of a JSON object against the fields of a dataclass, and convert numbers to floats."""
    types = {field.name: field.type for field in fields(config)}
    for key in values:
        if key not in types:
            raise DataError(f"unknown key {key!r}{where}; {name_nearest(key, types)}")
    return {key: _read_value(key, value, types[key]) for key, value in values.items()}


def _read_value(key: str, value: Any, kind: Any) -> Any:
    if kind == tuple[float, ...]:
        numbers = value if isinstance(value, list | tuple) else [] if value is None else [value]
        if all(type(number) in (int, float) for number in numbers):
            return tuple(map(float, numbers))
        raise DataError(f"{key} is {value!r}; it is a number or a list of numbers")
    accepted = (*get_args(kind), kind)
    if type(value) in accepted:
        return value
    if float in accepted and type(value) is int:
        return float(value)
    names = {str: "a word", int: "a whole number", float: "a number", bool: "true or false"}
    raise DataError(f"{key} is {value!r}; it is {next(names[one] for one in accepted if one in names)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Triplet:
    """The files of one sample; `mask` or `depth` is None if the sample has none."""

    id: str
    image: Path
    mask: Path | None
    depth: Path | None
    background: str
    foreground: str
    split: str | None = None
    near: str | None = None  # overrides the polarity of the folder's relative depth

    @property
    def files(self) -> dict[str, Path]:
        """Its files by role, in the order of ROLES."""
        return {role: path for role in ROLES if (path := getattr(self, role))}

    @property
    def has_known_background(self) -> bool:
        """False if neither names nor manifest.csv give its background, which joined folders prefix by their name."""
        return self.background.rpartition("/")[2] != UNKNOWN_BACKGROUND

    @property
    def foregrounds(self) -> list[str]:
        """Names of the foregrounds, which `foreground` joins with a plus."""
        return [name for name in self.foreground.split("+") if name]


@dataclass(frozen=True)
class Unusable:
    """An entry of a data set that is unusable because of its names alone, before any image is opened."""

    kind: str  # one of `FAULT_KINDS`
    image: Path | None
    problem: str
    remedy: str
    manifest: Path | None = None  # the manifest.csv, if it is at fault

    @property
    def message(self) -> str:
        """Place, problem and remedy in one line."""
        return f"{self.manifest or self.image}: {self.problem}; {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class MaskValues:
    """Meaning of the values of mask files."""

    # Values that are foreground; every other one is background. Empty: the values are graded.
    foreground: tuple[float, ...] = ()
    ignored: tuple[float, ...] = ()  # values that mark unknown pixels, which training and metrics skip
    empty: float = 0.0  # graded value that is background
    # Graded value that is foreground, as is every value beyond it. None: the largest of the file's type.
    full: float | None = None
    alpha: bool = False  # the values are those of the alpha channel

    def __post_init__(self) -> None:
        if both := set(self.foreground) & set(self.ignored):
            raise DataError(f"mask_values names {min(both):g} as foreground and as ignored; remove one of them")
        if self.empty and self.full is None:
            raise DataError(f"mask_values has empty ({self.empty:g}) without full; add the value of full foreground")
        if self.empty == self.full:
            raise DataError(f"mask_values has {self.empty:g} both as empty and as full; they differ")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MaskValues":
        """Build from `mask_values` of dataset.json."""
        if not isinstance(values, Mapping):
            raise DataError(f'mask_values is {values!r}; write {{"foreground": [1], "ignored": [255]}}')
        if values.get("empty", 0.0) is None:
            raise DataError("mask_values has null as empty; write the value of background, or leave empty out")
        return cls(**read_fields(cls, values, " in mask_values"))


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """The fields of dataset.json, which cannot be read from the images themselves."""

    near: str = "bright"  # polarity of relative depth: near things are bright or dark
    # Relative values, millimetres or metres from the camera, or disparity (large where near).
    depth_unit: str = "relative"
    # Number by which values are divided to be in `depth_unit`: 256 for KITTI, 5000 for TUM, with m.
    depth_scale: float | None = None
    # Value that becomes 1. None: 1 or the largest of an 8- or 16-bit type if relative, from the data if disparity.
    depth_max: float | None = None
    # Values in the depth file that mean unknown. 0, NaN, infinity and the largest 16-bit value always do if mm or m,
    # 0, NaN and infinity if disparity.
    missing: tuple[float, ...] = ()
    mask_values: MaskValues | None = None  # meaning of the values of masks. None: not configured.
    group_size: int | None = None  # number of consecutive files that share a background
    near_m: float | None = None  # distance in metres that becomes inverse depth 1. None: taken from the data.
    far_m: float | None = None  # distance in metres that becomes inverse depth 0. None: infinity.
    drawn: bool = False  # True for scenes of `data.scenes`

    def __post_init__(self) -> None:
        for name, allowed in (("near", POLARITIES), ("depth_unit", DEPTH_UNITS)):
            if getattr(self, name) not in allowed:
                raise DataError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(allowed)}")
        if self.group_size is not None and self.group_size < 1:
            raise DataError(f"group_size is {self.group_size}; it is at least 1")
        for name in ("near_m", "far_m", "depth_scale", "depth_max"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                kind = "a distance in metres" if name.endswith("_m") else "a number"
                raise DataError(f"{name} is {value}; it is {kind} above 0")
        if self.near_m and self.far_m and self.near_m >= self.far_m:
            raise DataError(f"near_m {self.near_m} is not below far_m {self.far_m}")

    @property
    def metric(self) -> bool:
        """True if depth values are distances."""
        return self.depth_unit in ("mm", "m")

    def for_triplet(self, triplet: Triplet) -> "DatasetSpec":
        """Return the spec of one triplet: its own polarity overrides the folder's."""
        return self if triplet.near is None else replace(self, near=triplet.near)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DatasetSpec":
        """Build from a dataset.json."""
        masks = values.get("mask_values")
        configured = {"mask_values": None if masks is None else MaskValues.from_dict(masks)}
        return cls(**read_fields(cls, {**values, **configured}))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, in the form of dataset.json."""
        values: dict[str, Any] = {key: value for key, value in asdict(self).items() if value not in (None, (), False)}
        if self.missing:
            values["missing"] = self.missing[0] if len(self.missing) == 1 else list(self.missing)
        if self.mask_values:
            plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.mask_values).items()}
            values["mask_values"] = {key: value for key, value in plain.items() if value not in ([], None)}
        return values


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of triplets, in natural order or in the manifest's."""

    root: Path
    triplets: tuple[Triplet, ...]  # the usable samples
    spec: DatasetSpec  # spec of a single folder; for joined folders see `folders`
    # Hash over names and sizes of the files used, the content of a sample of them, manifest.csv and dataset.json.
    fingerprint: str
    unusable: tuple[Unusable, ...] = ()  # entries that cannot be used
    # The joined folders, each with its own spec and with the same triplet names as here; () for a single folder.
    parts: tuple["Dataset", ...] = ()
    description: str = ""  # inferred meaning of the values of its files; "" if no file was looked at
    # Open questions about the values, see `data.values.infer`; no network must learn from them.
    doubts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # assumptions about the values, and statements that the files contradict

    def check_meaning(self) -> None:
        """Raise DataError with the first doubt about the values, if there is one, and with the warnings."""
        if self.doubts:
            raise DataError("; also ".join((self.doubts[0], *self.warnings)))

    def list_usable(self) -> tuple[Triplet, ...]:
        """Return the triplets whose entries can be used."""
        left_out = {one.image for one in self.unusable}
        return tuple(triplet for triplet in self.triplets if triplet.image not in left_out)

    @property
    def folders(self) -> tuple["Dataset", ...]:
        """The joined folders, or the data set itself if it joins none; each has one spec."""
        return self.parts or (self,)

    @property
    def label(self) -> str:
        """The folder, or the names of the joined folders."""
        return " + ".join(part.root.name for part in self.parts) or str(self.root)

    @property
    def depth_maps(self) -> list[Path]:
        """The depth maps of all triplets that have one."""
        return [triplet.depth for triplet in self.triplets if triplet.depth]

    @property
    def drawn(self) -> bool:
        """True if all images are built-in scenes."""
        return all(part.spec.drawn for part in self.folders)

    @property
    def origin(self) -> str:
        """Whether the images are "drawn" (built-in scenes), "pasted" (their foregrounds are named) or "given"."""
        if self.spec.drawn:
            return "drawn"
        return "pasted" if any(triplet.foreground for triplet in self.triplets) else "given"
