"""Look into the files of one triplet: what is wrong with them, and what its depth says about its own meaning."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data.check import faults
from data.check.alignment import Step
from data.check.faults import Fault
from data.check.perceptual_hash import Trace, trace
from data.dataset import DatasetSpec, Triplet
from data.reading.matching import is_image_name

VALUE_STEP = 16  # every so many pixels, each way, that are looked at for the range


@dataclass
class Pictures:
    """A triplet's pictures as stored; None where there is none or it cannot be read.

    Attributes:
        image: RGB as the reader sees it.
        mode: Pillow's mode of the image file.
    """

    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    depth: np.ndarray | None = None
    mode: str = ""


@dataclass(frozen=True)
class DepthValues:
    """What the values of a depth map are like: type, least and greatest above 0, median, share of zeros."""

    dtype: str
    least: float
    greatest: float
    median: float
    zeros: float


@dataclass
class Finding:
    """What is found of one triplet; small, so that it travels between processes.

    Attributes:
        digest: Of the image's pixels.
        step: Step of depth at the mask's edge, see `alignment.depth_step`; None where it cannot be measured.
        framed: The depth has a frame, and was measured within it.
    """

    faults: list[Fault] = field(default_factory=list)
    digest: bytes = b""
    trace: Trace | None = None
    step: Step | None = None
    values: DepthValues | None = None
    framed: bool = False


def read(triplet: Triplet) -> tuple[Pictures, list[Fault]]:
    """Read a triplet's files; those that are not there or cannot be read are faults."""
    pictures, found = Pictures(), []
    for role in ("image", "mask", "depth"):
        path: Path | None = getattr(triplet, role)
        if path is None:
            continue
        if not is_image_name(path.name) or not path.is_file():
            found.append(Fault("missing file", str(path)))
            continue
        flags = cv2.IMREAD_COLOR_RGB if role == "image" else cv2.IMREAD_UNCHANGED
        data, pixels = _decoded(path, flags)
        if pixels is None:
            found.append(Fault(faults.broken(data), str(path), f"{len(data)} bytes"))
            continue
        setattr(pictures, role, pixels)
        if role == "image":
            pictures.mode = Image.open(io.BytesIO(data)).mode
    return pictures, found


def examine(triplet: Triplet, spec: DatasetSpec) -> Finding:
    """Read a triplet and look for every fault that it can show by itself."""
    pictures, found = read(triplet)
    finding = judge(triplet, pictures, spec)
    finding.faults[:0] = found
    return finding


def judge(triplet: Triplet, pictures: Pictures, spec: DatasetSpec) -> Finding:
    """Look for faults in pictures that were read."""
    finding = Finding()
    image = pictures.image
    if image is not None:
        finding.digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        _add(finding, "channels", triplet.image, faults.image_channels(pictures.mode))
    share = _judge_mask(finding, triplet, pictures)
    if image is not None:
        finding.trace = trace(image, None if share is None else _fitted(share, image))
    _judge_depth(finding, triplet, pictures, spec, share)
    return finding


def _judge_mask(finding: Finding, triplet: Triplet, pictures: Pictures) -> np.ndarray | None:
    """Judge the mask; return it in 0..1 if it holds both object and background."""
    if pictures.mask is None or triplet.mask is None:
        return None
    _add(finding, "size", triplet.mask, _other_size(pictures.mask, pictures.image))
    wrong = faults.truth_channels(pictures.mask)
    _add(finding, "channels", triplet.mask, wrong)
    if wrong:
        return None
    share = faults.share_of_mask(faults.single(pictures.mask))
    own = faults.mask_faults(share)
    for kind, detail in own.items():
        _add(finding, kind, triplet.mask, detail)
    if own.keys() & {"empty mask", "full mask"}:
        return None
    if pictures.image is not None:
        _add(finding, "shifted mask", triplet.mask, faults.shifted(pictures.image, share))
    return share


def _judge_depth(
    finding: Finding, triplet: Triplet, pictures: Pictures, spec: DatasetSpec, share: np.ndarray | None
) -> None:
    if pictures.depth is None or triplet.depth is None:
        return
    _add(finding, "size", triplet.depth, _other_size(pictures.depth, pictures.image))
    wrong = faults.truth_channels(pictures.depth)
    _add(finding, "channels", triplet.depth, wrong)
    if wrong:
        return
    depth = faults.single(pictures.depth)
    finding.values = _values(depth)
    if spec.depth_unit == "relative" and depth.dtype.kind == "f" and not 0 <= np.nanmin(depth) <= np.nanmax(depth) <= 1:
        _add(finding, "depth range", triplet.depth, f"{np.nanmin(depth):.4g} to {np.nanmax(depth):.4g}")
    border = faults.frame(depth, spec.missing_value)
    if border:
        top, bottom, left, right = border
        _add(finding, "frame", triplet.depth, f"{top}, {bottom}, {left}, {right} px at top, bottom, left, right")
        depth = depth[top : depth.shape[0] - bottom, left : depth.shape[1] - right]  # the picture lies within
        finding.framed = True
    if share is not None and not any(fault.kind == "shifted mask" for fault in finding.faults):
        valid = np.isfinite(depth) if depth.dtype.kind == "f" else np.ones(depth.shape, bool)
        if spec.missing_value is not None or depth.dtype != np.uint8:
            valid &= depth != (spec.missing_value or 0)
        finding.step = faults.step_at_contour(depth, valid, share)


def _values(depth: np.ndarray) -> DepthValues:
    few = depth[::VALUE_STEP, ::VALUE_STEP].astype(np.float64)
    few = few[np.isfinite(few)]
    known = few[few != 0]
    if not known.size:
        return DepthValues(depth.dtype.name, 0.0, 0.0, 0.0, 1.0)
    least, greatest, median = float(known.min()), float(known.max()), float(np.median(known))
    return DepthValues(depth.dtype.name, least, greatest, median, float(np.mean(few == 0)))


def _other_size(pixels: np.ndarray, image: np.ndarray | None) -> str:
    if image is None or pixels.shape[:2] == image.shape[:2]:
        return ""
    (height, width), (rows, columns) = pixels.shape[:2], image.shape[:2]
    return f"{width} x {height} px, image {columns} x {rows}"


def _fitted(share: np.ndarray, image: np.ndarray) -> np.ndarray:
    return share if share.shape == image.shape[:2] else cv2.resize(share, image.shape[1::-1])


def _add(finding: Finding, kind: str, path: Path, detail: str) -> None:
    if detail:
        finding.faults.append(Fault(kind, str(path), detail))


def _decoded(path: Path, flags: int) -> tuple[bytes, np.ndarray | None]:
    try:
        data = path.read_bytes()
    except OSError:
        return b"", None
    try:
        return data, cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        return data, None
