"""Decode the files of a triplet into image, mask and depth codes at a size."""

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.reading.depth import METRES, Depth, DepthScale, encode_depth

RANGE_SAMPLES = 32  # depth maps read to find the nearest distance of a data set
_GREY_ANY_DEPTH = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH

Image = UInt8[np.ndarray, "px px 3"]
Mask = UInt8[np.ndarray, "px px"]


def decode_triplet(triplet: Triplet, spec: DatasetSpec, px: int) -> tuple[Image, Mask, Depth]:
    """Read one triplet and resize it to a square by area averages.

    Args:
        triplet: Its files; without a mask the mask is all 0, without depth all depth is unknown.
        spec: Meaning of the depth values; the triplet's own polarity takes precedence.
        px: Side of the square in pixels.

    Returns:
        RGB image and mask 0..255 (masks of 0 and 1 are scaled to 0 and 255), depth codes.

    Raises:
        DataError: A file that cannot be read, sizes that differ, relative depth outside 0..1.
    """
    image = read_image(triplet.image, cv2.IMREAD_COLOR_RGB)
    small: Image = cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA)
    mask: Mask = np.zeros((px, px), np.uint8)
    depth: Depth = np.zeros((px, px), np.uint16)
    if triplet.mask is not None:
        grey = check_same_size(read_image(triplet.mask, cv2.IMREAD_GRAYSCALE), triplet.mask, image, triplet.image)
        grey = grey * np.uint8(255) if grey.max(initial=0) <= 1 else grey
        mask = cv2.resize(grey, (px, px), interpolation=cv2.INTER_AREA)
    if triplet.depth is not None:
        raw = check_same_size(read_image(triplet.depth, _GREY_ANY_DEPTH), triplet.depth, image, triplet.image)
        try:
            depth = encode_depth(raw, spec.for_triplet(triplet), px)
        except DataError as error:
            raise DataError(f"{triplet.depth}: {error}", error.kind) from error
    return small, mask, depth


def read_image(path: Path, flags: int) -> np.ndarray:
    """Read an image, mask or depth file.

    Args:
        path: The file.
        flags: OpenCV's IMREAD flags.

    Returns:
        Pixels in the format that the flags select.

    Raises:
        DataError: No such file, or not an image that OpenCV can read completely.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore or remove the triplet") from error
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # an impossible size in the header
        image = None
    if image is None:
        raise DataError(f"{path}: not a whole image; restore the file or remove the triplet", "unreadable")
    return image


def check_same_size(other: np.ndarray, path: Path, image: np.ndarray, image_path: Path) -> np.ndarray:
    """Return a mask or depth map that has the size of its image.

    Raises:
        DataError: The sizes differ.
    """
    if other.shape[:2] != image.shape[:2]:
        height, width = other.shape[:2]
        raise DataError(
            f"{path}: is {width} x {height} px but {image_path.name} is {image.shape[1]} x {image.shape[0]}; "
            "make them the same size or remove the triplet",
            "size",
        )
    return other


def find_common_scale(dataset: Dataset) -> DepthScale | None:
    """Return the scale of all depth of a data set; None if depth is only relative or folders differ.

    Raises:
        DataError: The depth is metric but no file has a known value.
    """
    with_depth = [part for part in dataset.folders if any(triplet.depth for triplet in part.triplets)]
    specs = [resolve_near_distance(part.spec, part.triplets) for part in with_depth]
    scales = {(spec.near_m, spec.far_m) for spec in specs}
    near_m, far_m = scales.pop() if len(scales) == 1 else (None, None)
    return None if near_m is None else DepthScale(near_m=near_m, far_m=far_m)


def resolve_near_distance(spec: DatasetSpec, triplets: Sequence[Triplet]) -> DatasetSpec:
    """Fill in `near_m` of metric data if it is not configured: the first percentile of distances in a few files.

    Args:
        spec: As read from dataset.json.
        triplets: All triplets of the data set, so that its splits agree.

    Returns:
        The spec, with `near_m` in metres if the unit is metric.

    Raises:
        DataError: The sampled files hold no known depth.
    """
    if spec.depth_unit == "relative" or spec.near_m is not None:
        return spec
    paths = sorted((t.depth for t in triplets if t.depth), key=lambda path: _hash(path.name))
    if not paths:
        return spec
    distances = list(itertools.islice(_sample_distances(paths, spec), RANGE_SAMPLES))
    known = np.concatenate(distances) if distances else np.zeros(0)
    if known.size == 0:
        sampled = f"{len(distances)} files" if distances else "any file that can be read"
        raise DataError(f"{paths[0].parent}: no known depth in {sampled}; check missing in dataset.json")
    return dataclasses.replace(spec, near_m=float(np.percentile(known, 1)))


def _sample_distances(paths: Iterable[Path], spec: DatasetSpec) -> Iterator[Float32[np.ndarray, " n"]]:
    """Yield known distances in metres of each readable file; others are skipped."""
    for path in paths:
        with contextlib.suppress(DataError):
            yield _known_distances(read_image(path, _GREY_ANY_DEPTH), spec)


def _known_distances(raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec) -> Float32[np.ndarray, " n"]:
    few = raw[::4, ::4].astype(np.float32)
    z: np.ndarray = few[np.isfinite(few) & (few > 0) & (few != spec.missing_value)]
    z *= np.float32(METRES[spec.depth_unit])
    return z


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
