"""Perceptual hashes that recognise one background under different foregrounds.

A hash is the grey image at 16 x 16 pixels without the cells under the foreground. Hashes are compared by correlation,
which does not depend on brightness.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

SIDE = 16
MIN_CORRELATION = 0.95  # correlation of the cells that two hashes share (118 different photos: at most 0.81)
MIN_SHARED_CELLS = 96  # cells of 256
MIN_STD = 6.0  # grey levels; flatter images correlate by chance
BLOCK = 512  # rows of the table of all pairs that are computed at a time
MAX_HASHES = 12_000  # hashes of which all pairs are compared

Hash = UInt8[np.ndarray, "256"]  # 0 = under the foreground, 1..255 = grey
Hashes = UInt8[np.ndarray, "n 256"]


def compute_hash(image: UInt8[np.ndarray, "h w 3"], mask: Float32[np.ndarray, "h w"] | None) -> Hash:
    """Hash an RGB image; `mask` in [0, 1], of the image's size, marks the foreground to leave out."""
    grey = cv2.cvtColor(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    cells = np.clip(grey, 1, 255)
    if mask is not None:
        cells = cells * (cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA) < 0.02).astype(np.uint8)
    return np.asarray(cells.ravel())


def match_pairs(hashes: Hashes, others: UInt8[np.ndarray, "m 256"]) -> Bool[np.ndarray, "n m"]:
    """Compare all pairs of hashes; pairs that share too few cells, or flat ones, do not match."""
    a, b = _compute_moments(hashes), _compute_moments(others)
    shared = a[0] @ b[0].T
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_a, mean_b = a[1] @ b[0].T / shared, a[0] @ b[1].T / shared
        var_a, var_b = a[2] @ b[0].T / shared - mean_a**2, a[0] @ b[2].T / shared - mean_b**2
        correlation = (a[1] @ b[1].T / shared - mean_a * mean_b) / np.sqrt(var_a * var_b)
    varied = np.minimum(var_a, var_b) > MIN_STD**2
    return np.asarray((shared >= MIN_SHARED_CELLS) & varied & (correlation > MIN_CORRELATION))


def find_repeats(hashes: Hashes) -> list[tuple[int, int]]:
    """Find each hash that matches an earlier one, as pairs (first, later) of positions."""
    found = []
    for start in range(0, len(hashes), BLOCK):
        same = match_pairs(hashes[start : start + BLOCK], hashes)
        for row in np.flatnonzero(same.any(axis=1)):
            first = int(same[row].argmax())
            if first < start + row:
                found.append((first, int(start + row)))
    return found


def match_neighbours(hashes: Hashes) -> Bool[np.ndarray, " m"]:
    """Compare each hash but the last with the next one."""
    blocks = [
        np.diagonal(match_pairs(hashes[i : i + BLOCK], hashes[i + 1 : i + 1 + BLOCK]))
        for i in range(0, len(hashes) - 1, BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0, bool)


def _compute_moments(hashes: Hashes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = hashes.astype(np.float64)
    return (hashes > 0).astype(np.float64), values, values**2
