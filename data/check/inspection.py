"""Inspect the files of one triplet: find its faults and measure what the check of the whole folder needs."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from data.check import faults
from data.check.faults import Fault
from data.check.perceptual_hash import Hash, compute_hash
from data.dataset import DataError, DatasetSpec, Triplet
from data.reading.matching import is_image_name
from data.values.alignment import DepthStep
from data.values.decoding import DECODERS, read_pixels
from data.values.depth import find_known, is_constant, to_inverse_depth
from data.values.header import read_mode
from data.values.infer_depth import DepthValues, measure_contour_step, measure_values
from data.values.masks import check_range, reduce_channels, scale_mask
from data.values.orientation import is_orientation_unclear
from data.values.triplet import apply_orientations

Arrays = dict[str, np.ndarray]  # role -> RGB image, mask or depth map as stored


@dataclass
class Inspection:
    """Faults and measurements of one triplet; small enough to send between processes."""

    faults: list[Fault] = field(default_factory=list)
    digest: bytes = b""  # hash of the image's pixels
    hash: Hash | None = None  # perceptual hash of the background
    step: DepthStep | None = None  # step of depth at the mask's contour
    values: DepthValues | None = None
    framed: bool = False  # the depth has a frame, and the step was measured inside it
    orientation_unclear: bool = False  # EXIF data rotate the image, and its labels may be rotated already

    def add(self, kind: str, path: Path, detail: str) -> None:
        """Add a fault if there is a detail."""
        if detail:
            self.faults.append(Fault(kind, str(path), detail))


def read_arrays(triplet: Triplet) -> tuple[Arrays, Inspection]:
    """Read the readable files of a triplet, upright, and find the faults of the unreadable ones."""
    arrays: Arrays = {}
    orientations: dict[str, int] = {}
    found, unclear = [], False
    for role, path in triplet.files.items():
        if not is_image_name(path.name) or not path.is_file():
            found.append(Fault("missing file", str(path)))
            continue
        try:
            arrays[role], orientations[role] = read_pixels(path, DECODERS[role])
        except DataError as error:
            found.append(Fault(error.kind or "unreadable", str(path), str(error).removeprefix(f"{path}: ")))
            continue
        if role == "image" and (wrong := faults.WRONG_MODES.get(read_mode(path))):
            found.append(Fault("channels", str(path), wrong))
    if "image" in arrays:
        image, own = arrays.pop("image"), orientations["image"]
        unclear = any(is_orientation_unclear(pixels, orientations[role], own) for role, pixels in arrays.items())
        image, arrays = apply_orientations(image, own, arrays, orientations)
        arrays["image"] = image
    return arrays, Inspection(faults=found, orientation_unclear=unclear)


def inspect_files(triplet: Triplet, spec: DatasetSpec) -> Inspection:
    """Read a triplet and find every fault that shows without other triplets."""
    arrays, inspection = read_arrays(triplet)
    return inspect_arrays(triplet, arrays, spec, inspection)


def inspect_arrays(triplet: Triplet, arrays: Arrays, spec: DatasetSpec, inspection: Inspection) -> Inspection:
    """Add the faults and the measurements of the arrays that were read to an inspection."""
    mask = _inspect_mask(inspection, triplet, arrays, spec)
    image = arrays.get("image")
    if image is not None:
        inspection.digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        fitted = mask if mask is None or mask.shape == image.shape[:2] else cv2.resize(mask, image.shape[1::-1])
        inspection.hash = compute_hash(image, fitted)
    _inspect_depth(inspection, triplet, arrays, spec, mask)
    return inspection


def _inspect_mask(inspection: Inspection, triplet: Triplet, arrays: Arrays, spec: DatasetSpec) -> np.ndarray | None:
    """Inspect the mask; return it in [0, 1] if it has both foreground and background."""
    values = spec.mask_values
    if values is not None and values.alpha and "mask" in arrays:
        arrays = arrays | {"mask": reduce_channels(arrays["mask"], values)}
    stored = _take_label(inspection, triplet.mask, arrays, "mask")
    if stored is None or triplet.mask is None:
        return None
    try:
        check_range(triplet.mask, stored, values)
    except DataError as error:
        inspection.add(error.kind, triplet.mask, str(error).removeprefix(f"{triplet.mask}: "))
        return None
    mask, _ = scale_mask(stored, values)
    found = faults.find_mask_faults(mask, several_objects=len(triplet.foregrounds) > 1)
    for kind, detail in found.items():
        inspection.add(kind, triplet.mask, detail)
    if found.keys() & {"empty mask", "full mask"}:
        return None
    if "image" in arrays:
        inspection.add("shifted mask", triplet.mask, faults.describe_mask_shift(arrays["image"], mask))
    return mask


def _inspect_depth(
    inspection: Inspection, triplet: Triplet, arrays: Arrays, spec: DatasetSpec, mask: np.ndarray | None
) -> None:
    depth = _take_label(inspection, triplet.depth, arrays, "depth")
    if depth is None or triplet.depth is None:
        return
    inspection.values = measure_values(depth, spec.missing)
    known = find_known(depth, spec)
    if is_constant(depth, known):
        inspection.add("constant depth", triplet.depth, f"{inspection.values.maximum:g} everywhere")
        return
    if spec.depth_unit == "relative":
        try:
            to_inverse_depth(depth, spec)
        except DataError as error:
            inspection.add(error.kind, triplet.depth, str(error))
    frame = faults.measure_frame(depth, known)
    if frame:
        top, bottom, left, right = frame
        inspection.add("frame", triplet.depth, f"{top}, {bottom}, {left}, {right} px at top, bottom, left, right")
        depth = depth[top : depth.shape[0] - bottom, left : depth.shape[1] - right]  # the image was scaled to fit
        inspection.framed = True
    if mask is not None and not any(fault.kind == "shifted mask" for fault in inspection.faults):
        inspection.step = measure_contour_step(depth, spec, mask)


def _take_label(inspection: Inspection, path: Path | None, arrays: Arrays, role: str) -> np.ndarray | None:
    """Check size and channels of a mask or depth map; return its single channel, None if it has several."""
    pixels, image = arrays.get(role), arrays.get("image")
    if pixels is None or path is None:
        return None
    if image is not None and pixels.shape[:2] != image.shape[:2]:
        (height, width), (rows, columns) = pixels.shape[:2], image.shape[:2]
        inspection.add("size", path, f"{width} x {height} px, image {columns} x {rows}")
    wrong = faults.describe_label_channels(pixels)
    inspection.add("channels", path, wrong)
    return None if wrong else reduce_channels(pixels)
