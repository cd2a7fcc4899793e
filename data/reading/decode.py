"""One triplet of files -> image, mask and depth at a size. Owns the meaning of depth values; knows no packs.

Depth is kept as 16-bit codes: 0 = not known, 1..65535 = relative inverse depth 0..1 (far 0, near 1).
"""

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

RANGE_SAMPLES = 32  # depth maps read to find how near a data set gets
_GREY_ANY_DEPTH = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH

Image = UInt8[np.ndarray, "px px 3"]
Mask = UInt8[np.ndarray, "px px"]


def find_common_scale(dataset: Dataset) -> DepthScale | None:
    """The one scale of all of a data set's depth; None where depth is no more than relative, or folders differ.

    Raises:
        DataError: Metric depth of which nothing is known.
    """
    with_depth = [part for part in dataset.folders if any(triplet.depth for triplet in part.triplets)]
    specs = [resolve_near_distance(part.spec, part.triplets) for part in with_depth]
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
    image = read_image(triplet.image, cv2.IMREAD_COLOR_RGB)
    small: Image = cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA)
    mask: Mask = np.zeros((px, px), np.uint8)
    depth: Depth = np.zeros((px, px), np.uint16)
    if triplet.mask is not None:
        grey = check_same_size(read_image(triplet.mask, cv2.IMREAD_GRAYSCALE), triplet.mask, image, triplet.image)
        mask = cv2.resize(_spread(grey), (px, px), interpolation=cv2.INTER_AREA)
    if triplet.depth is not None:
        raw = check_same_size(read_image(triplet.depth, _GREY_ANY_DEPTH), triplet.depth, image, triplet.image)
        try:
            depth = encode_depth(raw, spec.for_triplet(triplet), px)
        except DataError as error:
            raise DataError(f"{triplet.depth}: {error}", error.kind) from error
    return small, mask, depth


def read_image(path: Path, flags: int) -> np.ndarray:
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


def resolve_near_distance(spec: DatasetSpec, triplets: Sequence[Triplet]) -> DatasetSpec:
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


def _spread(mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A mask of 0 and 1 as one of 0 and 255; others as they are."""
    return mask * np.uint8(255) if mask.max(initial=0) <= 1 else mask


def _readable_distances(paths: Iterable[Path], spec: DatasetSpec) -> Iterator[Float32[np.ndarray, " n"]]:
    """Known distances of each file; those that cannot be read are passed over."""
    for path in paths:
        with contextlib.suppress(DataError):
            yield _known_distances(read_image(path, _GREY_ANY_DEPTH), spec)


def _known_distances(raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec) -> Float32[np.ndarray, " n"]:
    few = raw[::4, ::4].astype(np.float32)
    z: np.ndarray = few[np.isfinite(few) & (few > 0) & (few != spec.missing_value)]
    z *= np.float32(METRES[spec.depth_unit])
    return z


def check_same_size(picture: np.ndarray, path: Path, image: np.ndarray, image_path: Path) -> np.ndarray:
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
