"""Light and shadow of a world."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from data.scenes.solids import Solid
from data.scenes.textures import Colour
from data.scenes.vectors import Vectors, dot, floats, pick


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light of a world: the sun (a direction) or a lamp (a place), and what comes from all around."""

    towards: tuple[float, float, float] = (0.0, 1.0, 0.0)
    lamp: tuple[float, float, float] | None = None
    colour: Colour = (1.0, 1.0, 1.0)
    above: Colour = (0.35, 0.4, 0.5)
    below: Colour = (0.2, 0.18, 0.15)

    def way(self, points: Vectors) -> tuple[Vectors, float]:
        """Way from points to the light and the t at which it is reached."""
        if self.lamp is None:
            direction = floats(self.towards)
            return np.broadcast_to(direction / np.linalg.norm(direction), points.shape), np.inf
        return floats(self.lamp) - points, 0.98


def shadowed(points: Vectors, to_light: Vectors, solids: tuple[Solid, ...], reach: float) -> Bool[np.ndarray, " n"]:
    """Whether anything stands between points and the light.

    Args:
        points: Points a little above their surfaces.
        to_light: Way to the light, one for all or one each.
        solids: What may stand in the way.
        reach: Largest t that counts: 1 for a lamp at `points + to_light`, infinity for the sun.
    """
    dark = np.zeros(len(points), bool)
    rays = np.broadcast_to(to_light, points.shape)
    squares = dot(rays, rays)
    for solid in solids:
        corners = solid.corners() if solid.casts else None
        if corners is None:
            continue
        middle = corners.mean(axis=0)
        radius = np.float32(np.linalg.norm(corners[0] - middle))
        between = middle - points
        along = dot(between, rays)
        near = (dot(between, between) * squares - along * along < radius * radius * squares) & ~dark
        chosen = np.flatnonzero(near & (along > -radius * np.sqrt(squares)))
        if len(chosen):
            dark[chosen] = solid.hit(pick(points, chosen), pick(rays, chosen)) < reach
    return dark
