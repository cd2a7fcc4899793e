"""Which backgrounds are one and the same picture, whatever stands before them. Pure.

A trace is the grey picture at 16 x 16, its cells under the object left out, so that composites on one background are
alike and a changed brightness does not matter.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

SIDE = 16
ALIKE = 0.95  # correlation of the cells that two traces share (118 different photos: up to 0.81)
LEAST_CELLS = 96  # of 256 that must be shared
LEAST_SPREAD = 6.0  # standard deviation in grey levels; flatter pictures are alike by chance
BLOCK = 512  # rows of the table of all pairs that are computed at a time
MOST = 12_000  # traces of which all pairs are compared

Trace = UInt8[np.ndarray, "256"]  # 0 = under the object, 1..255 grey
Traces = UInt8[np.ndarray, "n 256"]


def trace(image: UInt8[np.ndarray, "h w 3"], share: Float32[np.ndarray, "h w"] | None) -> Trace:
    """Return the trace of an RGB image, with its mask in 0..1 if it has one of its size."""
    grey = cv2.cvtColor(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    cells = np.clip(grey, 1, 255)
    if share is not None:
        cells = cells * (cv2.resize(share, (SIDE, SIDE), interpolation=cv2.INTER_AREA) < 0.02).astype(np.uint8)
    return np.asarray(cells.ravel())


def alike(some: Traces, others: UInt8[np.ndarray, "m 256"]) -> Bool[np.ndarray, "n m"]:
    """Tell for all pairs whether they are one picture; those that cannot be told are not."""
    a, b = _moments(some), _moments(others)
    shared = a[0] @ b[0].T
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_a, mean_b = a[1] @ b[0].T / shared, a[0] @ b[1].T / shared
        var_a, var_b = a[2] @ b[0].T / shared - mean_a**2, a[0] @ b[2].T / shared - mean_b**2
        correlation = (a[1] @ b[1].T / shared - mean_a * mean_b) / np.sqrt(var_a * var_b)
    spread = np.minimum(var_a, var_b) > LEAST_SPREAD**2
    return np.asarray((shared >= LEAST_CELLS) & spread & (correlation > ALIKE))


def repeats(traces: Traces) -> list[tuple[int, int]]:
    """Find each trace that repeats an earlier one: (first, later)."""
    found = []
    for start in range(0, len(traces), BLOCK):
        same = alike(traces[start : start + BLOCK], traces)
        for row in np.flatnonzero(same.any(axis=1)):
            first = int(same[row].argmax())
            if first < start + row:
                found.append((first, int(start + row)))
    return found


def neighbours(traces: Traces) -> Bool[np.ndarray, " m"]:
    """Tell for each but the last whether the next is the same picture."""
    blocks = [
        np.diagonal(alike(traces[i : i + BLOCK], traces[i + 1 : i + 1 + BLOCK]))
        for i in range(0, len(traces) - 1, BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0, bool)


def _moments(traces: Traces) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = traces.astype(np.float64)
    return (traces > 0).astype(np.float64), values, values**2
