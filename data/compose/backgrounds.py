"""Photos to paste on, with depth if they have any: found, checked and read. Knows nothing of what is pasted."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.placement import standing_sizes
from data.dataset import DataError, DatasetSpec
from data.reading.dataset_json import read_spec
from data.reading.decode import read_image
from data.reading.depth import to_inverse_depth

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
NO_READING = 65535  # millimetres that depth cameras write where they saw nothing, beside 0
UNKNOWN = -1.0
ROOM = 0.9  # of the range that relative depth takes: things have room before what they cover
SHAPES_DIFFER = 0.02  # a photo and its depth may differ in their aspect by so much

PhotoFiles = tuple[Path, Path | None]


@dataclass(frozen=True)
class Photo:
    """A photo and its relative inverse depth in [0, 1], `UNKNOWN` where not known.

    Attributes:
        image: RGB; the shorter side has the size asked for.
        depth: As the data set will have it.
        beyond: What is added to `depth` to be in proportion to 1/z.
    """

    image: UInt8[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"]
    beyond: float = 0.0

    @cached_property
    def standing(self) -> Float32[np.ndarray, "h w"]:
        """Size of what stands at a pixel; 0 where nothing can."""
        return standing_sizes(np.where(self.depth >= 0, self.depth + np.float32(self.beyond), np.float32(UNKNOWN)))


def depth_codes(depth: Float32[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    """Relative inverse depth (`UNKNOWN` where not known) as codes: 0 = not known, 1..255 = 0..1."""
    codes = np.clip(depth * np.float32(255) + np.float32(0.5), 1, 255)
    return np.where(depth >= 0, codes, 0).astype(np.uint8)


def find_photos(folder: Path, depth: Path | None) -> tuple[PhotoFiles, ...]:
    """Photos and their depth files, in the order of their names.

    Args:
        folder: Holds the photos, or images/ that does.
        depth: Folder of depth maps of equal stems; None for photos without depth.

    Raises:
        DataError: A folder or a photo's depth is missing.
    """
    images = photos_in(folder)
    if depth is None:
        return tuple((path, None) for path in images)
    depths = {path.stem: path for path in pictures_in(depth, "the depth of the photos; or state --depth MODEL or none")}
    for path in images:
        if path.stem not in depths:
            raise DataError(f"{path}: no depth for this photo; add {depth / path.stem}.png or remove the photo")
    return tuple((path, depths[path.stem]) for path in images)


def photos_in(folder: Path) -> tuple[Path, ...]:
    """Photos of a folder or of images/ in it, in the order of their names.

    Raises:
        DataError: There are none, or two of one stem, whose depth could not be told apart.
    """
    images = pictures_in(folder / "images" if (folder / "images").is_dir() else folder, "photos")
    by_stem = {path.stem: path for path in images}
    for path in images:
        if by_stem[path.stem] != path:
            raise DataError(f"{path}: {by_stem[path.stem].name} has the same stem; rename one of them")
    return images


def pictures_in(folder: Path, what: str) -> tuple[Path, ...]:
    """Pictures of a folder, in the order of their names.

    Args:
        folder: Where to look.
        what: What they should be, for the message.

    Raises:
        DataError: No folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; it should hold {what}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not paths:
        raise DataError(f"{folder}: no pictures in it; put {what} there ({', '.join(SUFFIXES)})")
    return tuple(paths)


def stated_depth(folder: Path) -> DatasetSpec | None:
    """What the dataset.json of a folder says of its depth maps, None if there is none.

    Raises:
        DataError: It is at fault.
    """
    path = folder / "dataset.json"
    return read_spec(path) if path.is_file() else None


def known_distances(depth: Path, spec: DatasetSpec | None) -> Float32[np.ndarray, " n"]:
    """Metres of some of the pixels of a metric depth map, none of a relative one.

    Raises:
        DataError: A file that cannot be read, or whose meaning is not stated.
    """
    raw, spec = _read_depth(depth, spec)
    if spec.depth_unit == "relative":
        return np.zeros(0, np.float32)
    metres = raw[::3, ::3].astype(np.float32) * np.float32(0.001 if spec.depth_unit == "mm" else 1)
    known: np.ndarray = np.isfinite(metres) & (metres > 0) & (raw[::3, ::3] != (spec.missing_value or 0))
    distances: np.ndarray = metres[known]
    return distances


def _read_depth(path: Path, spec: DatasetSpec | None) -> tuple[np.ndarray, DatasetSpec]:
    raw = read_image(path, cv2.IMREAD_UNCHANGED)
    stated = spec or DatasetSpec(depth_unit="mm")
    if stated.depth_unit == "mm" and (raw.dtype != np.uint16 or raw.ndim != 2):
        found = f"{raw.dtype.itemsize * 8}-bit with {raw.shape[2] if raw.ndim == 3 else 1} channels"
        raise DataError(
            f"{path}: depth is {found}; it must be 16-bit millimetres in one channel, 0 = missing, or a dataset.json "
            "must say what it is"
        )
    if stated.depth_unit == "mm":
        raw[raw == NO_READING] = 0
    return (raw if raw.ndim == 2 else raw[..., 0]), stated


@lru_cache(maxsize=4)
def read_photo(image: Path, depth: Path | None, spec: DatasetSpec | None, px: int) -> Photo:
    """Read a photo and its depth so that the shorter side measures `px`.

    Args:
        image: The photo.
        depth: Its depth map, if any.
        spec: What the map's values mean; near_m and far_m set where they are metric. None: no depth.
        px: Shorter side of the result.

    Raises:
        DataError: A file that cannot be read, or depth that is not what was stated.
    """
    colours = cv2.cvtColor(read_image(image, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    scale = px / min(colours.shape[:2])
    size = tuple(max(px, round(side * scale)) for side in colours.shape[1::-1])
    small = cv2.resize(colours, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if depth is None or spec is None:
        return Photo(small, np.full(small.shape[:2], UNKNOWN, np.float32))
    raw, spec = _read_depth(depth, spec)
    if abs(raw.shape[1] / raw.shape[0] * colours.shape[0] / colours.shape[1] - 1) > SHAPES_DIFFER:
        shapes = [f"{width} x {height}" for height, width in (raw.shape, colours.shape[:2])]
        raise DataError(f"{depth}: is {shapes[0]} px but {image.name} is {shapes[1]}; they must have the same shape")
    return Photo(small, *_relative(cv2.resize(raw, size, interpolation=cv2.INTER_NEAREST), spec, depth))


def _relative(raw: np.ndarray, spec: DatasetSpec, path: Path) -> tuple[Float32[np.ndarray, "h w"], float]:
    """Depth on the data set's scale, and what lies beyond its end."""
    try:
        depth, known = to_inverse_depth(raw, spec)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    beyond = 0.0
    if spec.depth_unit == "relative":
        depth = depth * np.float32(ROOM)
    elif spec.near_m and spec.far_m:
        beyond = spec.near_m / (spec.far_m - spec.near_m)  # (1/far) / (1/near - 1/far)
    return np.where(known, depth, np.float32(UNKNOWN)), beyond


def metric_scale(spec: DatasetSpec, distances: Float32[np.ndarray, " n"]) -> DatasetSpec:
    """The ends of the depth scale where they are not stated: nine tenths of the first percentile, and the last."""
    first, last = np.percentile(distances, [1, 99])
    near_m = spec.near_m or round(0.9 * float(first), 3)
    far_m = spec.far_m or max(round(float(last), 3), round(near_m * 1.2, 3))
    return replace(spec, near_m=near_m, far_m=far_m)
