"""Figures made of limbs, balls and slabs, drawn as shaded cut-outs with exact relief.

Owns the shapes of figures and how they look. Knows neither scenes nor files. A figure lives in its own space (x right,
y up, z away from the viewer, any unit) and is seen from far away, so that its picture is parallel to x and y.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from data.scene_solids import dot, unit
from data.scene_textures import Material, paint

Vector = Float32[np.ndarray, "3"]
Matrix = Float32[np.ndarray, "3 3"]
Plane = Float32[np.ndarray, "h w"]

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

    def front(self, x: Plane, y: Plane) -> tuple[Plane, Float32[np.ndarray, "h w 3"]]:
        """Depth of the front over (x, y), infinity beside it, and its normal.

        The front is the least of z(s) - sqrt(r(s)^2 - d(s)^2) over the spheres s in [0, 1], d being the distance from
        their centres as seen. What is under the root is a quadratic a s^2 + b s + c; the minimum is where its derivative
        is twice its root times dz/ds.
        """
        along, widen = self.end - self.start, np.float32(self.thin - self.thick)
        offset_x, offset_y = x - self.start[0], y - self.start[1]
        a = min(float(widen**2 - along[0] ** 2 - along[1] ** 2), -LIFT)
        b = 2 * (self.thick * widen + offset_x * along[0] + offset_y * along[1])
        c = np.float32(self.thick**2) - offset_x**2 - offset_y**2
        slope = float(along[2])
        spread = np.sqrt(np.maximum(b * b - 4 * a * c, 0) / np.float32(slope**2 - a))
        place = np.clip((np.float32(slope) * spread - b) / np.float32(2 * a), 0, 1)
        rest = (a * place + b) * place + c
        bulge = np.sqrt(np.maximum(rest, 0))
        depth = self.start[2] + slope * place - bulge
        normal = np.stack([offset_x - place * along[0], offset_y - place * along[1], -bulge], axis=-1)
        normal /= (np.float32(self.thick) + widen * place + np.float32(LIFT))[..., None]
        return np.where(rest > 0, depth, np.float32(np.inf)), normal


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

    def front(self, x: Plane, y: Plane) -> tuple[Plane, Float32[np.ndarray, "h w 3"]]:
        """Depth of the front over (x, y), infinity beside it, and its normal."""
        shape = (self.axes / self.radii**2) @ self.axes.T
        dx, dy = x - self.centre[0], y - self.centre[1]
        b = shape[0, 2] * dx + shape[1, 2] * dy
        c = shape[0, 0] * dx * dx + 2 * shape[0, 1] * dx * dy + shape[1, 1] * dy * dy - 1
        rest = b * b - shape[2, 2] * c
        dz = (-b - np.sqrt(np.maximum(rest, 0))) / shape[2, 2]
        offset = np.stack([dx, dy, dz], axis=-1)
        return np.where(rest > 0, self.centre[2] + dz, np.float32(np.inf)), unit(offset @ shape)


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

    def front(self, x: Plane, y: Plane) -> tuple[Plane, Float32[np.ndarray, "h w 3"]]:
        """Depth of the front over (x, y), infinity beside it, and its normal."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        enter, leave = np.full_like(x, -np.inf), np.full_like(x, np.inf)
        face = np.zeros(x.shape, np.intp)
        for axis in range(3):
            rise = self.axes[2, axis] if abs(self.axes[2, axis]) > LIFT else np.float32(LIFT)
            at = dx * self.axes[0, axis] + dy * self.axes[1, axis]
            reach = self.half[axis] / abs(rise)
            near = -at / rise - reach
            face[near > enter] = axis
            enter, leave = np.maximum(enter, near), np.minimum(leave, near + 2 * reach)
        normals = (self.axes * -np.sign(self.axes[2] + np.float32(LIFT))).T
        return np.where(enter < leave, self.centre[2] + enter, np.float32(np.inf)), normals[face].astype(np.float32)


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
    normal = np.zeros((*depth.shape, 3), np.float32)
    owner = np.full(depth.shape, -1, np.int16)
    for index, part in enumerate(figure.parts):
        part_low, part_high = part.bounds()
        columns = slice(*np.searchsorted(x, [part_low[0], part_high[0]]))
        rows = slice(*np.searchsorted(-y, [-part_high[1], -part_low[1]]))
        if rows.start == rows.stop or columns.start == columns.stop:
            continue
        front, facing = part.front(*np.meshgrid(x[columns], y[rows]))
        nearer = front < depth[rows, columns]
        depth[rows, columns][nearer] = front[nearer]
        normal[rows, columns][nearer] = facing[nearer]
        owner[rows, columns][nearer] = index
    return depth, _shade(figure, (x, y, depth), normal, owner, light, ambient)


def _shade(
    figure: Figure,
    place: tuple[Float32[np.ndarray, " w"], Float32[np.ndarray, " h"], Plane],
    normal: Float32[np.ndarray, "h w 3"],
    owner: np.ndarray,
    light: Vector,
    ambient: float,
) -> Float32[np.ndarray, "h w 3"]:
    x, y, depth = place
    covered = owner >= 0
    rows, columns = np.nonzero(covered)
    owners, normals, z = owner[covered], normal[covered], depth[covered]
    u, v = x[columns] + np.float32(0.4) * z, y[rows] + np.float32(0.3) * z
    albedo = np.zeros((len(rows), 3), np.float32)
    shine = np.zeros(len(rows), np.float32)
    for index in np.unique(owners):
        here = owners == index
        material = figure.parts[index].material
        albedo[here] = paint(material, u[here], v[here], np.zeros(1, np.float32))
        shine[here] = material.shine
    toward = dot(normals, light[None])
    around = np.float32(ambient) * (np.float32(0.7) + np.float32(0.3) * normals[:, 1])
    lightness = (around + np.float32(1.25 - ambient) * np.clip(toward, 0, 1)) * _crevices(depth, covered)
    glance = np.clip(light[2] - 2 * toward * normals[:, 2], 0, 1) ** 12 * shine
    shown = np.sqrt(np.clip(albedo * lightness[:, None] + glance[:, None], 0, 1))
    colour = np.zeros((*depth.shape, 3), np.float32)
    colour[covered] = shown
    return colour


def _crevices(depth: Plane, covered: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, " n"]:
    """Darkening of what lies behind its surroundings: where one limb passes before another."""
    size = max(depth.shape) // 12 | 1
    weight = covered.astype(np.float32)
    filled = np.where(covered, depth, 0).astype(np.float32)
    around = cv2.blur(filled, (size, size))[covered] / np.maximum(cv2.blur(weight, (size, size))[covered], np.float32(1e-3))
    behind = np.clip((depth[covered] - around) * np.float32(6), 0, 1)
    return 1 - np.float32(0.55) * behind
