"""Detect single faults of an image, mask or depth map given as arrays.

Thresholds separate defective from clean triplets in a labelled sample; comments give the nearest value of each class.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from data.values.alignment import PX, STEP, STEP_Z, DepthStep, fit_contour, shrink_to_square
from data.values.masks import has_varying_alpha, is_coloured, measure_colour

GREY = (0.05, 0.95)  # values in [0, 1] between which a pixel is neither foreground nor background
MIN_GREY = 0.01  # share of the image (clean 0.0014, faint box 0.119)
EDGE_WIDTH = 0.02  # share of the longer side: grey pixels this near the contour are a soft edge
EMPTY, FULL = 1e-4, 0.995  # share of the image
STRAY_MIN, STRAY_MAX, STRAY_GAP = 0.0015, 0.15, 0.08  # shares of image, largest part, side (0.003, 0.08, 0.14)
SHIFT_RATIO, SHIFT_Z = 1.3, 2.6  # see `ContourFit` (clean up to 1.46 and 2.2, defective from 1.50 and 3.0)
DIRECTION_Z = 2.3  # see `DepthStep`
FRAME_EVEN, FRAME_STEP = 8, 16  # grey levels of 255: largest inside the frame, smallest between frame and depth
FRAME_WIDTH, FRAME_EDGE = 0.01, 0.6  # width as a share of the side; share of the inner edge with a step (0.79)
WRONG_MODES = {"L": "grey, 1 channel", "LA": "grey with alpha", "1": "black and white", "RGBA": "4 channels"}

Pixels = Shaped[np.ndarray, "h w *c"]
Mask = Float32[np.ndarray, "rows columns"]  # in [0, 1]


@dataclass(frozen=True)
class Fault:
    """A fault of a file: its kind (a key of `data.dataset.FAULT_KINDS`), the file, and details with numbers."""

    kind: str
    file: str
    detail: str = ""


def describe_label_channels(pixels: Pixels) -> str:
    """Describe the wrong channels of a mask or depth map; "" if there is one, or all are equal and opaque."""
    if has_varying_alpha(pixels, alone=False):
        return "alpha varies"
    return f"colours in {measure_colour(pixels):.0%} of the pixels" if is_coloured(pixels) else ""


def find_mask_faults(mask: Mask, *, several_objects: bool = False) -> dict[str, str]:
    """Find the faults of a single mask, as kind -> detail; several objects may be far from each other."""
    inside = mask > 0.5
    cover = float(inside.mean())
    found = {}
    grey = _measure_greys(mask, inside)
    if grey > MIN_GREY:
        found["not binary"] = f"grey values in {grey:.0%} of the pixels"
    if cover < EMPTY:
        found["empty mask"] = f"largest value {mask.max(initial=0):.2f} of 1"
    elif cover > FULL:
        found["full mask"] = f"covers {cover:.1%}"
    elif not several_objects and (stray := _count_stray_pixels(inside)):
        found["stray part"] = f"{stray} px of {inside.sum()}"
    return found


def describe_mask_shift(image: UInt8[np.ndarray, "h w 3"], mask: Mask) -> str:
    """Describe the shift at which the mask fits the image much better; "" if there is none."""
    small = cv2.resize(image, (PX, PX), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    fit = fit_contour(small, shrink_to_square(mask))
    if fit is None or fit.ratio < SHIFT_RATIO or fit.z_score < SHIFT_Z:
        return ""
    down, right = fit.shift
    vertical, horizontal = "down" if down > 0 else "up", "right" if right > 0 else "left"
    return f"fits {fit.ratio:.1f} times as well if moved {abs(down):.0%} {vertical} and {abs(right):.0%} {horizontal}"


def measure_frame(depth: Shaped[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int] | None:
    """Measure the widths (top, bottom, left, right) in pixels of an even frame with a straight inner edge.

    Returns None without a frame. Margins of missing values, which depth cameras leave, do not count as a frame.
    """
    if not np.issubdtype(depth.dtype, np.integer) or not valid[0, 0]:
        return None
    to_bytes = np.float32(255 / np.iinfo(depth.dtype).max)
    difference = np.abs(depth.astype(np.float32) - np.float32(depth[0, 0])) * to_bytes
    sides = (difference, difference[::-1], difference.T, difference.T[::-1])
    top, bottom, left, right = (_measure_border(side) for side in sides)
    return (top, bottom, left, right) if top and bottom and left and right else None


def lacks_depth_step(step: DepthStep, sign: int) -> bool:
    """Return whether the depth has no step at the contour of the foreground.

    `sign` is 1 if near values are larger, -1 if they are smaller, 0 if unknown: then any step counts.
    """
    values = (step.slope, step.z_score, step.direction_z_score)
    slope, z_score, direction = (abs(value) if sign == 0 else sign * value for value in values)
    return slope < STEP and z_score < STEP_Z and direction < DIRECTION_Z


def _measure_greys(mask: Mask, inside: Bool[np.ndarray, "rows columns"]) -> float:
    """Return the share of grey pixels that are not part of a soft edge."""
    grey = (mask > GREY[0]) & (mask < GREY[1])
    if grey.mean() <= MIN_GREY:
        return 0.0
    marks = inside.astype(np.uint8)
    distance = sum(cv2.distanceTransform(side, cv2.DIST_L2, 3) for side in (marks, 1 - marks))
    return float(np.mean(grey & (distance > EDGE_WIDTH * max(mask.shape) + 1)))


def _count_stray_pixels(inside: Bool[np.ndarray, "h w"]) -> int:
    """Count the pixels of parts that are small, but not tiny, and far from the largest part."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    if count < 3:
        return 0
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = int(areas.argmax()) + 1
    small = (areas >= STRAY_MIN * inside.size) & (areas <= STRAY_MAX * areas.max())
    if not small.any():
        return 0
    distance = cv2.distanceTransform((labels != largest).astype(np.uint8), cv2.DIST_L2, 5)
    far = [part for part in np.flatnonzero(small) + 1 if distance[labels == part].min() > STRAY_GAP * max(inside.shape)]
    return int(sum(areas[part - 1] for part in far))


def _measure_border(difference: Float32[np.ndarray, "h w"]) -> int:
    """Count even rows from the top; return 0 if there are too few, or the next rows do not differ from them."""
    even = difference.max(axis=1) <= FRAME_EVEN
    width = int(even.argmin()) if not even.all() else len(even)
    inner = min(width + 2, len(difference) - 1)  # resampling blurs the edge
    if width < max(2, FRAME_WIDTH * len(difference)) or width >= len(difference) // 2:
        return 0
    return width if float(np.mean(difference[inner] > FRAME_STEP)) >= FRAME_EDGE else 0
