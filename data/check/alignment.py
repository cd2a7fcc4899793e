"""Does a mask fit its image, and does depth know of the object? Correlations along the mask's contour, over shifts.

Pure functions over arrays of one size. A contour belongs where the image has edges along it; another place where it
fits much better betrays a shift. Depth that knows the object steps at the contour as it does nowhere else.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32
from scipy import fft

PX = 96  # side of the pictures that are compared
REACH = 24  # pixels of shift that are tried, each way
EDGE_BLUR_PX, DEPTH_BLUR_PX = 0.75, 1.5
NEAR_PX, FAR_PX = 2, 4  # a fit this close counts as in place; one beyond counts as elsewhere
LEAST_OVERLAP = 0.6  # of the contour within the picture, for a shift to count
_SIDE = fft.next_fast_len(PX + 2 * REACH, real=True)
LEAST_CONTOUR_PX = 40.0  # of a contour at which a step can be judged
FAINT = 0.005  # deviations over a pixel that still are a step
_EDGE = 2  # rows and columns at the border that are left out: resampling draws edges there

Plane = Float32[np.ndarray, "px px"]
Shifts = Float32[np.ndarray, "reach reach"]


@dataclass(frozen=True)
class Fit:
    """How a contour fits where it is, and where it fits best elsewhere.

    Attributes:
        ratio: Best fit elsewhere over the fit in place.
        lead: The same difference in standard deviations over all places.
        shift: Where that is: (down, right), as a share of the side.
    """

    ratio: float
    lead: float
    shift: tuple[float, float]


@dataclass(frozen=True)
class Step:
    """How depth steps at a contour; all positive where values are larger inside.

    Attributes:
        slope: Over a pixel, in standard deviations of this depth map.
        lead: The same in standard deviations over the places the contour could be at.
        faint_lead: That of the direction alone, for which a faint step counts as much as a strong one.
    """

    slope: float
    lead: float
    faint_lead: float


def contour_fit(image: Float32[np.ndarray, "px px 3"], mask: Plane) -> Fit | None:
    """Compare the image's edges along the contour with those along the contour elsewhere.

    Args:
        image: Colours in [0, 1], PX to a side.
        mask: 0 or 1, of that size.

    Returns:
        The fit, or None where the mask has no contour or the image no edges.
    """
    normal_x, normal_y = _gradient(mask, EDGE_BLUR_PX)
    length = np.hypot(normal_x, normal_y)
    if length.max() < 1e-3:
        return None
    x, y, strength = _strongest(image)
    # (gradient . normal)^2, so that bright things on dark ground count as dark on bright; over strength, so that
    # one strong edge does not outweigh a contour.
    edges = [x * x / strength, 2 * x * y / strength, y * y / strength, np.ones_like(x)]
    weight = np.maximum(length, 1e-6)
    kernels = [normal_x**2 / weight, normal_x * normal_y / weight, normal_y**2 / weight, length]
    xx, xy, yy, inside = _correlate(edges, kernels)
    valid = inside > LEAST_OVERLAP * inside.max()
    return _best_elsewhere(np.where(valid, (xx + xy + yy) / np.where(valid, inside, 1), np.nan))


def depth_step(depth: Plane, mask: Plane) -> Step | None:
    """Step of depth from outside to inside along the contour, and how unusual it is among all places.

    Args:
        depth: Any unit, PX to a side.
        mask: 0 or 1, of that size.

    Returns:
        The step, or None where nothing can be told: even depth, or little of the contour within the picture.
    """
    normal_x, normal_y = _gradient(mask, DEPTH_BLUR_PX)
    total, spread = float(np.hypot(normal_x, normal_y).sum()), float(depth.std())
    if total < LEAST_CONTOUR_PX or spread < 1e-6:
        return None
    x, y = _gradient(depth, DEPTH_BLUR_PX)
    steps = np.sum(_correlate([x, y], [normal_x, normal_y]), axis=0) / total
    weight = np.hypot(x, y) + np.float32(FAINT * spread)
    signs = np.sum(_correlate([x / weight, y / weight], [normal_x, normal_y]), axis=0)
    return Step(float(steps[REACH, REACH]) / spread, _lead_in_place(steps), _lead_in_place(signs))


def _lead_in_place(steps: Shifts) -> float:
    return (float(steps[REACH, REACH]) - float(steps.mean())) / max(float(steps.std()), 1e-9)


def _best_elsewhere(fits: Shifts) -> Fit | None:
    near, far = slice(REACH - NEAR_PX, REACH + NEAR_PX + 1), slice(REACH - FAR_PX, REACH + FAR_PX + 1)
    here = float(np.nanmax(fits[near, near]))
    fits = fits.copy()
    fits[far, far] = np.nan
    spread = float(np.nanstd(fits)) if np.isfinite(fits).any() else 0.0
    if here <= 0 or spread <= 0:
        return None
    down, right = np.unravel_index(np.nanargmax(fits), fits.shape)
    best = float(fits[down, right])
    return Fit(best / here, (best - here) / spread, ((int(down) - REACH) / PX, (int(right) - REACH) / PX))


def _strongest(image: Float32[np.ndarray, "px px 3"]) -> tuple[Plane, Plane, Plane]:
    """Gradient of the colour that has the largest, and its strength."""
    gradients = np.stack([np.stack(_gradient(image[..., c], EDGE_BLUR_PX)) for c in range(3)])
    strengths = np.hypot(gradients[:, 0], gradients[:, 1])
    colour = strengths.argmax(axis=0)[None]
    x, y = (np.take_along_axis(gradients[:, axis], colour, axis=0)[0] for axis in (0, 1))
    return x, y, strengths.max(axis=0) + np.float32(0.01)


def _gradient(plane: Plane, blur_px: float) -> tuple[Plane, Plane]:
    smooth = cv2.GaussianBlur(plane, (0, 0), blur_px, borderType=cv2.BORDER_REPLICATE)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=0.125, borderType=cv2.BORDER_REPLICATE) for order in _ORDERS)
    return x, y


def _correlate(planes: list[Plane], kernels: list[Plane]) -> Float32[np.ndarray, "n reach reach"]:
    """Correlation of each plane with its kernel, for all shifts within REACH."""
    inner = np.zeros((len(planes), PX, PX), np.float32)
    within = slice(_EDGE, PX - _EDGE)
    inner[:, within, within] = np.stack(planes)[:, within, within]
    size = (_SIDE, _SIDE)
    spectrum = fft.rfft2(inner, size) * np.conj(fft.rfft2(np.stack(kernels).astype(np.float32), size))
    span = 2 * REACH + 1
    shifts = np.roll(fft.irfft2(spectrum, size), (REACH, REACH), (1, 2))[:, :span, :span]
    return np.asarray(shifts, np.float32)


_ORDERS = ((1, 0), (0, 1))
