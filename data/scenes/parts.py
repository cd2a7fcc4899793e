# mypy: disable-error-code="no-any-return"
# (arithmetic on arrays of no stated shape has no stated type)
"""Figures and the parts they are made of: limbs, balls and slabs.

Owns their geometry. Knows neither light nor pictures. A figure lives in its own space (x right, y up, z away from the
viewer, any unit) and is seen from far away, so that its picture is parallel to x and y.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from data.scenes.textures import Material
from data.scenes.vectors import Number, Vectors, dot, join, unit

Vector = Float32[np.ndarray, "3"]
Matrix = Float32[np.ndarray, "3 3"]
Plane = Float32[np.ndarray, "..."]

LIFT = 1e-6


def vector(x: Number, y: Number, z: Number) -> Vector:
    """A vector of three numbers."""
    return np.array([x, y, z], np.float32)


def turned(yaw: Number = 0.0, pitch: Number = 0.0, roll: Number = 0.0) -> Matrix:
    """Rotation about y (yaw), then x (pitch), then z (roll), radians."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Limb:
    """A sphere swept from `start` to `end` while its radius goes from `thick` to `thin`."""

    start: Vector
    end: Vector
    thick: float
    thin: float
    material: Material

    def moved(self, turn: Matrix, shift: Vector) -> "Limb":
        """The limb after a rotation and a shift."""
        return Limb(
            start=turn @ self.start + shift,
            end=turn @ self.end + shift,
            thick=self.thick,
            thin=self.thin,
            material=self.material,
        )

    def bounds(self) -> tuple[Vector, Vector]:
        """Lowest and highest corner."""
        low = np.minimum(self.start - self.thick, self.end - self.thin)
        return low, np.maximum(self.start + self.thick, self.end + self.thin)

    def _place(self, dx: Plane, dy: Plane) -> tuple[Plane, Plane]:
        """Which sphere makes the front (0 start, 1 end) at an offset from the start, and its bulge there, squared.

        The front is the least of z(s) - sqrt(r(s)^2 - d(s)^2) over the spheres s, d being the distance from their
        centres as seen. Under the root is a quadratic a s^2 + b s + c; at the minimum its derivative is dz/ds times
        twice the root.
        """
        along, widen = self.end - self.start, np.float32(self.thin - self.thick)
        a = np.float32(min(widen**2 - along[0] ** 2 - along[1] ** 2, -LIFT))
        b = 2 * (self.thick * widen + dx * along[0] + dy * along[1])
        c = np.float32(self.thick**2) - dx * dx - dy * dy
        spread = np.sqrt(np.maximum(b * b - 4 * a * c, 0)) * np.float32(along[2] / np.sqrt(along[2] ** 2 - a))
        place = np.clip((spread - b) / (2 * a), 0, 1)
        return place, (a * place + b) * place + c

    def front(self, x: Plane, y: Plane) -> Plane:
        """Depth of the front over (x, y), infinity beside it."""
        place, rest = self._place(x - self.start[0], y - self.start[1])
        depth = self.start[2] + (self.end[2] - self.start[2]) * place - np.sqrt(np.maximum(rest, 0))
        return np.where(rest > 0, depth, np.float32(np.inf))

    def normals(self, points: Vectors) -> Vectors:
        """Normals at points of the front."""
        offset = points - self.start
        place, _ = self._place(offset[:, 0], offset[:, 1])
        return unit(offset - place[:, None] * (self.end - self.start))


@dataclass(frozen=True, kw_only=True)
class Ball:
    """An ellipsoid with `radii` along its own axes, the columns of `axes`."""

    centre: Vector
    radii: Vector
    material: Material
    axes: Matrix

    def moved(self, turn: Matrix, shift: Vector) -> "Ball":
        """The ball after a rotation and a shift."""
        return Ball(centre=turn @ self.centre + shift, radii=self.radii, material=self.material, axes=turn @ self.axes)

    def bounds(self) -> tuple[Vector, Vector]:
        """Lowest and highest corner."""
        reach = np.sqrt(((self.axes * self.radii) ** 2).sum(axis=1))
        return self.centre - reach, self.centre + reach

    def _shape(self) -> Matrix:
        """The matrix m of the surface p m p = 1."""
        return (self.axes / self.radii**2) @ self.axes.T

    def front(self, x: Plane, y: Plane) -> Plane:
        """Depth of the front over (x, y), infinity beside it."""
        m = self._shape()
        dx, dy = x - self.centre[0], y - self.centre[1]
        b = m[0, 2] * dx + m[1, 2] * dy
        rest = b * b - m[2, 2] * (m[0, 0] * dx * dx + 2 * m[0, 1] * dx * dy + m[1, 1] * dy * dy - 1)
        depth = self.centre[2] - (b + np.sqrt(np.maximum(rest, 0))) / m[2, 2]
        return np.where(rest > 0, depth, np.float32(np.inf))

    def normals(self, points: Vectors) -> Vectors:
        """Normals at points of the front."""
        offset = points - self.centre
        return unit(join(*(dot(offset, row) for row in self._shape())))


@dataclass(frozen=True, kw_only=True)
class Slab:
    """A box with half sides `half` along its own axes, the columns of `axes`."""

    centre: Vector
    half: Vector
    material: Material
    axes: Matrix

    def moved(self, turn: Matrix, shift: Vector) -> "Slab":
        """The slab after a rotation and a shift."""
        return Slab(centre=turn @ self.centre + shift, half=self.half, material=self.material, axes=turn @ self.axes)

    def bounds(self) -> tuple[Vector, Vector]:
        """Lowest and highest corner."""
        reach = np.abs(self.axes) @ self.half
        return self.centre - reach, self.centre + reach

    def _enter(self, x: Plane, y: Plane) -> tuple[Plane, Plane, Int[np.ndarray, "..."]]:
        """Depths behind the centre where a look enters and leaves the slab, and the axis of the face it enters by."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        enter, leave, face = np.full_like(dx + dy, -np.inf), np.full_like(dx + dy, np.inf), np.zeros(1, np.intp)
        for axis in range(3):
            rise = self.axes[2, axis] if abs(self.axes[2, axis]) > LIFT else np.float32(LIFT)
            reach = self.half[axis] / abs(rise)
            near = -(dx * self.axes[0, axis] + dy * self.axes[1, axis]) / rise - reach
            face = np.where(near > enter, axis, face)
            enter, leave = np.maximum(enter, near), np.minimum(leave, near + 2 * reach)
        return enter, leave, face

    def front(self, x: Plane, y: Plane) -> Plane:
        """Depth of the front over (x, y), infinity beside it."""
        enter, leave, _ = self._enter(x, y)
        return np.where(enter < leave, self.centre[2] + enter, np.float32(np.inf))

    def normals(self, points: Vectors) -> Vectors:
        """Normals at points of the front."""
        _, _, face = self._enter(points[:, 0], points[:, 1])
        return (self.axes * -np.sign(self.axes[2] + np.float32(LIFT))).T[face]


Part = Limb | Ball | Slab


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A thing made of parts; `height_m` is how tall one unit of it is in the world."""

    name: str
    parts: tuple[Part, ...]
    height_m: float

    def moved(self, turn: Matrix) -> "Figure":
        """The figure after a rotation."""
        return Figure(
            name=self.name,
            parts=tuple(part.moved(turn, np.zeros(3, np.float32)) for part in self.parts),
            height_m=self.height_m,
        )

    def bounds(self) -> tuple[Vector, Vector]:
        """Lowest and highest corner of all parts."""
        lows, highs = zip(*(part.bounds() for part in self.parts), strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)


def slab(
    material: Material, centre: tuple[Number, Number, Number], half: tuple[Number, Number, Number], roll: float = 0.0
) -> Slab:
    """A slab from plain numbers; `roll` turns it about z."""
    return Slab(centre=vector(*centre), half=vector(*half), material=material, axes=turned(roll=roll))


def ball(material: Material, centre: tuple[Number, Number, Number], radii: tuple[Number, Number, Number]) -> Ball:
    """An upright ball from plain numbers."""
    return Ball(centre=vector(*centre), radii=vector(*radii), material=material, axes=turned())


def rod(
    material: Material,
    start: tuple[Number, Number, Number],
    end: tuple[Number, Number, Number],
    thick: float,
    thin: float | None = None,
) -> Limb:
    """A limb from plain numbers; as thin at its end as at its start unless told."""
    return Limb(
        start=vector(*start), end=vector(*end), thick=thick, thin=thick if thin is None else thin, material=material
    )
