# mypy: disable-error-code="no-any-return"
# (arithmetic on arrays of no stated shape has no stated type)
"""Arrays of vectors: the arithmetic that all shapes share."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

Vectors = Float[np.ndarray, "*#n 3"]
Distances = Float[np.ndarray, "*#n"]
Number = float | int  # checked at run time in tests, where an int is no float


def dot(a: Vectors, b: Vectors) -> Distances:
    """Scalar products along the last axis; a plain sum over an axis of three is many times slower."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1 in the same directions."""
    return vectors / np.sqrt(dot(vectors, vectors) + np.float32(1e-12))[..., None]


def join(x: Distances, y: Distances, z: Distances) -> Vectors:
    """Vectors of their coordinates, each in one piece in memory: arithmetic on them is then several times faster."""
    return np.moveaxis(np.stack([x, y, z]), 0, -1)


def pick(vectors: Float[np.ndarray, "... 3"], here: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """Vectors at flat places, in the same memory layout as `join`."""
    x, y, z = (vectors[..., axis].reshape(-1)[here] for axis in range(3))
    return join(x, y, z)


def pixels_by_owner(owner: Int[np.ndarray, "h w"]) -> Iterator[tuple[int, Int[np.ndarray, " n"]]]:
    """Flat places of the pixels of each owner that has any, in ascending order of owners."""
    order = np.argsort(owner.reshape(-1), kind="stable")
    owners, starts = np.unique(owner.reshape(-1)[order], return_index=True)
    yield from zip(owners.tolist(), np.split(order, starts[1:]), strict=True)


def floats(values: Sequence[Any]) -> Float32[np.ndarray, "..."]:
    """Numbers as an array of single precision."""
    return np.array(values, np.float32)
