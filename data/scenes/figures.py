# mypy: disable-error-code="no-any-return"
# (arithmetic on arrays of no stated shape has no stated type)
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

from data.scenes.parts import Figure, Plane, Vector
from data.scenes.textures import Material, paint
from data.scenes.vectors import Vectors, dot, join, unit

FINER = 1.5  # samples per pixel side


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
    scale = float(side_px / max(high[0] - low[0], high[1] - low[1]))
    width, height = (2 * int(np.ceil(length * scale / 2)) + 2 for length in (high - low)[:2])
    fine = int(width * FINER), int(height * FINER)
    way = unit(np.array([light], np.float32))[0]
    depth, colour = _draw_fine(figure, fine, scale * FINER, way, ambient)
    covered = np.isfinite(depth)
    relief = np.where(covered, (depth - low[2]) * scale, 0).astype(np.float32)
    alpha = cv2.resize(covered.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    relief = cv2.resize(relief, (width, height), interpolation=cv2.INTER_AREA) / np.maximum(alpha, np.float32(0.01))
    return CutOut(cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA), alpha, relief, scale)


def _draw_fine(
    figure: Figure, size: tuple[int, int], scale: float, light: Vector, ambient: float
) -> tuple[Plane, Float32[np.ndarray, "h w 3"]]:
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


def _shade(
    figure: Figure, place: tuple[Plane, Plane, Plane], owner: Int[np.ndarray, "h w"], light: Vector, ambient: float
) -> Float32[np.ndarray, "h w 3"]:
    """Display colours of all pixels, black where no part is; pixels are taken material by material, part by part."""
    materials = list({id(part.material): part.material for part in figure.parts}.values())
    worn = np.array([materials.index(part.material) for part in figure.parts], np.int16)
    pixels = np.flatnonzero(owner.reshape(-1) >= 0)
    owners = owner.reshape(-1)[pixels]
    order = np.argsort(worn[owners] * np.int16(len(worn)) + owners, kind="stable")
    pixels, owners = pixels[order], owners[order]
    rows, columns = np.divmod(pixels, owner.shape[1])
    points = join(place[0][columns], place[1][rows], place[2].reshape(-1)[pixels])
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
