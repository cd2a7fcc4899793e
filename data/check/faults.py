"""What can be wrong with one triplet's pictures: a function per fault. Pure; reads nothing, decides nothing to do.

Thresholds lie between the real defective triplets and the clean ones they were tried on; the figure next to each says
how far either is.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from data.check.alignment import PX, Step, contour_fit, depth_step

FOLDER_KINDS = frozenset({"gap", "stray file"})  # say nothing against a triplet

GREY = (0.05, 0.95)  # of the mask's range: between them a pixel is neither object nor background
LEAST_GREY = 0.01  # of the picture (clean 0.0014, faint box 0.119)
EDGE_SHARE = 0.02  # of the longer side: greys this near the contour are a soft edge
EMPTY, FULL = 1e-4, 0.995  # of the picture
STRAY_LEAST, STRAY_MOST, STRAY_GAP = 0.0015, 0.15, 0.08  # of picture, of largest part, of side (0.003, 0.08, 0.14)
SHIFT_RATIO, SHIFT_LEAD = 1.3, 2.6  # see `alignment.Fit` (clean up to 1.46 and 2.2, defective from 1.50 and 3.0)
STEP, STEP_LEAD, FAINT_LEAD = 0.025, 2.5, 2.3  # see `alignment.Step` (ignored up to 0.019 and 2.1, clean from 0.034)
FRAME_EVEN, FRAME_STEP = 8, 16  # grey levels of 255: within the frame; between frame and depth
FRAME_LEAST, FRAME_EDGE = 0.01, 0.6  # width as a share of the side; share of the inner edge that steps (0.79)
COLOURED = 32, 0.001  # difference of channels of 255, share of pixels

Picture = Shaped[np.ndarray, "h w *c"]


@dataclass(frozen=True)
class Fault:
    """Something wrong: a kind of FAULT_KINDS, the file that has it, and figures."""

    kind: str
    file: str
    detail: str = ""


def broken(data: bytes) -> str:
    """Kind of a file that cannot be decoded: "truncated" where it begins as a picture does, else "unreadable"."""
    begins = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"BM", b"II*\0", b"MM\0*", b"RIFF")
    return "truncated" if data.startswith(begins) else "unreadable"


def image_channels(mode: str) -> str:
    """What is wrong with an image of this mode of Pillow's; "" if it has three colours."""
    return {"L": "grey, 1 channel", "LA": "grey with alpha", "1": "black and white", "RGBA": "4 channels"}.get(mode, "")


def truth_channels(pixels: Picture) -> str:
    """What is wrong with the channels of a mask or depth map; "" if they are one, or equal and opaque."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return ""
    if pixels.shape[2] == 4 and pixels[..., 3].min() < pixels[..., 3].max():
        return "alpha that is not the same everywhere"
    colours = pixels[..., :3].astype(np.float32) * _to_bytes(pixels)
    differing = float(np.mean(colours.max(axis=2) - colours.min(axis=2) > COLOURED[0]))
    return f"colours in {differing:.0%} of it" if differing > COLOURED[1] else ""


def single(pixels: Picture) -> Shaped[np.ndarray, "h w"]:
    """The one channel of a mask or depth map whose channels are equal."""
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def share_of_mask(mask: Shaped[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """A mask as stored -> 0..1; one of 0 and 1 is taken for what it is."""
    full = 1.0 if mask.max(initial=0) <= 1 else 255.0 if mask.dtype == np.uint8 else float(np.iinfo(mask.dtype).max)
    return mask.astype(np.float32) / np.float32(full)


def mask_faults(share: Float32[np.ndarray, "h w"]) -> dict[str, str]:
    """Faults that a mask in 0..1 has by itself, kind -> detail."""
    inside = share > 0.5
    cover = float(inside.mean())
    found = {}
    grey = _greys(share, inside)
    if grey > LEAST_GREY:
        found["not binary"] = f"greys in {grey:.0%} of it"
    if cover < EMPTY:
        found["empty mask"] = f"largest value {share.max(initial=0):.2f} of 1"
    elif cover > FULL:
        found["full mask"] = f"covers {cover:.1%}"
    elif stray := _stray_parts(inside):
        found["stray part"] = f"{stray} px of {inside.sum()}"
    return found


def shifted(image: UInt8[np.ndarray, "h w 3"], share: Float32[np.ndarray, "rows columns"]) -> str:
    """Where the mask fits much better than where it is; "" if nowhere."""
    small = cv2.resize(image, (PX, PX), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    fit = contour_fit(small, small_mask(share))
    if fit is None or fit.ratio < SHIFT_RATIO or fit.lead < SHIFT_LEAD:
        return ""
    down, right = fit.shift
    return (
        f"fits {fit.ratio:.1f} times as well {abs(down):.0%} {'lower' if down > 0 else 'higher'}, {abs(right):.0%} "
        + ("right" if right > 0 else "left")
    )


def small_mask(share: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "px px"]:
    """0 or 1 at the size of comparisons."""
    return (cv2.resize(share, (PX, PX), interpolation=cv2.INTER_AREA) > 0.5).astype(np.float32)


def frame(depth: Shaped[np.ndarray, "h w"], missing: int | None) -> tuple[int, int, int, int] | None:
    """Widths (top, bottom, left, right) of an even frame with a straight inner edge; None where there is none.

    Values that mean unknown are no frame: cameras leave a margin.
    """
    if not np.issubdtype(depth.dtype, np.integer) or depth[0, 0] == missing:
        return None
    away = np.abs(depth.astype(np.float32) - np.float32(depth[0, 0])) * _to_bytes(depth)
    widths = [_border(side) for side in (away, away[::-1], away.T, away.T[::-1])]
    if None in widths:
        return None
    top, bottom, left, right = (width for width in widths if width is not None)
    return top, bottom, left, right


def ignored(step: Step, sign: int) -> bool:
    """Does depth go on over the object's edge as if it were not there?

    Args:
        step: Of `alignment.depth_step`.
        sign: 1 if near values are larger, -1 if smaller, 0 if that is not known: then either step counts.
    """
    values = (step.slope, step.lead, step.faint_lead)
    slope, lead, faint = (abs(value) for value in values) if sign == 0 else (sign * value for value in values)
    return slope < STEP and lead < STEP_LEAD and faint < FAINT_LEAD


def step_at_contour(
    depth: Shaped[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"], share: Float32[np.ndarray, "rows columns"]
) -> Step | None:
    """`alignment.depth_step` of a depth map as stored; unknown pixels take the median, and do not step."""
    values = depth.astype(np.float32)
    if not valid.any():
        return None
    values = np.where(valid, values, np.float32(np.median(values[valid])))
    return depth_step(cv2.resize(values, (PX, PX), interpolation=cv2.INTER_AREA), small_mask(share))


def _greys(share: Float32[np.ndarray, "h w"], inside: Bool[np.ndarray, "h w"]) -> float:
    """Share of pixels that are grey and no part of a soft edge."""
    grey = (share > GREY[0]) & (share < GREY[1])
    if grey.mean() <= LEAST_GREY:
        return 0.0
    marks = inside.astype(np.uint8)
    distance = sum(cv2.distanceTransform(side, cv2.DIST_L2, 3) for side in (marks, 1 - marks))
    return float(np.mean(grey & (distance > EDGE_SHARE * max(share.shape) + 1)))


def _stray_parts(inside: Bool[np.ndarray, "h w"]) -> int:
    """Pixels of parts that are small, yet no crumbs, and far from the largest part."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    if count < 3:
        return 0
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = int(areas.argmax()) + 1
    small = (areas >= STRAY_LEAST * inside.size) & (areas <= STRAY_MOST * areas.max())
    if not small.any():
        return 0
    distance = cv2.distanceTransform((labels != largest).astype(np.uint8), cv2.DIST_L2, 5)
    far = [part for part in np.flatnonzero(small) + 1 if distance[labels == part].min() > STRAY_GAP * max(inside.shape)]
    return int(sum(areas[part - 1] for part in far))


def _border(away: Float32[np.ndarray, "h w"]) -> int | None:
    """Rows from the top that are even; None where too few, or where what follows is not set off from them."""
    even = away.max(axis=1) <= FRAME_EVEN
    width = int(even.argmin()) if not even.all() else len(even)
    inner = min(width + 2, len(away) - 1)  # resampling blurs the edge
    if width < max(2, FRAME_LEAST * len(away)) or width >= len(away) // 2:
        return None
    return width if float(np.mean(away[inner] > FRAME_STEP)) >= FRAME_EDGE else None


def _to_bytes(pixels: Picture) -> np.float32:
    """Factor from stored values to 0..255."""
    return np.float32(255 / np.iinfo(pixels.dtype).max) if np.issubdtype(pixels.dtype, np.integer) else np.float32(255)
