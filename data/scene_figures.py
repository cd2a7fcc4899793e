"""Figures made of limbs, balls and slabs, drawn as shaded cut-outs with exact relief.

Owns the shapes of figures and how they look. Knows neither scenes nor files. A figure lives in its own space (x right,
y up, z away from the viewer, any unit) and is seen from far away, so that its picture is parallel to x and y.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float32, Int

from data.scene_solids import Vectors, dot, unit
from data.scene_textures import Material, paint

Vector = Float32[np.ndarray, "3"]
Matrix = Float32[np.ndarray, "3 3"]
Plane = Float32[np.ndarray, "..."]

FINER = 2  # samples per pixel side
LIFT = 1e-6


def vector(x: float, y: float, z: float) -> Vector:
    """A vector of three numbers."""
    return np.array([x, y, z], np.float32)


def turned(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Matrix:
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
        return Limb(start=turn @ self.start + shift, end=turn @ self.end + shift, thick=self.thick, thin=self.thin, material=self.material)

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
        return unit(np.stack([dot(offset, row) for row in self._shape()], axis=-1))


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
        enter, leave, face = np.float32(-np.inf), np.float32(np.inf), np.intp(0)
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
        return Figure(name=self.name, parts=tuple(part.moved(turn, np.zeros(3, np.float32)) for part in self.parts), height_m=self.height_m)

    def bounds(self) -> tuple[Vector, Vector]:
        """Lowest and highest corner of all parts."""
        lows, highs = zip(*(part.bounds() for part in self.parts), strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)


@dataclass(frozen=True)
class CutOut:
    """A drawn figure.

    Attributes:
        colour: Display colours in [0, 1], premultiplied with alpha.
        alpha: Share of each pixel that is covered.
        relief: Depth behind the foremost point in pixels, the mean over what is covered; 0 where nothing is.
        px_per_unit: Pixels to one unit of the figure.
    """

    colour: Float32[np.ndarray, "h w 3"]
    alpha: Plane
    relief: Plane
    px_per_unit: float


def draw_figure(figure: Figure, side_px: float, light: Sequence[float], ambient: float = 0.45) -> CutOut:
    """Draw a figure so that the longer side of its outline measures `side_px`.

    Args:
        figure: What to draw, already turned the way it shall be seen.
        side_px: Longer side of its bounding box, pixels.
        light: Direction to the light in the figure's space.
        ambient: Light from all around, 0 to 1; the rest comes from the light.

    Returns:
        The cut-out, its bounding box plus a margin of one pixel.
    """
    low, high = figure.bounds()
    scale = np.float32(side_px / max(high[0] - low[0], high[1] - low[1]))
    width, height = (int(np.ceil(length * scale)) + 2 for length in (high - low)[:2])
    depth, colour = _draw_fine(figure, (width * FINER, height * FINER), scale * FINER, unit(np.array(light, np.float32)), ambient)
    covered = np.isfinite(depth)
    relief = np.where(covered, (depth - low[2]) * scale, 0).astype(np.float32)
    alpha = cv2.resize(covered.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    relief = cv2.resize(relief, (width, height), interpolation=cv2.INTER_AREA) / np.maximum(alpha, np.float32(0.01))
    return CutOut(cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA), alpha, relief, float(scale))


def _draw_fine(figure: Figure, size: tuple[int, int], scale: float, light: Vector, ambient: float) -> tuple[Plane, Float32[np.ndarray, "h w 3"]]:
    low, high = figure.bounds()
    x = low[0] + (np.arange(size[0], dtype=np.float32) + 0.5 - FINER) / scale
    y = high[1] - (np.arange(size[1], dtype=np.float32) + 0.5 - FINER) / scale
    depth = np.full(size[::-1], np.inf, np.float32)
    owner = np.full(depth.shape, -1, np.int16)
    for index, part in enumerate(figure.parts):
        part_low, part_high = part.bounds()
        columns = slice(*np.searchsorted(x, [part_low[0], part_high[0]]))
        rows = slice(*np.searchsorted(-y, [-part_high[1], -part_low[1]]))
        if rows.start == rows.stop or columns.start == columns.stop:
            continue
        front = part.front(x[None, columns], y[rows, None])
        nearer = front < depth[rows, columns]
        depth[rows, columns][nearer] = front[nearer]
        owner[rows, columns][nearer] = index
    return depth, _shade(figure, (x, y, depth), owner, light, ambient) * _crevices(depth)[..., None]


def _shade(figure: Figure, place: tuple[Plane, Plane, Plane], owner: Int[np.ndarray, "h w"], light: Vector, ambient: float) -> Float32[np.ndarray, "h w 3"]:
    """Display colours of all pixels, black where no part is; pixels are taken material by material, part by part."""
    materials = list({id(part.material): part.material for part in figure.parts}.values())
    worn = np.array([materials.index(part.material) for part in figure.parts], np.int16)
    pixels = np.flatnonzero(owner.reshape(-1) >= 0)
    owners = owner.reshape(-1)[pixels]
    order = np.argsort(worn[owners] * np.int16(len(worn)) + owners, kind="stable")
    pixels, owners = pixels[order], owners[order]
    rows, columns = np.divmod(pixels, owner.shape[1])
    points = np.stack([place[0][columns], place[1][rows], place[2].reshape(-1)[pixels]], axis=-1)
    normals, shown = np.empty_like(points), np.empty_like(points)
    for run in _runs(owners):
        normals[run] = figure.parts[owners[run.start]].normals(points[run])
    for run in _runs(worn[owners]):
        material = materials[worn[owners[run.start]]]
        shown[run] = _lit(material, points[run], normals[run], light, ambient)
    colours = np.zeros((*owner.shape, 3), np.float32)
    colours.reshape(-1, 3)[pixels] = shown
    return colours


def _runs(values: Int[np.ndarray, " n"]) -> list[slice]:
    """Stretches of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [slice(start, stop) for start, stop in pairwise(edges) if start < stop]


def _lit(material: Material, points: Vectors, normals: Vectors, light: Vector, ambient: float) -> Vectors:
    slanted = points[:, 2] * np.float32(0.4)  # so that patterns go around the sides too
    albedo = paint(material, points[:, 0] + slanted, points[:, 1] + slanted, np.zeros(1, np.float32))
    toward = dot(normals, light[None])
    around = np.float32(ambient) * (np.float32(0.7) + np.float32(0.3) * normals[:, 1])
    lightness = around + np.float32(1.25 - ambient) * np.maximum(toward, 0)
    shown = albedo.T * lightness
    if material.shine:
        shown += np.float32(material.shine) * np.clip(light[2] - 2 * toward * normals[:, 2], 0, 1) ** 12
    return np.sqrt(np.minimum(shown, 1)).T


def _crevices(depth: Plane) -> Plane:
    """Darkening of what lies behind its surroundings: where one limb passes before another."""
    covered = np.isfinite(depth)
    size = max(depth.shape) // 12 | 1
    filled = np.where(covered, depth, np.float32(0))
    share = cv2.blur(covered.astype(np.float32), (size, size))
    around = cv2.blur(filled, (size, size)) / np.maximum(share, np.float32(1e-3))
    return 1 - np.float32(0.3) * np.clip((filled - around) * np.float32(6), 0, 1)
