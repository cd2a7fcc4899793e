"""Find and read RGBA foregrounds, and remove the colours of their former background from their edges.

A DataError names an unusable file.
"""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from data.compose.backgrounds import list_images
from data.dataset import DataError
from data.values.decode import read_cutout

OPAQUE = 200  # alpha from which a pixel belongs to the mask, as in the study
FAINT = 8  # alpha below this is margin
SOLID = 250  # alpha from which a pixel's colour is that of the foreground alone
EDGE_SIGMA_PX = 1.2  # distance over which solid pixels give their colour to the edge
MIN_WEIGHT = 0.02  # weight of solid pixels from which they do so


def list_foregrounds(folder: Path) -> tuple[Path, ...]:
    """List the foregrounds of a folder in the order of their names."""
    return list_images(folder, "RGBA foregrounds")


@lru_cache(maxsize=256)
def read_foreground(path: Path, longest_px: int) -> UInt8[np.ndarray, "h w 4"]:
    """Read an 8-bit RGBA file, crop its margin, shrink it so that its longer side fits, and clean its edges.

    Returns:
        RGB premultiplied with alpha, and alpha.
    """
    pixels = read_cutout(path)
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise DataError(f"{path}: not RGBA with 8 bits; cut the object out and save it as PNG with transparency")
    if not (pixels[..., 3] >= OPAQUE).any():
        raise DataError(f"{path}: has no opaque pixel (alpha >= {OPAQUE}); remove it")
    if pixels[..., 3].min() >= OPAQUE:
        raise DataError(
            f"{path}: nothing in it is transparent (alpha is {OPAQUE} or more everywhere); cut the object out"
        )
    rows, columns = (np.flatnonzero((pixels[..., 3] > FAINT).any(axis=axis)) for axis in (1, 0))
    inside = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, [2, 1, 0, 3]]
    return _clean_edges(_shrink(np.ascontiguousarray(inside), longest_px))


def _shrink(pixels: UInt8[np.ndarray, "h w 4"], longest_px: int) -> UInt8[np.ndarray, "h2 w2 4"]:
    """Shrink pixels that are not premultiplied; averages weight colours with alpha."""
    scale = longest_px / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = tuple(max(1, round(side * scale)) for side in pixels.shape[1::-1])
    alpha = cv2.resize(pixels[..., 3].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    colour = pixels[..., :3].astype(np.float32) * pixels[..., 3:]
    colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA) / np.maximum(alpha, 1e-3)[..., None]
    return np.dstack([np.clip(colour, 0, 255), alpha]).round().astype(np.uint8)


def _clean_edges(pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Give translucent edge pixels the colour of the solid pixels beside them, and premultiply with alpha.

    The edge of a cut-out mixes in the colours of its former background, which would show as a halo. Translucent pixels
    without solid ones nearby keep their colours, as glass and shadows need.
    """
    alpha = pixels[..., 3]
    solid = (alpha >= SOLID).astype(np.float32)
    colour = pixels[..., :3].astype(np.float32)
    weight = cv2.GaussianBlur(solid, (0, 0), EDGE_SIGMA_PX)
    beside = cv2.GaussianBlur(colour * solid[..., None], (0, 0), EDGE_SIGMA_PX) / np.maximum(weight, 1e-6)[..., None]
    edge = (solid == 0) & (weight > MIN_WEIGHT)
    colour = np.where(edge[..., None], beside, colour) * (alpha[..., None] * np.float32(1 / 255))
    return np.dstack([np.clip(colour + np.float32(0.5), 0, 255).astype(np.uint8), alpha])
