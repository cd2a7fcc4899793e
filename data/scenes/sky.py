"""The sky: gradient, clouds and ridges of far hills."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.scenes.textures import Colour, Colours, noise
from data.scenes.vectors import Vectors, floats


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A line of far hills: `depth_m` away, up to `height` (tangent of elevation) high, `width` radians a hill."""

    depth_m: float
    height: float
    width: float
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class Sky:
    """The sky above the horizon, with clouds and ridges of hills, nearest last."""

    zenith: Colour
    horizon: Colour
    clouds: float = 0.5
    cloud_offset: float = 0.0
    ridges: tuple[Ridge, ...] = ()

    def draw(self, rays: Vectors) -> tuple[Colours, Float[np.ndarray, " n"]]:
        """Colours and depths seen along rays that hit no solid."""
        rise = rays[:, 1] / np.hypot(rays[:, 0], rays[:, 2])
        mix = np.clip(rise * 1.6, 0, 1)[:, None] ** 0.7
        colours = floats(self.horizon) * (1 - mix) + floats(self.zenith) * mix
        flat = 1 / np.maximum(rise + 0.12, 0.02)
        cover = noise(rays[:, 0] * flat + self.cloud_offset, rays[:, 2] * flat, 2.0)
        cloud = np.clip((cover - 1 + self.clouds) * 4, 0, 1) * np.clip(rise * 8, 0, 1) * 0.85
        colours += cloud[:, None] * (floats([0.92, 0.92, 0.95]) - colours)
        depths = np.full(len(rays), np.inf, np.float32)
        azimuth = np.arctan2(rays[:, 0], rays[:, 2])
        for ridge in self.ridges:
            along = azimuth / ridge.width + ridge.depth_m
            crest = ridge.height * _crest(along)
            here = rise < crest
            shade = 0.8 + 0.5 * noise(along[here] * 6, rise[here] * 60, 1.2)
            colours[here] = floats(ridge.colour) * shade[:, None]
            depths[here] = ridge.depth_m
        return np.clip(colours, 0, 1).astype(np.float32), depths


def _crest(along: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Outline of hills in [0, 1]: a sum of waves, one period about every unit."""
    waves = sum(np.sin(along * k + k * k) / k for k in (1.0, 2.3, 4.1, 9.7, 23.0))
    return np.clip(0.5 + 0.28 * waves, 0, 1)
