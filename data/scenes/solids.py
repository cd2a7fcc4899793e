# mypy: disable-error-code="no-any-return"
# (arithmetic on arrays of no stated shape has no stated type)
"""Shapes of the built-in scenes and where a ray meets them.

Owns exact geometry in metres (x right, y up, z ahead). Knows neither pictures nor light. Rays are `origin + t * ray`;
a hit is the smallest t > 0, infinity where there is none. Closed forms: quadrics and slabs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.scenes.textures import Colours, Material, Points, noise, paint
from data.scenes.vectors import Distances, Vectors, dot, floats, join, unit

EPS = np.float32(1e-4)


@dataclass(frozen=True, kw_only=True)
class Solid:
    """A painted shape; the base of all shapes.

    Attributes:
        material: What its surface is painted with.
        centre: Middle of the shape (of its foot where the shape says so), metres.
        casts: Whether it throws a shadow.
    """

    material: Material
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    casts: bool = True

    def hit(self, origin: Vectors, rays: Vectors) -> Distances:
        """Where each ray first meets the surface; infinity where it does not."""
        raise NotImplementedError

    def surface(self, points: Vectors) -> tuple[Vectors, Points, Points]:
        """Outward normal and two surface coordinates (metres) of points that lie on the surface."""
        raise NotImplementedError

    def corners(self) -> Vectors | None:
        """Eight corners of a box around the shape; None where it has no end."""
        raise NotImplementedError

    def colours(self, points: Vectors, u: Points, v: Points, blur: Points) -> Colours:
        """Linear colours of surface points."""
        return paint(self.material, u, v, blur)


def gap_m(solid: Solid, point: tuple[float, float, float]) -> float:
    """Distance in metres from a point to the box around a solid; infinity for one without end."""
    corners = solid.corners()
    if corners is None:
        return float("inf")
    nearest = np.clip(floats(point), corners.min(axis=0), corners.max(axis=0))
    return float(np.linalg.norm(nearest - floats(point)))


def _box_corners(low: tuple[float, ...], high: tuple[float, ...]) -> Vectors:
    grid = np.meshgrid(*zip(low, high, strict=True), indexing="ij")
    return np.stack([axis.ravel() for axis in grid], axis=1).astype(np.float32)


def _safe(values: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    return np.where(np.abs(values) < 1e-7, np.float32(1e-7), values)


def _first_root(a: Distances, b: Distances, c: Distances) -> Distances:
    """Smaller root of a t^2 + 2 b t + c, a > 0; infinity where there is none or it lies behind."""
    discriminant = b * b - a * c
    root = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    return np.where((discriminant > 0) & (root > EPS), root, np.float32(np.inf))


@dataclass(frozen=True, kw_only=True)
class Band:
    """A strip of another material on the ground: a road, a path, water. Lengths in metres."""

    material: Material
    turn: float
    middle: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Ground(Solid):
    """The endless plane y = 0, with strips of other materials on it."""

    bands: tuple[Band, ...] = ()
    casts: bool = False

    def hit(self, origin: Vectors, rays: Vectors) -> Distances:
        """Where each ray meets the plane."""
        down = rays[..., 1]
        return np.where(down < -1e-5, origin[..., 1] / np.maximum(-down, 1e-5), np.float32(np.inf))

    def surface(self, points: Vectors) -> tuple[Vectors, Points, Points]:
        """Up, x and z."""
        return np.broadcast_to(floats([0, 1, 0]), points.shape), points[..., 0], points[..., 2]

    def corners(self) -> None:
        """No end."""
        return

    def colours(self, points: Vectors, u: Points, v: Points, blur: Points) -> Colours:
        """Colours of the ground and of the strips on it, their edges frayed by noise."""
        colours = paint(self.material, u, v, blur)
        for band in self.bands:
            across = u * np.float32(np.cos(band.turn)) + v * np.float32(np.sin(band.turn))
            frayed = across + band.width * np.float32(0.05) * (noise(u * 2, v * 2) - np.float32(0.5))
            inside = np.abs(frayed - np.float32(band.middle)) < band.width / 2
            colours[inside] = paint(band.material, u[inside], v[inside], blur[inside])
        return colours


@dataclass(frozen=True, kw_only=True)
class Box(Solid):
    """A box standing upright, turned by `yaw` radians; `half` are its half sides. Seen from inside it is a room."""

    half: tuple[float, float, float]
    yaw: float = 0.0
    inside: bool = False

    def _local(self, vectors: Vectors) -> Vectors:
        cos, sin = np.float32(np.cos(self.yaw)), np.float32(np.sin(self.yaw))
        x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
        return join(x * cos - z * sin, y, x * sin + z * cos)

    def hit(self, origin: Vectors, rays: Vectors) -> Distances:
        """Where each ray enters the box, or leaves it when it is a room."""
        start = self._local(origin - floats(self.centre))
        inverse = 1 / _safe(self._local(rays))
        reach = np.abs(inverse) * floats(self.half)
        middle = -start * inverse
        near, far = middle - reach, middle + reach
        enter = np.maximum(np.maximum(near[..., 0], near[..., 1]), near[..., 2])
        leave = np.minimum(np.minimum(far[..., 0], far[..., 1]), far[..., 2])
        if self.inside:
            return leave
        return np.where((enter < leave) & (enter > EPS), enter, np.float32(np.inf))

    def surface(self, points: Vectors) -> tuple[Vectors, Points, Points]:
        """Normal of the face, and position on it."""
        local = self._local(points - floats(self.centre))
        face = np.abs(local / floats(self.half)).argmax(axis=-1)
        sign = np.sign(np.take_along_axis(local, face[..., None], axis=-1)[..., 0])
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        axes = floats([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
        outward = -sign if self.inside else sign
        normal = join(*(axes[face, axis] * outward for axis in range(3)))
        u = np.where(face == 0, local[..., 2], local[..., 0]) + face.astype(np.float32) * np.float32(3.3) * sign
        return normal, u, np.where(face == 1, local[..., 2], local[..., 1])

    def corners(self) -> Vectors | None:
        """The corners themselves; None for a room."""
        if self.inside:
            return None
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        axes = floats([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
        low = tuple(-side for side in self.half)
        return _box_corners(low, self.half) @ axes + floats(self.centre)


@dataclass(frozen=True, kw_only=True)
class Room(Box):
    """A room seen from inside: walls of the material, another floor and ceiling."""

    floor: Material
    ceiling: Material
    inside: bool = True
    casts: bool = False

    def colours(self, points: Vectors, u: Points, v: Points, blur: Points) -> Colours:
        """Colours of walls, floor and ceiling."""
        colours = paint(self.material, u, v, blur)
        bottom, top = self.centre[1] - self.half[1], self.centre[1] + self.half[1]
        for level, material in ((bottom, self.floor), (top, self.ceiling)):
            here = np.abs(points[..., 1] - np.float32(level)) < 1e-2
            colours[here] = paint(material, u[here], v[here], blur[here])
        skirting = (points[..., 1] < bottom + 0.12) & (points[..., 1] > bottom + 1e-2)
        colours[skirting] *= np.float32(0.55)
        return colours


@dataclass(frozen=True, kw_only=True)
class Ellipsoid(Solid):
    """An ellipsoid with upright axes. `ragged` > 0 frays its outline like leaves."""

    radii: tuple[float, float, float]
    ragged: float = 0.0

    def hit(self, origin: Vectors, rays: Vectors) -> Distances:
        """Where each ray meets the front, minus what the leaves leave open."""
        start, step = (origin - floats(self.centre)) / floats(self.radii), rays / floats(self.radii)
        a = dot(step, step)
        hits = _first_root(a, dot(start, step), dot(start, start) - 1)
        if not self.ragged:
            return hits
        at = start + np.where(np.isfinite(hits), hits, 0)[..., None] * step
        facing = np.abs(dot(at, step)) / np.sqrt(a)
        grain = noise(at[..., 0] * 2 + at[..., 2] + self.centre[0], at[..., 1] * 2 + self.centre[2], 0.9)
        return np.where(facing < self.ragged * (grain * 2 - 0.35), np.float32(np.inf), hits)

    def surface(self, points: Vectors) -> tuple[Vectors, Points, Points]:
        """Normal, angle around (as length) and height."""
        local = points - floats(self.centre)
        normal = unit(local / floats(self.radii) ** 2)
        around = np.arctan2(local[..., 0], local[..., 2]) * np.float32(self.radii[0])
        return normal, around, local[..., 1]

    def corners(self) -> Vectors:
        """Corners of the box around it."""
        return _box_corners(tuple(-r for r in self.radii), self.radii) + floats(self.centre)


@dataclass(frozen=True, kw_only=True)
class Frustum(Solid):
    """An upright cylinder or cone; `centre` is the middle of its foot. Lengths in metres."""

    foot: float
    top: float
    height: float

    def hit(self, origin: Vectors, rays: Vectors) -> Distances:
        """Where each ray meets the side or the lid."""
        start = origin - floats(self.centre)
        slope = np.float32((self.top - self.foot) / self.height)
        x, y, z = np.moveaxis(start, -1, 0)
        dx, dy, dz = np.moveaxis(rays, -1, 0)
        radius, change = self.foot + slope * y, slope * dy
        a = np.maximum(dx * dx + dz * dz - change * change, np.float32(1e-9))
        side = _first_root(a, x * dx + z * dz - radius * change, x * x + z * z - radius * radius)
        level = y + np.where(np.isfinite(side), side, 0) * dy
        side = np.where((level >= 0) & (level <= self.height), side, np.float32(np.inf))
        lid = (np.float32(self.height) - y) / _safe(dy)
        off = (x + lid * dx) ** 2 + (z + lid * dz) ** 2
        return np.minimum(side, np.where((lid > EPS) & (off < self.top**2), lid, np.float32(np.inf)))

    def surface(self, points: Vectors) -> tuple[Vectors, Points, Points]:
        """Normal, angle around (as length) and height."""
        local = points - floats(self.centre)
        out = np.hypot(local[..., 0], local[..., 2])
        lid = (local[..., 1] > self.height - 1e-3) & (out < self.top - 1e-3)
        level = np.where(lid, 1, np.float32((self.foot - self.top) / self.height))
        normal = unit(join(local[..., 0] * ~lid, level * np.maximum(out, EPS), local[..., 2] * ~lid))
        around = np.arctan2(local[..., 0], local[..., 2]) * np.float32(max(self.foot, self.top))
        return normal, around, local[..., 1]

    def corners(self) -> Vectors:
        """Corners of the box around it."""
        wide = max(self.foot, self.top)
        return _box_corners((-wide, 0.0, -wide), (wide, self.height, wide)) + floats(self.centre)
