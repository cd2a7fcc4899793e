"""Convert depth values between those in files, relative inverse depth, its 16-bit codes, and metres.

Codes: 0 = unknown, 1..65535 = relative inverse depth 0..1 (far 0, near 1).
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt16

from data.dataset import DataError, DatasetSpec

DEPTH_STEPS = 65534  # codes above 1
METRES = {"mm": 0.001, "m": 1.0}
SATURATED = 65535  # 16-bit value that depth cameras write for missing distances, besides 0

Depth = UInt16[np.ndarray, "px px"]
Plane = Float32[np.ndarray, "px px"]
KnownDepth = tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]  # relative inverse depth, True where known


@dataclass(frozen=True, kw_only=True)
class DepthScale:
    """Distances of relative inverse depth: 1 is `near_m` metres, 0 is `far_m` metres (None: infinity)."""

    near_m: float
    far_m: float | None

    def metres(self, inverse: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
        """Return metres from relative inverse depth in [0, 1]; the inverse of `to_inverse_depth`."""
        far = 0.0 if self.far_m is None else 1.0 / self.far_m
        with np.errstate(divide="ignore"):
            metres: np.ndarray = np.float32(1.0) / (inverse * np.float32(1.0 / self.near_m - far) + np.float32(far))
        return metres


def shrink_depth(inverse: Float32[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"], px: int) -> Depth:
    """Resize relative inverse depth to a square by averages over known pixels; a pixel is known if half its area is."""
    if valid.all():
        return _quantise(cv2.resize(inverse, (px, px), interpolation=cv2.INTER_AREA))
    mean, share = average_known(inverse, valid, px)
    return _quantise(mean) * (share >= 0.5).astype(np.uint16)


def average_known(values: Float32[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], px: int) -> tuple[Plane, Plane]:
    """Resize values to a square by area averages over the known ones; also return the share that is known."""
    total = cv2.resize(np.where(known, values, np.float32(0)), (px, px), interpolation=cv2.INTER_AREA)
    share = cv2.resize(known.astype(np.float32), (px, px), interpolation=cv2.INTER_AREA)
    return np.divide(total, share, out=np.zeros_like(total), where=share > 0), share


def to_inverse_depth(raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec) -> KnownDepth:
    """Convert a depth file's values to relative inverse depth in [0, 1] (anything where unknown), and True where known.

    Metric z becomes (1/z - 1/far) / (1/near - 1/far), clipped; far may be infinite.
    """
    valid = find_known(raw, spec)
    if not spec.metric:
        return _scale_relative(raw, spec, valid)
    if spec.near_m is None:
        raise DataError("metric depth needs near_m, the distance that becomes 1; add it to dataset.json")
    z = to_metres(raw, spec)
    far = 0.0 if spec.far_m is None else 1.0 / spec.far_m
    inverse = np.divide(1.0, z, out=np.zeros_like(z), where=valid)
    return np.clip((inverse - np.float32(far)) / np.float32(1.0 / spec.near_m - far), 0.0, 1.0), valid


def convert_depth(path: Path, raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec) -> KnownDepth:
    """Convert the values of a depth file that was read; errors name the file."""
    try:
        inverse, valid = to_inverse_depth(raw, spec)
    except DataError as error:
        raise DataError(f"{path}: {error}", error.kind) from error
    if is_constant(inverse, valid):
        problem = f"depth is {raw[valid][0]:g} everywhere; export it again or remove the triplet"
        if not is_constant(raw, valid):
            problem = "no distance lies between near_m and far_m; correct them in dataset.json"
        raise DataError(f"{path}: {problem}", "constant depth")
    return inverse, valid


def is_constant(raw: Shaped[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"]) -> bool:
    """Return True if a depth map has known pixels and they are all equal."""
    if valid.all():
        return bool(raw.size > 1 and raw.min() == raw.max())
    values = raw[valid]
    return bool(values.size > 1 and values.min() == values.max())


def find_known(raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec) -> Bool[np.ndarray, "h w"]:
    """Return True where the value of a depth file is known."""
    valid = np.ones(raw.shape, bool)
    if raw.dtype.kind == "f":
        valid &= np.isfinite(raw)
    for value in spec.missing:
        valid &= raw != value
    if spec.depth_unit != "relative":
        valid &= raw > 0
    if spec.metric and raw.dtype == np.uint16:
        valid &= raw != SATURATED
    return valid


def to_metres(raw: Shaped[np.ndarray, "*n"], spec: DatasetSpec) -> Float32[np.ndarray, "*n"]:
    """Convert the values of a metric depth file to metres; those of unknown pixels are arbitrary."""
    z: np.ndarray = raw.astype(np.float32) * np.float32(METRES[spec.depth_unit] / (spec.depth_scale or 1.0))
    return z


def decode_depth(codes: UInt16[np.ndarray, "*n"]) -> tuple[Float32[np.ndarray, "*n"], Bool[np.ndarray, "*n"]]:
    """Return relative inverse depth in [0, 1] (0 where unknown) from codes, and True where known."""
    depth = codes.astype(np.float32)
    depth -= 1.0
    depth *= np.float32(1.0 / DEPTH_STEPS)
    return np.maximum(depth, 0.0, out=depth), codes != 0


def _scale_relative(raw: Shaped[np.ndarray, "h w"], spec: DatasetSpec, valid: Bool[np.ndarray, "h w"]) -> KnownDepth:
    value = raw.astype(np.float32)
    dark = spec.near == "dark" and spec.depth_unit == "relative"
    if spec.depth_max is not None:
        value = np.clip(value * np.float32(1.0 / spec.depth_max), 0.0, 1.0)
    elif raw.dtype.kind in "ui" and raw.dtype.itemsize <= 2:  # larger types have room that no file uses
        value *= np.float32(1.0 / np.iinfo(raw.dtype).max)
    elif (known := value[valid]).size and (known.min() < 0 or known.max() > 1):
        found = f"relative depth is {known.min():.4g} to {known.max():.4g}, outside 0..1"
        raise DataError(
            f"{found}; set depth_max, the value that becomes 1, or depth_unit in dataset.json", "depth range"
        )
    return (1.0 - value if dark else value), valid


def _quantise(inverse: Float32[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    codes: Depth = (np.clip(inverse, 0.0, 1.0) * np.float32(DEPTH_STEPS) + np.float32(1.5)).astype(np.uint16)
    return codes
