"""Render a prediction as images, and many predictions as a contact sheet.

Images have OpenCV's channel order: blue, green, red.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from data.loading.visualize import apply_colormap

TINT = (230, 20, 255)  # BGR; magenta is rare in photos
TINT_SHARE = 0.4
CELL = (160, 120)  # width and height of a thumbnail
CAPTION_PX = 18
GAP = 4  # between thumbnails
ROWS_PER_LINE = 2  # rows side by side
COLUMNS = ("photo", "mask", "depth", "overlay")

BGRImage = UInt8[np.ndarray, "h w 3"]
ByteMask = UInt8[np.ndarray, "h w"]
DepthCodes = UInt16[np.ndarray, "h w"]


def colour_depth(depth: DepthCodes) -> BGRImage:
    """Render depth in colours, near = bright."""
    return apply_colormap((depth >> 8).astype(np.uint8))


def draw_overlay(image: BGRImage, mask: ByteMask) -> BGRImage:
    """Tint the foreground of an image in proportion to the mask, and outline where the mask exceeds one half."""
    tint = (np.array(TINT) * TINT_SHARE).astype(np.uint8)
    tinted = cv2.convertScaleAbs(image, alpha=1 - TINT_SHARE) + tint
    share = mask * np.float32(1 / 255)
    mixed = cv2.blendLinear(tinted, image, share, 1 - share)
    outlines, _ = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(min(mask.shape) / 200))
    return cv2.drawContours(mixed, outlines, -1, TINT, thickness, cv2.LINE_AA)


def render_prediction(image: BGRImage, mask: ByteMask, depth: DepthCodes) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each image of a prediction with the suffix of its file name, one at a time, because photos may be large.

    Images that are only viewed are JPEGs: as PNGs they would take a third of the total time and space.
    """
    yield "mask.png", mask
    yield "depth.png", depth
    yield "depth_colour.jpg", colour_depth(depth)
    yield "overlay.jpg", draw_overlay(image, mask)
    yield "cutout.png", np.dstack([image, mask])


def draw_sheet_row(name: str, image: BGRImage, mask: ByteMask, depth: DepthCodes) -> BGRImage:
    """Draw thumbnails of image, mask, depth and overlay side by side under the photo's name."""
    scale = min(CELL[0] / mask.shape[1], CELL[1] / mask.shape[0])
    size = tuple(max(1, round(side * scale)) for side in mask.shape[::-1])
    small_image, small_mask, small_depth = (
        cv2.resize(v, size, interpolation=cv2.INTER_AREA) for v in (image, mask, depth)
    )
    grey = cv2.cvtColor(small_mask, cv2.COLOR_GRAY2BGR)
    panels = (small_image, grey, colour_depth(small_depth), draw_overlay(small_image, small_mask))
    return np.vstack([_caption(name), np.hstack([_cell(panel) for panel in panels])])


def draw_contact_sheet(rows: Sequence[BGRImage]) -> BGRImage:
    """Arrange the rows on a sheet under the names of the columns."""
    header = np.hstack([_caption(column, CELL[0] + GAP) for column in COLUMNS])
    blank = np.full_like(rows[0], 255)
    per_line = min(ROWS_PER_LINE, len(rows))
    filled = [*rows, *[blank] * (-len(rows) % per_line)]
    lines = [np.hstack(filled[i : i + per_line]) for i in range(0, len(filled), per_line)]
    return np.vstack([np.hstack([header] * per_line), *lines])


def _cell(panel: BGRImage) -> BGRImage:
    """Place a thumbnail in the top left corner of a cell, below its caption."""
    cell = np.full((CELL[1] + GAP, CELL[0] + GAP, 3), 255, np.uint8)
    cell[: panel.shape[0], : panel.shape[1]] = panel
    return cell


def _caption(text: str, width: int = (CELL[0] + GAP) * len(COLUMNS)) -> BGRImage:
    strip = np.full((CAPTION_PX, width, 3), 255, np.uint8)
    fits = width // 7  # characters are seven pixels wide on average
    text = text.encode("ascii", "replace").decode()  # OpenCV draws ASCII only, and fails on some other characters
    shown = text if len(text) <= fits else ".." + text[2 - fits :]
    return cv2.putText(strip, shown, (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
