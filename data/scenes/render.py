"""Ray casting of solids: image, z-depth in metres (infinity where a ray hits nothing) and coverage."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int

from data.scenes.solids import Matrix, Solid, Triple, Vector, Vectors, dot, floats, join, pick, unit
from data.scenes.textures import Colour, Colours, noise, paint

Image = Float32[np.ndarray, "h w 3"]
Plane = Float32[np.ndarray, "h w"]
Window = tuple[slice, slice]  # rows and columns

FINER = 2  # rays per pixel side


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """A pinhole camera; `axes` are right, up and ahead, one per row, and `focal` is a multiple of the image side."""

    position: Triple | Vector
    axes: Matrix
    focal: float = 1.0

    def rays(self, px: int, window: Window) -> Image:
        """Return one ray per pixel of a window, of length 1 along the camera's axis, so that t is z-depth."""
        steps = ((np.arange(px, dtype=np.float32) + 0.5) / px - 0.5) / np.float32(self.focal)
        across, down = steps[window[1]], steps[window[0]]
        right, up, ahead = self.axes
        return join(*(ahead[k] + across[None, :] * right[k] - down[:, None] * up[k] for k in range(3)))

    def window(self, corners: Vectors, px: int) -> Window:
        """Return the rows and columns that a shape with these corners can touch."""
        x, y, z = ((corners - floats(self.position)) @ self.axes.T).T
        if z.max() <= 0:
            return slice(0, 0), slice(0, 0)
        if z.min() < 0.05:
            return slice(0, px), slice(0, px)
        column, row = (x / z * self.focal + 0.5) * px, (0.5 - y / z * self.focal) * px
        low = np.clip(np.floor([row.min() - 1, column.min() - 1]), 0, px).astype(int).tolist()
        high = np.clip(np.ceil([row.max() + 1, column.max() + 1]), 0, px).astype(int).tolist()
        return slice(low[0], high[0]), slice(low[1], high[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Light:
    """Light of a world: the sun (a direction) or a lamp (a place), and ambient light from above and below."""

    towards: Triple | Vector = (0.0, 1.0, 0.0)
    lamp: Triple | None = None
    colour: Colour = (1.0, 1.0, 1.0)
    above: Colour = (0.35, 0.4, 0.5)
    below: Colour = (0.2, 0.18, 0.15)

    def way(self, points: Vectors) -> tuple[Vectors, float]:
        """Return the way from points to the light and the t at which it is reached."""
        if self.lamp is None:
            return np.broadcast_to(unit(floats(self.towards)[None]), points.shape), np.inf
        return floats(self.lamp) - points, 0.98


@dataclass(frozen=True, kw_only=True)
class Sky:
    """A sky with clouds; `clouds` is roughly the share of the sky that they cover."""

    zenith: Colour
    horizon: Colour
    clouds: float = 0.5
    cloud_offset: float = 0.0

    def draw(self, rays: Vectors) -> Colours:
        """Return the colours seen along rays that hit no solid."""
        rise = rays[:, 1] / np.hypot(rays[:, 0], rays[:, 2])
        mix = np.clip(rise * 1.6, 0, 1)[:, None] ** 0.7
        colours = floats(self.horizon) * (1 - mix) + floats(self.zenith) * mix
        flat = 1 / np.maximum(rise + 0.12, 0.02)
        cover = noise(rays[:, 0] * flat + self.cloud_offset, rays[:, 2] * flat, 2.0)
        cloud = np.clip((cover - 1 + self.clouds) * 4, 0, 1) * np.clip(rise * 8, 0, 1) * 0.85
        colours += cloud[:, None] * (floats([0.92, 0.92, 0.95]) - colours)
        return np.clip(colours, 0, 1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class World:
    """Solids seen by a camera; haze absorbs two thirds of the light of surfaces `haze_m` away."""

    solids: tuple[Solid, ...]
    camera: Camera
    light: Light
    sky: Sky | None = None  # None: rays that hit nothing stay uncovered
    haze_m: float = np.inf
    exposure: float = 1.0


@dataclass(frozen=True)
class View:
    """A rendered world, or a window of it. Along edges all values are means over the pixel."""

    image: Image  # display colours in [0, 1], premultiplied with alpha
    inverse: Plane  # 1 / z-depth in 1/m, the mean over the covered part of the pixel; 0 for the sky
    alpha: Plane  # share of each pixel that is covered; 1 wherever there is a sky
    direct: Plane  # share of direct light in the light that reaches each pixel
    window: Window  # rows and columns of the image


def render(world: World, px: int) -> View:
    """Render a world at `px` pixels a side; without a sky only the window that its solids can touch."""
    windows = [world.camera.window(solid.corners, px * FINER) for solid in world.solids]
    view = _cover(windows if world.sky is None else [(slice(0, px * FINER),) * 2], px)
    rays = world.camera.rays(px * FINER, view)
    depth, owner = _cast(world, rays, windows, view)
    colours, direct = _shade(world, rays, depth, owner)
    covered = (owner >= 0).astype(np.float32)
    if world.sky is not None:
        empty = np.flatnonzero(owner < 0)
        colours.reshape(-1, 3)[empty] = world.sky.draw(pick(rays, empty))
        colours, covered = _add_haze(world, world.sky, colours, depth), np.ones_like(depth)
    shown = np.sqrt(np.clip(colours * np.float32(world.exposure), 0, 1))
    alpha = _shrink(covered)
    inverse = _shrink(1 / depth) / np.maximum(alpha, np.float32(1e-3))
    rows, columns = (slice(part.start // FINER, part.stop // FINER) for part in view)
    return View(_shrink(shown), inverse, alpha, _shrink(direct), (rows, columns))


def _cover(windows: Sequence[Window], px: int) -> Window:
    """Return the smallest window of whole pixels, one at least, around windows that are not empty."""
    seen = [window for window in windows if window[0].start < window[0].stop and window[1].start < window[1].stop]
    seen = seen or [(slice(0, 1), slice(0, 1))]
    rows, columns = (
        slice(
            min(window[axis].start for window in seen) // FINER * FINER,
            min(-(-max(window[axis].stop for window in seen) // FINER), px) * FINER,
        )
        for axis in (0, 1)
    )
    return rows, columns


def _shrink(fine: np.ndarray) -> np.ndarray:
    return cv2.resize(fine, (fine.shape[1] // FINER, fine.shape[0] // FINER), interpolation=cv2.INTER_AREA)


def _cast(world: World, rays: Image, windows: Sequence[Window], view: Window) -> tuple[Plane, Int[np.ndarray, "h w"]]:
    """Return the depth of the first hit of each ray, and the index of the solid that is hit; -1 for none."""
    depth, owner = np.full(rays.shape[:2], np.inf, np.float32), np.full(rays.shape[:2], -1, np.int16)
    origin = floats([[world.camera.position]])
    for index, (solid, window) in enumerate(zip(world.solids, windows, strict=True)):
        rows, columns = (slice(part.start - v.start, part.stop - v.start) for part, v in zip(window, view, strict=True))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        hit = solid.hit(origin, rays[rows, columns]).astype(np.float32)
        nearer = hit < depth[rows, columns]
        depth[rows, columns][nearer] = hit[nearer]
        owner[rows, columns][nearer] = index
    return depth, owner


def _shade(world: World, rays: Image, depth: Plane, owner: Int[np.ndarray, "h w"]) -> tuple[Image, Plane]:
    """Return the colours of the pixels that a solid covers, and the share of direct light in their light."""
    order = np.argsort(owner.reshape(-1), kind="stable")  # solid by solid, so that each is a slice
    order = order[np.searchsorted(owner.reshape(-1)[order], 0) :]
    owners = owner.reshape(-1)[order]
    found, starts = np.unique(owners, return_index=True)
    runs = [(world.solids[k], slice(*ends)) for k, ends in zip(found, pairwise([*starts, len(order)]), strict=True)]
    ways, reach = pick(rays, order), depth.reshape(-1)[order]
    points = floats(world.camera.position) + ways * reach[:, None]
    normal, albedo = np.empty_like(points), np.empty_like(points)
    u, v = np.empty_like(reach), np.empty_like(reach)
    for solid, run in runs:
        normal[run], u[run], v[run] = solid.surface(points[run])
    lengths = np.sqrt(dot(ways, ways))
    blur = reach / (world.camera.focal * 224) / np.maximum(np.abs(dot(ways, normal)) / lengths, np.float32(0.08))
    for solid, run in runs:
        albedo[run] = paint(solid.material, u[run], v[run], blur[run])
    lit = _light_map(world, rays, depth, owner).reshape(-1)[order]
    to_light, _ = world.light.way(points)
    far = np.sqrt(dot(to_light, to_light))
    strength = np.clip(dot(to_light, normal) / far, 0, 1) * lit
    if world.light.lamp is not None:
        strength = strength / (np.float32(0.6) + np.float32(0.1) * far * far)
    up = (np.float32(0.5) + np.float32(0.5) * normal[:, 1])[:, None]
    around = floats(world.light.below) * (1 - up) + floats(world.light.above) * up
    materials = [solid.material for solid in world.solids]
    glow, shine = (floats([getattr(each, name) for each in materials])[owners] for name in ("glow", "shine"))
    shown = albedo * (around + strength[:, None] * floats(world.light.colour) + glow[:, None])
    half = unit(to_light / far[:, None] - ways / lengths[:, None])
    shown += (shine * lit * np.clip(dot(half, normal), 0, 1) ** 24)[:, None]
    colours, direct = np.zeros_like(rays), np.zeros_like(depth)
    colours.reshape(-1, 3)[order] = shown
    strength = strength * np.float32(world.light.colour[1])
    direct.reshape(-1)[order] = strength / (strength + around[:, 1] + np.float32(1e-6))
    return colours, direct


def _light_map(world: World, rays: Image, depth: Plane, owner: Int[np.ndarray, "h w"]) -> Plane:
    """Return the direct light in [0, 1] reaching each ray's point, cast at half the fineness, which also softens it."""
    half = (slice(None, None, FINER), slice(None, None, FINER))
    light = np.zeros(owner[half].shape, np.float32)
    here = np.flatnonzero(owner[half] >= 0)
    lifted = np.float32(1 - 2e-3) * depth[half].reshape(-1)[here]
    points = floats(world.camera.position) + pick(rays[half], here) * lifted[:, None]
    light.reshape(-1)[here] = ~find_shadows(points, world.light, world.solids)
    fine = cv2.resize(light, rays.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.blur(fine, (5, 5)) if world.light.lamp is not None else fine


def find_shadows(points: Vectors, light: Light, solids: tuple[Solid, ...]) -> Bool[np.ndarray, " n"]:
    """Return True for each point, taken a little above its surface, that a solid hides from the light."""
    dark = np.zeros(len(points), bool)
    rays, reach = light.way(points)
    squares = dot(rays, rays)
    for solid in solids:
        if not solid.casts:
            continue
        middle, radius = solid.sphere
        between = middle - points
        along = dot(between, rays)
        near = (dot(between, between) * squares - along * along < radius * radius * squares) & ~dark
        chosen = np.flatnonzero(near & (along > -radius * np.sqrt(squares)))
        if len(chosen):
            dark[chosen] = solid.hit(pick(points, chosen), pick(rays, chosen)) < reach
    return dark


def _add_haze(world: World, sky: Sky, colours: Image, depth: Plane) -> Image:
    if not np.isfinite(world.haze_m):
        return colours
    seen = np.exp(-np.minimum(depth, np.float32(300)) / np.float32(world.haze_m))[..., None]
    seen[~np.isfinite(depth)] = 1
    return colours * seen + floats(sky.horizon) * (1 - seen)
