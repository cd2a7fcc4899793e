"""Pictures of a prediction: what is written beside a photo, and the sheet that shows many photos at a glance.

Pictures are as OpenCV writes them, blue before red. Knows neither networks nor files.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from data.visualize import apply_colormap

TINT = (230, 20, 255)  # magenta, blue before red: seldom the colour of a thing
TINT_SHARE = 0.4
CELL = (160, 120)  # width and height of a thumbnail
CAPTION_PX = 18
GAP = 4  # between thumbnails
ABREAST = 2  # rows side by side
COLUMNS = ("photo", "mask", "depth", "overlay")

Photo = UInt8[np.ndarray, "h w 3"]
Mask = UInt8[np.ndarray, "h w"]
Depth = UInt16[np.ndarray, "h w"]
Picture = UInt8[np.ndarray, "h w c"]


def depth_colour(depth: Depth) -> Picture:
    """Return depth in colours, near bright."""
    return apply_colormap((depth >> 8).astype(np.uint8))


def overlay(photo: Photo, mask: Mask) -> Picture:
    """Return the photo, tinted as far as it is foreground, with the outline of what is above one half."""
    tint = (np.array(TINT) * TINT_SHARE).astype(np.uint8)
    tinted = cv2.convertScaleAbs(photo, alpha=1 - TINT_SHARE) + tint
    share = mask * np.float32(1 / 255)
    mixed = cv2.blendLinear(tinted, photo, share, 1 - share)
    outlines, _ = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(min(mask.shape) / 200))
    return cv2.drawContours(mixed, outlines, -1, TINT, thickness, cv2.LINE_AA)


def pictures(photo: Photo, mask: Mask, depth: Depth) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each picture of a prediction with the ending of its name, one at a time, for photos may be large.

    Those that are only looked at are JPEGs: as PNGs they would take a third of all the time and of all the room.
    """
    yield "mask.png", mask
    yield "depth.png", depth
    yield "depth_colour.jpg", depth_colour(depth)
    yield "overlay.jpg", overlay(photo, mask)
    yield "cutout.png", np.dstack([photo, mask])


def sheet_row(name: str, photo: Photo, mask: Mask, depth: Depth) -> Picture:
    """Return thumbnails of photo, mask, depth and overlay side by side under the photo's name."""
    scale = min(CELL[0] / mask.shape[1], CELL[1] / mask.shape[0])
    size = tuple(max(1, round(side * scale)) for side in mask.shape[::-1])
    small_photo, small_mask, small_depth = (_thumbnail(values, size) for values in (photo, mask, depth))
    grey = cv2.cvtColor(small_mask, cv2.COLOR_GRAY2BGR)
    panels = (small_photo, grey, depth_colour(small_depth), overlay(small_photo, small_mask))
    return np.vstack([_caption(name), np.hstack([_cell(panel) for panel in panels])])


def contact_sheet(rows: Sequence[Picture]) -> Picture:
    """Return rows below and beside each other, the names of the columns on top."""
    header = np.hstack([_caption(column, CELL[0] + GAP) for column in COLUMNS])
    blank = np.full_like(rows[0], 255)
    abreast = min(ABREAST, len(rows))
    filled = [*rows, *[blank] * (-len(rows) % abreast)]
    lines = [np.hstack(filled[i : i + abreast]) for i in range(0, len(filled), abreast)]
    return np.vstack([np.hstack([header] * abreast), *lines])


def _thumbnail(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def _cell(panel: Picture) -> Picture:
    """Return a thumbnail in the top left corner of a cell, just below its caption."""
    cell = np.full((CELL[1] + GAP, CELL[0] + GAP, 3), 255, np.uint8)
    cell[: panel.shape[0], : panel.shape[1]] = panel
    return cell


def _caption(text: str, width: int = (CELL[0] + GAP) * len(COLUMNS)) -> Picture:
    strip = np.full((CAPTION_PX, width, 3), 255, np.uint8)
    fits = width // 7  # letters are seven pixels wide on average
    text = text.encode("ascii", "replace").decode()  # OpenCV draws no other letters, and breaks on some
    shown = text if len(text) <= fits else ".." + text[2 - fits :]
    return cv2.putText(strip, shown, (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
