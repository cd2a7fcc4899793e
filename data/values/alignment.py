"""Measure how well a mask fits its image and its depth, by correlation along the mask's contour over all shifts.

A correct contour follows edges of the image; a much better fit at another place reveals a shifted mask. Depth that
shows the foreground has a step at the contour that is larger than at any other place.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

PX = 96  # side of the compared images
REACH = 24  # largest shift that is tried in each direction, in pixels
EDGE_BLUR_PX, DEPTH_BLUR_PX = 0.75, 1.5
NEAR_PX, FAR_PX = 2, 4  # a fit within 2 pixels counts as in place, beyond 4 as elsewhere
MIN_OVERLAP = 0.6  # share of the contour inside the image, for a shift to count
MIN_CONTOUR_PX = 40.0  # length of a contour that can be compared with depth
MIN_SHIFT_PX = 90.0  # the same for images: shorter contours fit something elsewhere by chance (clean 75, defective 115)
STEP, STEP_Z = 0.025, 2.5  # smallest clear `DepthStep` (ignored up to 0.019 and 2.1, clean from 0.034)
FAINT = 0.005  # smallest step over a pixel, in standard deviations, whose direction counts
_BORDER = 2  # rows and columns left out at the border, where resampling creates edges
_SOBEL_ORDERS = ((1, 0), (0, 1))

Plane = Float32[np.ndarray, "px px"]
Shifts = Float32[np.ndarray, "reach reach"]


@dataclass(frozen=True)
class ContourFit:
    """Fit of a contour to image edges at the best place elsewhere, compared with the fit in place."""

    ratio: float  # fit elsewhere divided by the fit in place
    z_score: float  # their difference in standard deviations over all places
    shift: tuple[float, float]  # (down, right) to the place elsewhere, as shares of the side


@dataclass(frozen=True)
class DepthStep:
    """Step of depth from outside to inside a contour; positive where values are larger inside."""

    slope: float  # step over a pixel, in standard deviations of the depth map
    z_score: float  # step in place, in standard deviations over all places
    direction_z_score: float  # the same for the gradient's direction alone, for which a faint step counts fully


def fit_contour(image: Float32[np.ndarray, "px px 3"], mask: Plane) -> ContourFit | None:
    """Compare edges of an image in [0, 1] along the mask's contour with those along the shifted contour.

    Returns None if too little of the contour lies inside the image, the image has no edges, or the fit is best at the
    limit of REACH, where it may be no maximum.
    """
    normal_x, normal_y = _compute_gradient(mask, EDGE_BLUR_PX)
    length = np.hypot(normal_x, normal_y)
    if length.sum() < MIN_SHIFT_PX:
        return None
    x, y, strength = _compute_colour_gradient(image)
    # (gradient . normal)^2 is equal for bright on dark and dark on bright; division by the strength prevents a single
    # strong edge from outweighing a contour.
    edges = [x * x / strength, 2 * x * y / strength, y * y / strength, np.ones_like(x)]
    weight = np.maximum(length, 1e-6)
    kernels = [normal_x**2 / weight, normal_x * normal_y / weight, normal_y**2 / weight, length]
    xx, xy, yy, inside = _correlate(edges, kernels)
    valid = inside > MIN_OVERLAP * inside.max()
    return _find_best_elsewhere(np.where(valid, (xx + xy + yy) / np.where(valid, inside, 1), np.nan))


def measure_depth_step(depth: Plane, mask: Plane) -> DepthStep | None:
    """Measure the step of depth, in any unit, at the mask's contour and compare it with all other places.

    Returns None if the depth is constant or too little of the contour lies inside the image.
    """
    normal_x, normal_y = _compute_gradient(mask, DEPTH_BLUR_PX)
    total, std = float(np.hypot(normal_x, normal_y).sum()), float(depth.std())
    if total < MIN_CONTOUR_PX or std < 1e-6:
        return None
    x, y = _compute_gradient(depth, DEPTH_BLUR_PX)
    steps = np.sum(_correlate([x, y], [normal_x, normal_y]), axis=0) / total
    weight = np.hypot(x, y) + np.float32(FAINT * std)
    directions = np.sum(_correlate([x / weight, y / weight], [normal_x, normal_y]), axis=0)
    z_scores = [(float(s[REACH, REACH]) - float(s.mean())) / max(float(s.std()), 1e-9) for s in (steps, directions)]
    return DepthStep(float(steps[REACH, REACH]) / std, *z_scores)


def shrink_to_square(mask: Float32[np.ndarray, "rows columns"]) -> Plane:
    """Resize a mask in [0, 1] to the size that is compared, as 0 and 1."""
    return (cv2.resize(mask, (PX, PX), interpolation=cv2.INTER_AREA) > 0.5).astype(np.float32)


def _find_best_elsewhere(fits: Shifts) -> ContourFit | None:
    near, far = slice(REACH - NEAR_PX, REACH + NEAR_PX + 1), slice(REACH - FAR_PX, REACH + FAR_PX + 1)
    here = float(np.nanmax(fits[near, near]))
    fits = fits.copy()
    fits[far, far] = np.nan
    std = float(np.nanstd(fits)) if np.isfinite(fits).any() else 0.0
    if here <= 0 or std <= 0:
        return None
    down, right = np.unravel_index(np.nanargmax(fits), fits.shape)
    if not {int(down), int(right)}.isdisjoint((0, 2 * REACH)):
        return None
    best = float(fits[down, right])
    return ContourFit(best / here, (best - here) / std, ((int(down) - REACH) / PX, (int(right) - REACH) / PX))


def _compute_colour_gradient(image: Float32[np.ndarray, "px px 3"]) -> tuple[Plane, Plane, Plane]:
    """Compute x, y and strength of the gradient, at each pixel from the colour channel with the strongest gradient."""
    gradients = np.stack([np.stack(_compute_gradient(image[..., c], EDGE_BLUR_PX)) for c in range(3)])
    strengths = np.hypot(gradients[:, 0], gradients[:, 1])
    colour = strengths.argmax(axis=0)[None]
    x, y = (np.take_along_axis(gradients[:, axis], colour, axis=0)[0] for axis in (0, 1))
    return x, y, strengths.max(axis=0) + np.float32(0.01)


def _compute_gradient(plane: Plane, blur_px: float) -> tuple[Plane, Plane]:
    border = cv2.BORDER_REPLICATE
    smooth = cv2.GaussianBlur(plane, (0, 0), blur_px, borderType=border)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=0.125, borderType=border) for order in _SOBEL_ORDERS)
    return x, y


def _correlate(planes: list[Plane], kernels: list[Plane]) -> Float32[np.ndarray, "n reach reach"]:
    """Correlate each plane, whose border counts as 0, with its kernel for all shifts within REACH."""
    margin, inner = (REACH + _BORDER,) * 4, slice(_BORDER, PX - _BORDER)
    wide = [cv2.copyMakeBorder(plane[inner, inner], *margin, cv2.BORDER_CONSTANT) for plane in planes]
    return np.stack([cv2.matchTemplate(*pair, cv2.TM_CCORR) for pair in zip(wide, kernels, strict=True)])
