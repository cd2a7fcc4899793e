"""RGBA cut-outs: found, checked and read, their edges freed from what they were cut out of."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from data.compose.backgrounds import pictures_in
from data.dataset import DataError
from data.reading.decode import read_image

OPAQUE_BYTE = 200  # the study's threshold of alpha for its masks
FAINT = 8  # alpha below this is margin
SOLID = 250  # from this alpha on the colour is the thing's own
EDGE_SIGMA_PX = 1.2  # colours reach so far over the edge
REACH = 0.02  # weight of solid pixels from which they give an edge its colour


def find_cutouts(folder: Path) -> tuple[Path, ...]:
    """Cut-outs in the order of their names.

    Raises:
        DataError: No folder, or nothing in it.
    """
    return pictures_in(folder, "RGBA cut-outs")


@lru_cache(maxsize=256)
def read_cutout(path: Path, longest_px: int) -> UInt8[np.ndarray, "h w 4"]:
    """Read a cut-out, take off its margin, shrink it, and free its edge from the colours it was cut out of.

    Args:
        path: RGBA with 8 bits.
        longest_px: What the longer side of the result measures at most.

    Returns:
        RGB premultiplied with alpha, and alpha.

    Raises:
        DataError: Not readable, no alpha, or nothing opaque in it.
    """
    pixels = read_image(path, cv2.IMREAD_UNCHANGED)
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise DataError(f"{path}: not RGBA with 8 bits; cut the thing out and save it as PNG with transparency")
    if not (pixels[..., 3] >= OPAQUE_BYTE).any():
        raise DataError(f"{path}: nothing opaque in it (alpha >= {OPAQUE_BYTE} nowhere); remove it")
    rows, columns = (np.flatnonzero((pixels[..., 3] > FAINT).any(axis=axis)) for axis in (1, 0))
    inside = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, [2, 1, 0, 3]]
    return clean_edges(_shrunk(np.ascontiguousarray(inside), longest_px))


def _shrunk(pixels: UInt8[np.ndarray, "h w 4"], longest_px: int) -> UInt8[np.ndarray, "h2 w2 4"]:
    """The same with colours not yet premultiplied; averages weigh colours with their alpha."""
    scale = longest_px / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = tuple(max(1, round(side * scale)) for side in pixels.shape[1::-1])
    alpha = cv2.resize(pixels[..., 3].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    colour = pixels[..., :3].astype(np.float32) * pixels[..., 3:]
    colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA) / np.maximum(alpha, 1e-3)[..., None]
    return np.dstack([np.clip(colour, 0, 255), alpha]).round().astype(np.uint8)


def clean_edges(pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Premultiply, having given translucent pixels the colour of the solid ones beside them.

    What is cut out of a photo has the colours of what stood behind it mixed into its edge, which show as a halo before
    anything else. Translucent pixels with nothing solid near keep their own colours, as glass and shadows need.

    Args:
        pixels: RGB and alpha.

    Returns:
        RGB premultiplied with alpha, and alpha.
    """
    alpha = pixels[..., 3]
    solid = (alpha >= SOLID).astype(np.float32)
    colour = pixels[..., :3].astype(np.float32)
    weight = cv2.GaussianBlur(solid, (0, 0), EDGE_SIGMA_PX)
    beside = cv2.GaussianBlur(colour * solid[..., None], (0, 0), EDGE_SIGMA_PX) / np.maximum(weight, 1e-6)[..., None]
    edge = (solid == 0) & (weight > REACH)
    colour = np.where(edge[..., None], beside, colour) * (alpha[..., None] * np.float32(1 / 255))
    return np.dstack([np.clip(colour + np.float32(0.5), 0, 255).astype(np.uint8), alpha])
