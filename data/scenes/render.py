# mypy: disable-error-code="no-any-return"
# (arithmetic on arrays of no stated shape has no stated type)
"""Ray casting of a world of solids: picture and exact depth.

Owns camera, visibility, light and shadow. Knows nothing of what the worlds contain, of figures or of files.
Depth is measured along the camera's axis (z-depth, metres), infinity for the sky.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Int

from data.scenes.light import Light, shadowed
from data.scenes.sky import Sky
from data.scenes.solids import Solid
from data.scenes.textures import Colours
from data.scenes.vectors import Vectors, dot, floats, join, pick, pixels_by_owner, unit

Picture = Float32[np.ndarray, "h w 3"]
DepthMap = Float32[np.ndarray, "h w"]

FINER = 2  # rays per pixel side


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: Metres.
        yaw: To the right of z, radians.
        pitch: Above the horizon, radians.
        focal: Focal length in sides of the picture.
    """

    position: tuple[float, float, float]
    yaw: float = 0.0
    pitch: float = 0.0
    focal: float = 1.0

    def axes(self) -> Float32[np.ndarray, "3 3"]:
        """Right, up and ahead, one a row."""
        cy, sy, cp, sp = np.cos(self.yaw), np.sin(self.yaw), np.cos(self.pitch), np.sin(self.pitch)
        return floats([[cy, 0, -sy], [-sy * sp, cp, -cy * sp], [sy * cp, sp, cy * cp]])

    def rays(self, px: int) -> Float32[np.ndarray, "px px 3"]:
        """One ray a pixel, of length 1 along the camera's axis, so that t is z-depth."""
        steps = ((np.arange(px, dtype=np.float32) + 0.5) / px - 0.5) / np.float32(self.focal)
        right, up, ahead = self.axes()
        return join(*(ahead[k] + steps[None, :] * right[k] - steps[:, None] * up[k] for k in range(3)))

    def window(self, corners: Vectors | None, px: int) -> tuple[slice, slice]:
        """Rows and columns that a shape with these corners can touch."""
        if corners is None:
            return slice(0, px), slice(0, px)
        x, y, z = ((corners - floats(self.position)) @ self.axes().T).T
        if z.max() <= 0:
            return slice(0, 0), slice(0, 0)
        if z.min() < 0.05:
            return slice(0, px), slice(0, px)
        column, row = (x / z * self.focal + 0.5) * px, (0.5 - y / z * self.focal) * px
        low = np.clip(np.floor([row.min() - 1, column.min() - 1]), 0, px).astype(int)
        high = np.clip(np.ceil([row.max() + 1, column.max() + 1]), 0, px).astype(int)
        return slice(low[0], high[0]), slice(low[1], high[1])


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything a background shows. `haze_m` is the depth at which haze has swallowed two thirds."""

    solids: tuple[Solid, ...]
    camera: Camera
    light: Light
    sky: Sky
    haze_m: float = np.inf
    exposure: float = 1.0


def render(world: World, px: int) -> tuple[Picture, DepthMap]:
    """Picture of a world and its depth.

    Args:
        world: What to look at.
        px: Side of the picture.

    Returns:
        Display colours in [0, 1], and z-depth in metres, infinity for the sky. Along edges the depth is that of
        the mean of 1/z over the pixel, as the colour is the mean of its colours.
    """
    fine = px * FINER
    rays = world.camera.rays(fine)
    depth, owner = _cast(world, rays)
    colours = np.zeros((fine, fine, 3), np.float32)
    shade = _light_map(world, rays, depth, owner)
    flat_depth, flat_colours = depth.reshape(-1), colours.reshape(-1, 3)
    for index, here in pixels_by_owner(owner):
        if index < 0:
            flat_colours[here], flat_depth[here] = world.sky.draw(pick(rays, here))
        else:
            seen = pick(rays, here), flat_depth[here], shade.reshape(-1)[here]
            flat_colours[here] = _paint_solid(world, world.solids[index], *seen)
    shown = np.sqrt(np.clip(_with_haze(world, colours, depth) * np.float32(world.exposure), 0, 1))
    inverse = cv2.resize(1 / depth, (px, px), interpolation=cv2.INTER_AREA)
    with np.errstate(divide="ignore"):
        return cv2.resize(shown, (px, px), interpolation=cv2.INTER_AREA), 1 / inverse


def _cast(world: World, rays: Picture) -> tuple[DepthMap, Int[np.ndarray, "h w"]]:
    px = rays.shape[0]
    depth, owner = np.full((px, px), np.inf, np.float32), np.full((px, px), -1, np.int16)
    origin = floats([[world.camera.position]])
    for index, solid in enumerate(world.solids):
        rows, columns = world.camera.window(solid.corners(), px)
        if rows.start == rows.stop or columns.start == columns.stop:
            continue
        hit = solid.hit(origin, rays[rows, columns]).astype(np.float32)
        nearer = hit < depth[rows, columns]
        depth[rows, columns][nearer] = hit[nearer]
        owner[rows, columns][nearer] = index
    return depth, owner


def _light_map(world: World, rays: Picture, depth: DepthMap, owner: Int[np.ndarray, "h w"]) -> DepthMap:
    """Direct light in [0, 1] reaching each pixel, cast at half the fineness, which also softens it."""
    half = (slice(None, None, FINER), slice(None, None, FINER))
    light = np.zeros(owner[half].shape, np.float32)
    here = np.flatnonzero(owner[half] >= 0)
    lifted = np.float32(1 - 2e-3) * depth[half].reshape(-1)[here]
    points = floats(world.camera.position) + pick(rays[half], here) * lifted[:, None]
    way, reach = world.light.way(points)
    light.reshape(-1)[here] = ~shadowed(points, way, world.solids, reach)
    fine = cv2.resize(light, rays.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.blur(fine, (5, 5)) if world.light.lamp is not None else fine


def _paint_solid(
    world: World, solid: Solid, rays: Vectors, depth: Float32[np.ndarray, " n"], lit: Float32[np.ndarray, " n"]
) -> Colours:
    points = floats(world.camera.position) + rays * depth[:, None]
    normal, u, v = solid.surface(points)
    lengths = np.sqrt(dot(rays, rays))
    slant = np.abs(dot(rays, normal)) / lengths
    blur = depth / (world.camera.focal * 224) / np.maximum(slant, 0.08)
    albedo = solid.colours(points, u, v, blur)
    way, _ = world.light.way(points)
    reach = np.sqrt(dot(way, way))
    facing = np.clip(dot(way, normal) / reach, 0, 1)
    direct = facing * lit
    if world.light.lamp is not None:
        direct = direct / (0.6 + 0.1 * reach * reach)
    up = (0.5 + 0.5 * normal[:, 1])[:, None]
    around = floats(world.light.below) * (1 - up) + floats(world.light.above) * up
    lightness = around + direct[:, None] * floats(world.light.colour)
    colours = albedo * (lightness + np.float32(solid.material.glow))
    if solid.material.shine:
        half = unit(way / reach[:, None] - rays / lengths[:, None])
        colours += (np.float32(solid.material.shine) * lit * np.clip(dot(half, normal), 0, 1) ** 24)[:, None]
    return colours


def _with_haze(world: World, colours: Picture, depth: DepthMap) -> Picture:
    if not np.isfinite(world.haze_m):
        return colours
    seen = np.exp(-np.minimum(depth, np.float32(300)) / np.float32(world.haze_m))[..., None]
    seen[~np.isfinite(depth)] = 1
    return colours * seen + floats(world.sky.horizon) * (1 - seen)
