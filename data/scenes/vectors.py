"""Arithmetic on arrays of vectors, and rotations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

Vectors = Float[np.ndarray, "*#n 3"]
Distances = Float[np.ndarray, "*#n"]
Vector = Float32[np.ndarray, "3"]
Matrix = Float32[np.ndarray, "3 3"]
Number = float | int  # checked at run time in tests, where an int is no float
Triple = tuple[Number, Number, Number]


def dot(a: Vectors, b: Vectors) -> Distances:
    """Return scalar products along the last axis; a plain sum over an axis of three is many times slower."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def unit(vectors: Vectors) -> Vectors:
    """Return vectors of length 1 in the same directions."""
    return vectors / np.sqrt(dot(vectors, vectors) + np.float32(1e-12))[..., None]


def join(x: Distances, y: Distances, z: Distances) -> Vectors:
    """Stack coordinates so that each lies in one piece in memory: arithmetic on them is then several times faster."""
    return np.array((x, y, z)).transpose(*range(1, x.ndim + 1), 0)


def pick(vectors: Float[np.ndarray, "... 3"], here: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """Return the vectors at flat indices, in the memory layout of `join`."""
    x, y, z = (vectors[..., axis].reshape(-1)[here] for axis in range(3))
    return join(x, y, z)


def multiply(vectors: Vectors, matrix: Float32[np.ndarray, "3 3"]) -> Vectors:
    """Return `vectors @ matrix` in the memory layout of `join`."""
    x, y, z = (dot(vectors, matrix[:, axis]) for axis in range(3))
    return join(x, y, z)


def floats(values: Sequence[Any] | np.ndarray) -> Float32[np.ndarray, "..."]:
    """Return numbers as an array of single precision."""
    return np.asarray(values, np.float32)


def rotation(yaw: Number = 0.0, pitch: Number = 0.0, roll: Number = 0.0) -> Matrix:
    """Return the rotation about y (yaw), then x (pitch), then z (roll), in radians."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y).astype(np.float32)
