"""What composites are made from: photos with sensor depth and RGBA cut-outs, found, checked and read.

Knows nothing of how they are put together.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.dataset import DataError
from data.decode import read_picture

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
NO_READING = (0, 65535)  # millimetres that depth cameras write where they saw nothing
OPAQUE_BYTE = 200
FAINT = 8 / 255  # alpha below this is margin


@dataclass(frozen=True)
class Photo:
    """A photo and its depth in metres, 0 where not known; the shorter side has the size asked for."""

    image: UInt8[np.ndarray, "h w 3"]
    depth_m: Float32[np.ndarray, "h w"]


@dataclass(frozen=True)
class CutOut:
    """A thing without its margin: RGB (0..255) premultiplied with alpha, and alpha in [0, 1]."""

    colour: Float32[np.ndarray, "h w 3"]
    alpha: Float32[np.ndarray, "h w"]


def find_photos(folder: Path) -> tuple[tuple[Path, Path], ...]:
    """Photos and their depth files, in the order of their names.

    Args:
        folder: Holds images/ and depth/ with equal stems.

    Raises:
        DataError: A folder or a photo's depth is missing.
    """
    images = _pictures(folder / "images", "photos")
    depths = {path.stem: path for path in _pictures(folder / "depth", "their depth (16-bit mm)")}
    for path in images:
        if path.stem not in depths:
            raise DataError(
                f"{path}: no depth for this photo; add {folder / 'depth' / path.stem}.png or remove the photo"
            )
    return tuple((path, depths[path.stem]) for path in images)


def find_cutouts(folder: Path) -> tuple[Path, ...]:
    """Cut-outs in the order of their names, each looked at.

    Raises:
        DataError: No folder, a picture without alpha or without anything opaque.
    """
    paths = _pictures(folder, "RGBA cut-outs")
    for path in paths:
        read_cutout(path)
    return paths


def _pictures(folder: Path, what: str) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; it should hold {what}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not paths:
        raise DataError(f"{folder}: no pictures in it; put {what} there ({', '.join(SUFFIXES)})")
    return tuple(paths)


@lru_cache(maxsize=4)
def read_photo(image: Path, depth: Path, px: int) -> Photo:
    """Read a photo and its depth so that the shorter side measures `px`.

    Raises:
        DataError: A file that cannot be read, or depth that is not 16 bits in one channel.
    """
    colours = cv2.cvtColor(read_picture(image, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    raw = read_picture(depth, cv2.IMREAD_UNCHANGED)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        found = f"{raw.dtype.itemsize * 8}-bit with {raw.shape[2] if raw.ndim == 3 else 1} channels"
        raise DataError(f"{depth}: depth is {found}; it must be 16-bit millimetres in one channel, 0 = missing")
    scale = px / min(colours.shape[:2])
    size = tuple(max(px, round(side * scale)) for side in colours.shape[1::-1])
    metres = np.where(np.isin(raw, NO_READING), np.float32(0), raw * np.float32(0.001))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return Photo(
        cv2.resize(colours, size, interpolation=method), cv2.resize(metres, size, interpolation=cv2.INTER_NEAREST)
    )


@lru_cache(maxsize=256)
def read_cutout(path: Path) -> CutOut:
    """Read a cut-out and take off its margin.

    Raises:
        DataError: Not readable, no alpha, or nothing opaque in it.
    """
    pixels = read_picture(path, cv2.IMREAD_UNCHANGED)
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise DataError(f"{path}: not RGBA with 8 bits; cut the thing out and save it as PNG with transparency")
    if not (pixels[..., 3] >= OPAQUE_BYTE).any():
        raise DataError(f"{path}: nothing opaque in it (alpha >= {OPAQUE_BYTE} nowhere); remove it")
    alpha = pixels[..., 3].astype(np.float32) / np.float32(255)
    rows, columns = (np.flatnonzero((alpha > FAINT).any(axis=axis)) for axis in (1, 0))
    inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    colour = pixels[..., 2::-1].astype(np.float32) * alpha[..., None]
    return CutOut(np.ascontiguousarray(colour[inside]), alpha[inside])
