"""One triplet of files -> image, mask and depth at a size. Owns the meaning of depth values; knows no packs.

Depth is kept as 16-bit codes: 0 = not known, 1..65535 = relative inverse depth 0..1 (far 0, near 1).
"""

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8, UInt16

from data.dataset import DataError, Dataset, DatasetSpec, Triplet

DEPTH_STEPS = 65534  # codes above 1
RANGE_SAMPLES = 32  # depth maps read to find how near a data set gets
_METRES = {"mm": 0.001, "m": 1.0}
_GREY_ANY_DEPTH = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH

Image = UInt8[np.ndarray, "px px 3"]
Mask = UInt8[np.ndarray, "px px"]
Depth = UInt16[np.ndarray, "px px"]


@dataclass(frozen=True, kw_only=True)
class DepthScale:
    """What relative inverse depth means in metres: 1 is `near_m`, 0 is `far_m`; None: infinitely far."""

    near_m: float
    far_m: float | None

    def metres(self, inverse: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
        """Distances, from relative inverse depth in [0, 1]; the inverse of `inverse_depth`."""
        far = 0.0 if self.far_m is None else 1.0 / self.far_m
        with np.errstate(divide="ignore"):
            metres: np.ndarray = np.float32(1.0) / (inverse * np.float32(1.0 / self.near_m - far) + np.float32(far))
        return metres


def common_scale(dataset: Dataset) -> DepthScale | None:
    """The one scale of all of a data set's depth; None where depth is no more than relative, or folders differ.

    Raises:
        DataError: Metric depth of which nothing is known.
    """
    with_depth = [part for part in dataset.folders if any(triplet.depth for triplet in part.triplets)]
    specs = [with_near_distance(part.spec, part.triplets) for part in with_depth]
    scales = {(spec.near_m, spec.far_m) for spec in specs}
    near_m, far_m = scales.pop() if len(scales) == 1 else (None, None)
    return None if near_m is None else DepthScale(near_m=near_m, far_m=far_m)


def decode_triplet(triplet: Triplet, spec: DatasetSpec, px: int) -> tuple[Image, Mask, Depth]:
    """Read one triplet and shrink or stretch it to a square by area averages.

    Args:
        triplet: Its files; without a mask the mask is all 0, without depth no depth is known.
        spec: Meaning of the depth values; the triplet's own polarity wins.
        px: Side of the square in pixels.

    Returns:
        RGB image and mask 0..255 (masks of 0 and 1 are spread to 0 and 255), depth codes.

    Raises:
        DataError: A file that cannot be read, sizes that differ, relative depth outside 0..1.
    """
    image = read_picture(triplet.image, cv2.IMREAD_COLOR_RGB)
    small: Image = cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA)
    mask: Mask = np.zeros((px, px), np.uint8)
    depth: Depth = np.zeros((px, px), np.uint16)
    if triplet.mask is not None:
        grey = same_size(read_picture(triplet.mask, cv2.IMREAD_GRAYSCALE), triplet.mask, image, triplet.image)
        mask = cv2.resize(_spread(grey), (px, px), interpolation=cv2.INTER_AREA)
    if triplet.depth is not None:
        raw = same_size(read_picture(triplet.depth, _GREY_ANY_DEPTH), triplet.depth, image, triplet.image)
        try:
            depth = depth_codes(raw, spec.of(triplet), px)
        except DataError as error:
            raise DataError(f"{triplet.depth}: {error}", error.kind) from error
    return small, mask, depth


def read_picture(path: Path, flags: int) -> np.ndarray:
    """Read a picture.

    Args:
        path: A file.
        flags: OpenCV's IMREAD flags.

    Returns:
        Pixels as the flags ask for them.

    Raises:
        DataError: No such file, or nothing OpenCV can read whole (a truncated file too).
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore or remove the triplet") from error
    try:
        picture = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # sides that no picture has
        picture = None
    if picture is None:
        raise DataError(f"{path}: not a whole picture; restore the file or remove the triplet", "unreadable")
    return picture


def depth_codes(raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec, px: int) -> Depth:
    """Turn a depth file's values into codes at a size.

    An output pixel is the average of the known pixels it covers; it is known where at least half of them
    are.

    Args:
        raw: Values as stored: 8 or 16 bits or floats; relative, millimetres or metres as `spec` says.
        spec: Polarity, unit, missing value, range. Its `near_m` must be set where the unit is metric.
        px: Side of the result in pixels.

    Returns:
        Codes: 0 = not known, 1..65535 = relative inverse depth 0..1.

    Raises:
        DataError: Relative floats outside 0..1.
    """
    inverse, valid = inverse_depth(raw, spec)
    if valid.all():
        small = cv2.resize(inverse, (px, px), interpolation=cv2.INTER_AREA)
        return _encode(small)
    total = cv2.resize(np.where(valid, inverse, np.float32(0)), (px, px), interpolation=cv2.INTER_AREA)
    share = cv2.resize(valid.astype(np.float32), (px, px), interpolation=cv2.INTER_AREA)
    known = share >= 0.5
    return _encode(np.divide(total, share, out=np.zeros_like(total), where=known)) * known.astype(np.uint16)


def inverse_depth(
    raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec
) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Relative inverse depth of every pixel, and where it is known.

    Metric z becomes (1/z - 1/far) / (1/near - 1/far), clipped to 0..1; far may be infinite.

    Args:
        raw: Values as stored.
        spec: Their meaning.

    Returns:
        Values in [0, 1], near = 1 (arbitrary where unknown), and True where known.

    Raises:
        DataError: Relative floats outside 0..1, or a metric unit without `near_m`.
    """
    valid = np.ones(raw.shape, bool) if spec.missing_value is None else raw != spec.missing_value
    if spec.depth_unit == "relative":
        return _relative(raw, spec, valid)
    if spec.near_m is None:
        raise DataError("metric depth needs near_m, the distance that becomes 1; state it in dataset.json")
    z = raw.astype(np.float32) * np.float32(_METRES[spec.depth_unit])
    valid &= np.isfinite(z) & (z > 0)
    far = 0.0 if spec.far_m is None else 1.0 / spec.far_m
    inverse = np.divide(1.0, z, out=np.zeros_like(z), where=valid)
    return np.clip((inverse - np.float32(far)) / np.float32(1.0 / spec.near_m - far), 0.0, 1.0), valid


def decode_depth(codes: UInt16[np.ndarray, "*n"]) -> tuple[Float32[np.ndarray, "*n"], Bool[np.ndarray, "*n"]]:
    """Codes -> relative inverse depth in [0, 1] (0 where unknown), and True where known."""
    depth = codes.astype(np.float32)
    depth -= 1.0
    depth *= np.float32(1.0 / DEPTH_STEPS)
    return np.maximum(depth, 0.0, out=depth), codes != 0


def with_near_distance(spec: DatasetSpec, triplets: Sequence[Triplet]) -> DatasetSpec:
    """Settle an unstated `near_m` of metric data: the first percentile of the distances in a few files.

    Args:
        spec: As read from dataset.json.
        triplets: All of the data set, whatever their split, so that its parts agree.

    Returns:
        The same, with `near_m` in metres if the unit is metric.

    Raises:
        DataError: No known depth in the files looked at.
    """
    if spec.depth_unit == "relative" or spec.near_m is not None:
        return spec
    paths = sorted((t.depth for t in triplets if t.depth), key=lambda path: _stable_order(path.name))
    if not paths:
        return spec
    distances = list(itertools.islice(_readable_distances(paths, spec), RANGE_SAMPLES))
    known = np.concatenate(distances) if distances else np.zeros(0)
    if known.size == 0:
        looked = f"{len(distances)} files" if distances else "any file that can be read"
        raise DataError(f"{paths[0].parent}: no known depth in {looked}; check missing in dataset.json")
    return dataclasses.replace(spec, near_m=float(np.percentile(known, 1)))


def _relative(
    raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec, valid: Bool[np.ndarray, "h w"]
) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    value = raw.astype(np.float32)
    if np.issubdtype(raw.dtype, np.integer):
        value *= np.float32(1.0 / np.iinfo(raw.dtype).max)
    else:
        valid &= np.isfinite(value)
        known = value[valid]
        if known.size and (known.min() < 0 or known.max() > 1):
            raise DataError("relative depth outside 0..1; scale it or state depth_unit in dataset.json", "depth range")
    return (value if spec.near == "bright" else 1.0 - value), valid


def _encode(inverse: Float32[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    codes: Depth = (np.clip(inverse, 0.0, 1.0) * np.float32(DEPTH_STEPS) + np.float32(1.5)).astype(np.uint16)
    return codes


def _spread(mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A mask of 0 and 1 as one of 0 and 255; others as they are."""
    return mask * np.uint8(255) if mask.max(initial=0) <= 1 else mask


def _readable_distances(paths: Iterable[Path], spec: DatasetSpec) -> Iterator[Float32[np.ndarray, " n"]]:
    """Known distances of each file; those that cannot be read are passed over."""
    for path in paths:
        with contextlib.suppress(DataError):
            yield _known_distances(read_picture(path, _GREY_ANY_DEPTH), spec)


def _known_distances(raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec) -> Float32[np.ndarray, " n"]:
    few = raw[::4, ::4].astype(np.float32)
    z: np.ndarray = few[np.isfinite(few) & (few > 0) & (few != spec.missing_value)]
    z *= np.float32(_METRES[spec.depth_unit])
    return z


def same_size(picture: np.ndarray, path: Path, image: np.ndarray, image_path: Path) -> np.ndarray:
    """Return a picture that has the size of its image.

    Raises:
        DataError: It has another.
    """
    if picture.shape[:2] != image.shape[:2]:
        height, width = picture.shape[:2]
        raise DataError(
            f"{path}: is {width} x {height} px but {image_path.name} is {image.shape[1]} x {image.shape[0]}; "
            "make them the same size or remove the triplet",
            "size",
        )
    return picture


def _stable_order(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
