"""Decode the files of a triplet into image, mask and depth codes at a size."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.runtime.files import hash_name
from data.values.decoding import DECODERS, decode_depth_map, read_pixels
from data.values.depth import Depth, DepthScale, convert_depth, find_known, shrink_depth, to_metres
from data.values.masks import check_channels, check_range, reduce_channels, scale_mask, shrink_mask
from data.values.orientation import apply_orientation, pick_orientation

MAX_STRETCH = 0.02  # largest difference of the aspect ratios of an image and its label for which a resize is safe
RANGE_SAMPLES = 32  # depth maps read to find the nearest distance of a data set

Image = UInt8[np.ndarray, "px px 3"]
Mask = UInt8[np.ndarray, "px px"]
Valid = Bool[np.ndarray, "px px"]


@dataclass(frozen=True)
class TripletArrays:
    """The pixels of a triplet at the size of its files."""

    image: UInt8[np.ndarray, "h w 3"]  # RGB
    mask: Float32[np.ndarray, "h w"] | None  # foreground in [0, 1], 0 where it is ignored
    mask_known: Bool[np.ndarray, "h w"]
    depth: Float32[np.ndarray, "h w"] | None  # relative inverse depth in [0, 1], near = 1
    depth_known: Bool[np.ndarray, "h w"]


def read_triplet(triplet: Triplet, spec: DatasetSpec) -> TripletArrays:
    """Read the files of a triplet; the triplet's own polarity takes precedence over that of `spec`."""
    image, mask, depth = read_stored(triplet, spec)
    foreground = inverse = None
    mask_known = depth_known = np.zeros(image.shape[:2], bool)
    if mask is not None and triplet.mask is not None:
        check_range(triplet.mask, mask, spec.mask_values)
        foreground, mask_known = scale_mask(mask, spec.mask_values)
    if depth is not None and triplet.depth is not None:
        inverse, depth_known = convert_depth(triplet.depth, depth, spec.for_triplet(triplet))
    return TripletArrays(image, foreground, mask_known, inverse, depth_known)


def read_stored(triplet: Triplet, spec: DatasetSpec) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Read the RGB image of a triplet, and the values of mask and depth as stored, all turned alike and of one size."""
    files = triplet.files
    read = {role: read_pixels(path, DECODERS[role]) for role, path in files.items()}
    image, orientation = read.pop("image")
    stored = {role: pixels for role, (pixels, _) in read.items()}
    upright, stored = apply_orientations(image, orientation, stored, {role: own for role, (_, own) in read.items()})
    for role, pixels in stored.items():
        _check_same_size(pixels, files[role], upright, triplet.image, turned=upright is not image)
        check_channels(files[role], pixels, spec.mask_values if role == "mask" else None)
    mask = reduce_channels(stored["mask"], spec.mask_values) if "mask" in stored else None
    return upright, mask, reduce_channels(stored["depth"]) if "depth" in stored else None


def apply_orientations(
    image: np.ndarray, orientation: int, labels: dict[str, np.ndarray], orientations: Mapping[str, int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Turn image and labels by their EXIF orientations; turn none if no label has one and all fit the stored image."""
    by = {role: pick_orientation(labels[role].shape, orientations[role], image.shape, orientation) for role in labels}
    if labels and all(orientations[role] == 1 and by[role] == orientation for role in labels):
        return image, labels
    turned = {role: apply_orientation(pixels, by[role]) for role, pixels in labels.items()}
    return apply_orientation(image, orientation), turned


def decode_triplet(triplet: Triplet, spec: DatasetSpec, px: int) -> tuple[Image, Mask, Depth, Valid]:
    """Read one triplet and resize it to a square of `px` pixels a side by area averages.

    Returns RGB image, mask 0..255, depth codes, and True where the mask is known; a missing mask is 0 everywhere.
    """
    arrays = read_triplet(triplet, spec)
    small: Image = cv2.resize(arrays.image, (px, px), interpolation=cv2.INTER_AREA)
    mask, mask_known = np.zeros((px, px), np.uint8), np.zeros((px, px), bool)
    depth: Depth = np.zeros((px, px), np.uint16)
    if arrays.mask is not None:
        mask, mask_known = shrink_mask(arrays.mask, arrays.mask_known, px)
    if arrays.depth is not None:
        depth = shrink_depth(arrays.depth, arrays.depth_known, px)
    return small, mask, depth, mask_known


def _check_same_size(other: np.ndarray, path: Path, image: np.ndarray, image_path: Path, *, turned: bool) -> None:
    """Raise DataError for a mask or depth map of another size than its image; `turned` if EXIF data turn the image."""
    if other.shape[:2] != image.shape[:2]:
        (height, width), (rows, columns) = other.shape[:2], image.shape[:2]
        size = f"{columns} x {rows}{' (as its EXIF orientation turns it)' if turned else ''}"
        problem = f"is {width} x {height} px but {image_path.name} is {size}"
        raise DataError(f"{path}: {problem}; make them the same size or remove the triplet", "size")


def is_stretched(label: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Return True if a label of one shape must not be resized to the image's shape: their aspect ratios differ."""
    return abs(label[1] * image[0] / (label[0] * image[1]) - 1) > MAX_STRETCH


def find_common_scale(dataset: Dataset) -> DepthScale | None:
    """Return the scale of all depth of a data set; None if depth is only relative or folders differ."""
    specs = zip(dataset.folders, resolve_specs(dataset), strict=True)
    scales = {(spec.near_m, spec.far_m) for folder, spec in specs if folder.depth_maps}
    near_m, far_m = scales.pop() if len(scales) == 1 else (None, None)
    return None if near_m is None else DepthScale(near_m=near_m, far_m=far_m)


def resolve_specs(dataset: Dataset) -> list[DatasetSpec]:
    """Return the complete spec of each joined folder, see `resolve_near_distance`."""
    return [resolve_near_distance(folder.spec, folder.depth_maps) for folder in dataset.folders]


def resolve_near_distance(spec: DatasetSpec, maps: Sequence[Path]) -> DatasetSpec:
    """Fill in `near_m` of metric depth, or `depth_max` of disparity, where it is not configured.

    The value is the 1st percentile of distances, or the 99th of disparities, in a sample of all maps, not only of one
    split.
    """
    configured = spec.near_m if spec.metric else spec.depth_max
    if spec.depth_unit == "relative" or configured is not None or not maps:
        return spec
    paths = sorted(maps, key=lambda path: hash_name(path.name))
    values = list(itertools.islice(_sample_values(paths, spec), RANGE_SAMPLES))
    known = np.concatenate(values) if values else np.zeros(0)
    if known.size == 0:
        sampled = f"{len(values)} files" if values else "any file that can be read"
        raise DataError(f"{paths[0].parent}: no known depth in {sampled}; check missing in dataset.json")
    if spec.metric:
        return dataclasses.replace(spec, near_m=float(np.percentile(known, 1)))
    return dataclasses.replace(spec, depth_max=float(np.percentile(known, 99)))


def _sample_values(paths: Iterable[Path], spec: DatasetSpec) -> Iterator[Float32[np.ndarray, " n"]]:
    """Yield known distances in metres, or disparities, of each readable file; others are skipped."""
    for path in paths:
        with contextlib.suppress(DataError):
            few = reduce_channels(read_pixels(path, decode_depth_map)[0])[::4, ::4]
            values: np.ndarray = few[find_known(few, spec)]
            yield to_metres(values, spec) if spec.metric else values.astype(np.float32)
