"""Solids of the built-in scenes, their exact intersections with rays, and the vector arithmetic for both.

Coordinates are metres: x right, y up, z ahead. Rays are `origin + t * ray`; a hit is the smallest t > 0, or infinity.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from data.scenes.textures import Material, Points, noise

Vectors = Float[np.ndarray, "*#n 3"]
Distances = Float[np.ndarray, "*#n"]
Vector = Float32[np.ndarray, "3"]
Matrix = Float32[np.ndarray, "3 3"]
Number = float | int  # checked at run time in tests, where an int is no float
Triple = tuple[Number, Number, Number]

EPS = np.float32(1e-4)
INFINITY = np.float32(np.inf)


def dot(a: Vectors, b: Vectors) -> Distances:
    """Return scalar products along the last axis; a plain sum over an axis of three is many times slower."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def unit(vectors: Vectors) -> Vectors:
    """Return vectors of length 1 in the same directions."""
    return vectors / np.sqrt(dot(vectors, vectors) + np.float32(1e-12))[..., None]


def join(x: Distances, y: Distances, z: Distances) -> Vectors:
    """Stack coordinates so that each is contiguous in memory, which makes arithmetic several times faster."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Solid:
    """Base class of all solids. Subclasses implement `hit_local`, `surface_local` and `box` in their own frame."""

    material: Material
    centre: Triple | Vector = (0.0, 0.0, 0.0)  # origin of the solid's own frame in the world
    axes: Matrix | None = None  # own axes in the world, one per column; None if they are the world's
    casts: bool = True  # whether it casts a shadow

    def hit_local(self, start: Vectors, step: Vectors) -> Distances:
        """Return t of the first hit of each ray of the solid's own frame."""
        raise NotImplementedError

    def surface_local(self, points: Vectors) -> tuple[Vectors, Points, Points]:
        """Return the outward normal and two surface coordinates (metres) of points on the surface."""
        raise NotImplementedError

    def box(self) -> tuple[Triple, Triple]:
        """Return the lowest and highest corner in the solid's own frame."""
        raise NotImplementedError

    def moved(self, turn: Matrix, shift: Triple | Vector = (0.0, 0.0, 0.0)) -> "Solid":
        """Return the solid after a rotation about the world's origin and a shift."""
        axes = turn if self.axes is None else turn @ self.axes
        return replace(self, centre=turn @ floats(self.centre) + floats(shift), axes=axes)

    def hit(self, origin: Vectors, rays: Vectors) -> Distances:
        """Return t of the first hit of each ray, infinity where the ray misses."""
        return self.hit_local(self._to_local(origin - floats(self.centre)), self._to_local(rays))

    def surface(self, points: Vectors) -> tuple[Vectors, Points, Points]:
        """Return the outward normal and two surface coordinates (metres) of points on the surface."""
        normal, u, v = self.surface_local(self._to_local(points - floats(self.centre)))
        return (normal if self.axes is None else multiply(normal, self.axes.T)), u, v

    @cached_property
    def corners(self) -> Vectors:
        """Eight corners of a box around the solid."""
        corners = _grid(*self.box())
        return (corners if self.axes is None else corners @ self.axes.T) + floats(self.centre)

    @cached_property
    def sphere(self) -> tuple[Vector, np.float32]:
        """Middle and radius of a sphere around the solid."""
        middle = self.corners.mean(axis=0)
        return middle, np.float32(np.linalg.norm(self.corners[0] - middle))

    def _to_local(self, vectors: Vectors) -> Vectors:
        return vectors if self.axes is None else multiply(vectors, self.axes)


def _grid(low: Triple | Vector, high: Triple | Vector) -> Vectors:
    """Return the eight corners of a box."""
    return floats([[(low, high)[k >> axis & 1][axis] for axis in range(3)] for k in range(8)])


def gap_m(solid: Solid, point: Triple) -> float:
    """Return the distance in metres from a point to the box around a solid."""
    nearest = np.clip(floats(point), solid.corners.min(axis=0), solid.corners.max(axis=0))
    return float(np.linalg.norm(nearest - floats(point)))


def _safe(values: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    return np.where(np.abs(values) < 1e-7, np.float32(1e-7), values)


def _first_root(a: Distances, b: Distances, c: Distances) -> Distances:
    """Return the smaller root of a t^2 + 2 b t + c, the larger if a < 0; infinity if there is none or it is behind."""
    discriminant = b * b - a * c
    root = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    return np.where((discriminant > 0) & (root > EPS), root, INFINITY)


@dataclass(frozen=True, kw_only=True, eq=False)
class Box(Solid):
    """A box with half sides `half` around its centre."""

    half: Triple

    def hit_local(self, start: Vectors, step: Vectors) -> Distances:  # noqa: D102
        inverse = 1 / _safe(step)
        reach, middle = np.abs(inverse) * floats(self.half), -start * inverse
        near, far = middle - reach, middle + reach
        enter = np.maximum(np.maximum(near[..., 0], near[..., 1]), near[..., 2])
        leave = np.minimum(np.minimum(far[..., 0], far[..., 1]), far[..., 2])
        return np.where((enter < leave) & (enter > EPS), enter, INFINITY)

    def surface_local(self, points: Vectors) -> tuple[Vectors, Points, Points]:  # noqa: D102
        face = np.abs(points / floats(self.half)).argmax(axis=-1)
        sign = np.sign(np.take_along_axis(points, face[..., None], axis=-1)[..., 0])
        x, y, z = ((face == axis) * sign for axis in range(3))
        u = np.where(face == 0, points[..., 2], points[..., 0]) + face.astype(np.float32) * np.float32(3.3) * sign
        return join(x, y, z), u, np.where(face == 1, points[..., 2], points[..., 1])

    def box(self) -> tuple[Triple, Triple]:  # noqa: D102
        x, y, z = self.half
        return (-x, -y, -z), self.half


@dataclass(frozen=True, kw_only=True, eq=False)
class Ellipsoid(Solid):
    """An ellipsoid. `ragged` > 0 frays its outline like leaves."""

    radii: Triple
    ragged: float = 0.0

    def hit_local(self, start: Vectors, step: Vectors) -> Distances:  # noqa: D102
        start, step = start / floats(self.radii), step / floats(self.radii)
        a = dot(step, step)
        hits = _first_root(a, dot(start, step), dot(start, start) - 1)
        if not self.ragged:
            return hits
        at = start + np.where(np.isfinite(hits), hits, 0)[..., None] * step
        facing = np.abs(dot(at, step)) / np.sqrt(a)
        grain = noise(at[..., 0] * 2 + at[..., 2] + self.centre[0], at[..., 1] * 2 + self.centre[2], 0.9)
        return np.where(facing < self.ragged * (grain * 2 - 0.35), INFINITY, hits)

    def surface_local(self, points: Vectors) -> tuple[Vectors, Points, Points]:  # noqa: D102
        normal = unit(points / floats(self.radii) ** 2)
        return normal, np.arctan2(points[..., 0], points[..., 2]) * np.float32(self.radii[0]), points[..., 1]

    def box(self) -> tuple[Triple, Triple]:  # noqa: D102
        x, y, z = self.radii
        return (-x, -y, -z), self.radii


@dataclass(frozen=True, kw_only=True, eq=False)
class Frustum(Solid):
    """A cylinder or cone from the origin of its frame (radius `foot`) along y to `height` (radius `top`)."""

    foot: float
    top: float
    height: float
    # True if it is swept by a sphere whose radius goes from `foot` to `top`, as a limb; else its ends are flat discs.
    rounded: bool = False

    def hit_local(self, start: Vectors, step: Vectors) -> Distances:  # noqa: D102
        ends = ((0.0, self.foot), (self.height, self.top))
        if self.rounded:
            shrink = (self.foot - self.top) / self.height  # sine of the angle of the cone that touches both spheres
            wide = float(np.sqrt(max(1 - shrink * shrink, 0.0)))
            hits = self._side(start, step, *((y + shrink * radius, wide * radius) for y, radius in ends))
            caps = (self._sphere(start, step, *end) for end in ends)
        else:
            hits = self._side(start, step, *ends)
            caps = (self._disc(start, step, *end) for end in ends)
        for cap in caps:
            hits = np.minimum(hits, cap)
        return hits

    @staticmethod
    def _side(start: Vectors, step: Vectors, low: tuple[float, float], high: tuple[float, float]) -> Distances:
        slope = np.float32((high[1] - low[1]) / (high[0] - low[0]))
        x, y, z = start[..., 0], start[..., 1] - np.float32(low[0]), start[..., 2]
        dx, dy, dz = step[..., 0], step[..., 1], step[..., 2]
        radius, change = np.float32(low[1]) + slope * y, slope * dy
        a = _safe(dx * dx + dz * dz - change * change)  # below 0 along the axis: then this root is the later one
        side = _first_root(a, x * dx + z * dz - radius * change, x * x + z * z - radius * radius)
        level = y + np.where(np.isfinite(side), side, 0) * dy
        return np.where((level >= 0) & (level <= high[0] - low[0]), side, INFINITY)

    @staticmethod
    def _disc(start: Vectors, step: Vectors, y: float, radius: float) -> Distances:
        reach = (np.float32(y) - start[..., 1]) / _safe(step[..., 1])
        off = (start[..., 0] + reach * step[..., 0]) ** 2 + (start[..., 2] + reach * step[..., 2]) ** 2
        return np.where((reach > EPS) & (off < radius * radius), reach, INFINITY)

    @staticmethod
    def _sphere(start: Vectors, step: Vectors, y: float, radius: float) -> Distances:
        start = start - floats([0, y, 0])
        return _first_root(dot(step, step), dot(start, step), dot(start, start) - np.float32(radius * radius))

    def surface_local(self, points: Vectors) -> tuple[Vectors, Points, Points]:  # noqa: D102
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        around = np.arctan2(x, z) * np.float32(max(self.foot, self.top))
        shrink = np.float32(self.foot - self.top)
        if self.rounded:
            place = (self.height * y - shrink * self.foot) / (self.height**2 - shrink**2)
            return unit(join(x, y - self.height * np.clip(place, 0, 1), z)), around, y
        out = np.hypot(x, z)
        lid = ((y > self.height - 1e-3) & (out < self.top - 1e-3)) | ((y < 1e-3) & (out < self.foot - 1e-3))
        level = np.where(lid, np.sign(y - self.height / 2), shrink / self.height)
        return unit(join(x * ~lid, level * np.maximum(out, EPS), z * ~lid)), around, y

    def box(self) -> tuple[Triple, Triple]:  # noqa: D102
        wide = max(self.foot, self.top)
        return (-wide, 0.0, -wide), (wide, self.height, wide)

    @cached_property
    def corners(self) -> Vectors:  # noqa: D102
        if not self.rounded:
            return super().corners
        start = floats(self.centre)
        end = start + np.float32(self.height) * (floats([0, 1, 0]) if self.axes is None else self.axes[:, 1])
        low = np.minimum(start - self.foot, end - self.top)
        return _grid(low, np.maximum(start + self.foot, end + self.top))


def box(material: Material, centre: Triple, half: Triple, yaw: float = 0.0, *, casts: bool = True) -> Box:
    """Return a box turned about the vertical by `yaw`."""
    return Box(material=material, centre=centre, half=half, axes=rotation(yaw) if yaw else None, casts=casts)


def ball(material: Material, centre: Triple, *radii: float, ragged: float = 0.0) -> Ellipsoid:
    """Return an upright ellipsoid; one radius makes a sphere."""
    x, y, z = radii * 3 if len(radii) == 1 else radii
    casts = max(x, y, z) > 0.04  # shadows of eyes and buttons are not worth their computing time
    return Ellipsoid(material=material, centre=centre, radii=(x, y, z), ragged=ragged, casts=casts)


def rod(
    material: Material, start: Triple | Vector, end: Triple | Vector, foot: float, top: float | None = None,
    *, rounded: bool = True,
) -> Frustum:  # fmt: skip
    """Return a limb, or a flat-ended cylinder or cone, from one point to another."""
    way = floats(end) - floats(start)
    height = float(np.linalg.norm(way))
    up = way / np.float32(height)
    x, y, z = up.tolist()
    y = y if abs(z) < 0.99999 else y + 1e-4  # any side will do for a rod along z
    across = float(np.hypot(x, y))
    turned = floats([[y / across, x, -x * z / across], [-x / across, y, -y * z / across], [0, z, across]])
    top = foot if top is None else top
    axes = None if y > 0.9999 else turned
    return Frustum(material=material, centre=start, axes=axes, foot=foot, top=top, height=height, rounded=rounded)
