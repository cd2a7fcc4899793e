"""Draw the built-in data set: procedural scenes with a figure in the foreground, exact masks and exact depth.

Depth is stored as relative inverse depth on one scale for all scenes: 1 at `NEAR_M`, 0 at `FAR_M` and beyond. The
figure is nearer than everything that it covers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32

from data.compose.placement import Placement, draw_placement
from data.dataset import DataError, DatasetSpec
from data.runtime.files import find_cache_folder
from data.runtime.progress import Progress, no_progress
from data.scenes.figures import draw_figure
from data.scenes.render import Camera, Light, View, World, find_shadows, render
from data.scenes.solids import Matrix, Solid, Vector, floats, rotation, unit
from data.scenes.textures import TILE_PX, build_noise_tile
from data.scenes.worlds import make_outdoors, make_room
from data.writing import DatasetWriter, Sample

VERSION = 4  # raised whenever the same seed draws another image, so that cached scenes are drawn again
FILES = 3  # raised whenever scenes are written or grouped by background differently
NEAR_M, FAR_M = 1.4, 200.0
# With 20, drawing takes two thirds of the time, but after training on 2,000 scenes (11,200 images of 160 px, one seed)
# IoU on 29 composites from elsewhere is 0.52 instead of 0.62, and 0.51 instead of 0.49 on 40 photos
PER_BACKGROUND = 4
SIZES = (0.35, 0.9)  # longer side of a figure as a fraction of the image side; 0.3 to 0.6 gives lower IoU on photos
OUTDOORS = 0.55  # share of backgrounds under the sky; the others are rooms
STANDING = 0.5  # share of figures that stand on the ground; the others are anywhere in the image
FARTHEST_M = 25.0  # largest distance of a standing figure


@dataclass(frozen=True, eq=False)
class Background:
    """A drawn background: its world, what the camera sees, and the visible points at half the resolution."""

    world: World
    view: View
    points: Float32[np.ndarray, "h w 3"]


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """Number of scenes, scenes per background, seed and side in pixels."""

    count: int
    per_background: int = PER_BACKGROUND
    seed: int = 0
    px: int = 224

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("per_background", 1), ("seed", 0), ("px", 32)):
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}; it must be at least {least}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pose:
    """Similarity transform that puts a figure into the world: x -> scale * turn @ x + shift."""

    turn: Matrix
    shift: Vector
    scale: float
    standing: bool

    def invert(self, points: np.ndarray) -> np.ndarray:
        """Return points of the world in the figure's frame."""
        return (floats(points) - self.shift) @ self.turn / np.float32(self.scale)


def make_scenes(
    out: Path, count: int, *, workers: int | None = None, progress: Progress = no_progress, **options: int
) -> Path:
    """Draw a data set of scenes into a new folder, with the options of `ScenePlan`; return the folder.

    The same seed draws the same images, whatever the number of workers; `progress` counts backgrounds.
    """
    plan = ScenePlan(count=count, **options)
    spec = DatasetSpec(
        near="bright", depth_unit="relative", group_size=plan.per_background, near_m=NEAR_M, far_m=FAR_M, drawn=True
    )
    backgrounds = range(-(-count // plan.per_background))
    with DatasetWriter(Path(out), spec) as writer:
        writer.fill(partial(draw_group, plan), backgrounds, workers=workers, progress=progress)
    return Path(out)


def find_cached_scenes(count: int, *, progress: Progress = no_progress) -> Path:
    """Return the folder of `count` scenes in the user's cache, drawn on first use; several processes may call this."""
    folder = find_cache_folder() / f"scenes-v{VERSION}.{FILES}-{count}"
    if folder.is_dir():
        return folder
    try:
        return make_scenes(folder, count, progress=progress)
    except DataError:
        if folder.is_dir():
            return folder
        raise


def draw_group(plan: ScenePlan, index: int) -> Iterator[tuple[int, Sample]]:
    """Yield the numbered scenes of one background, each with a different figure in front."""
    background = draw_background(np.random.default_rng([VERSION, plan.seed, index]), plan.px)
    first = index * plan.per_background
    for number in range(first, min(first + plan.per_background, plan.count)):
        rng = np.random.default_rng([VERSION, plan.seed, index, number - first + 1])
        yield number + 1, replace(draw_scene(background, rng), background=f"scene{index:04d}")


def draw_background(rng: np.random.Generator, px: int) -> Background:
    """Draw a random background, slightly blurred in four of ten."""
    world = make_outdoors(rng) if rng.random() < OUTDOORS else make_room(rng)
    view = render(world, px)
    half = px // 2
    rays = world.camera.rays(half, (slice(0, half), slice(0, half)))
    inverse = cv2.resize(view.inverse, (half, half), interpolation=cv2.INTER_AREA)
    points = floats(world.camera.position) + rays / np.maximum(inverse, np.float32(1e-4))[..., None]
    if rng.random() < 0.4:
        view = replace(view, image=cv2.GaussianBlur(view.image, (0, 0), float(rng.uniform(0.4, 0.8))))
    return Background(world, view, points)


def draw_scene(background: Background, rng: np.random.Generator) -> Sample:
    """Draw a random figure in front of a background; the sample does not name the background."""
    name, solids = draw_figure(rng)
    pose = _draw_pose(background, solids, draw_placement(rng, SIZES), rng)
    view = _render_figure(background, solids, pose, rng)
    image, inverse = background.view.image.copy(), background.view.inverse.copy()
    mask = np.zeros_like(inverse)
    if pose.standing:
        image *= np.sqrt(1 - background.view.direct * _cast_shadow(background, solids, pose))[..., None]
    alpha = view.alpha
    image[view.window] = image[view.window] * (1 - alpha[..., None]) + view.image * np.float32(rng.uniform(0.8, 1.1))
    figure = _scale_inverse(background.view.inverse[view.window], view, pose.scale)
    inverse[view.window] = inverse[view.window] * (1 - alpha) + figure * alpha
    mask[view.window] = alpha
    return Sample(_add_grain(image, rng), _to_bytes(mask), _to_bytes(to_relative(inverse)), "", "", kind=name)


def to_relative(inverse: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """Convert inverse depth in 1/m to relative inverse depth in [0, 1] on the scale of all scenes."""
    return np.clip((inverse - np.float32(1 / FAR_M)) / np.float32(1 / NEAR_M - 1 / FAR_M), 0, 1)


def _draw_pose(background: Background, solids: list[Solid], place: Placement, rng: np.random.Generator) -> Pose:
    """Draw the pose of a figure whose outline has about the size of a placement, standing on the ground or anywhere."""
    camera, px = background.world.camera, background.view.inverse.shape[0]
    yaw = float(rng.uniform(-1.0, 1.0)) + float(rng.choice([0.0, np.pi]))
    corners = np.concatenate([solid.corners for solid in solids])
    size = 1.08 * place.size  # boxes around solids are a little larger than their outlines
    foot_row = float(rng.uniform(0.65, 1.05))
    foot = _cast_ray(camera, place.x, foot_row)
    distance = -float(camera.position[1]) / min(float(foot[1]), -1e-3)
    seen = float(background.view.inverse[min(int(foot_row * px), px - 1), min(int(place.x * px), px - 1)]) * distance
    if rng.random() < STANDING and distance < FARTHEST_M and (0.95 < seen < 1.05 or foot_row > 1):
        turn = rotation(yaw)
        wide, high, deep = np.ptp(corners @ (camera.axes @ turn).T, axis=0).tolist()
        shift = floats(camera.position) + foot * np.float32(distance)
        scale = size * distance / (camera.focal * max(wide, high) + 0.5 * size * deep)
        return Pose(turn=turn, shift=shift, scale=scale, standing=True)
    turn = rotation(yaw, -float(rng.uniform(-0.05, 0.3)), float(rng.normal(0, 0.07)))
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    wide, high, deep = np.ptp(corners @ (camera.axes @ turn).T, axis=0).tolist()
    distance = camera.focal * max(wide, high) / size + 0.5 * deep
    shift = floats(camera.position) + _cast_ray(camera, place.x, place.y) * np.float32(distance) - turn @ middle
    return Pose(turn=turn, shift=floats(shift), scale=1.0, standing=False)


def _cast_ray(camera: Camera, x: float, y: float) -> Vector:
    """Return the ray through a place of the image, in sides of the image, of length 1 along the camera's axis."""
    return floats([(x - 0.5) / camera.focal, (0.5 - y) / camera.focal, 1.0]) @ camera.axes


def _render_figure(background: Background, solids: list[Solid], pose: Pose, rng: np.random.Generator) -> View:
    """Render a figure alone, in its own frame, as the background's camera sees it."""
    world, px = background.world, background.view.inverse.shape[0]
    eye, axes = pose.invert(floats(world.camera.position)), world.camera.axes @ pose.turn
    camera = replace(world.camera, position=eye, axes=axes)
    way = _find_light(world, pose) - np.float32(0.4) * world.camera.axes[2] + floats(rng.normal(0, 0.2, 3))
    light = replace(world.light, towards=way @ pose.turn, lamp=None)
    if world.light.lamp is not None:  # roughly the strength of a lamp at two metres
        red, green, blue = light.colour
        light = replace(light, colour=(0.8 * red, 0.8 * green, 0.8 * blue))
    return render(World(solids=tuple(solids), camera=camera, light=light, exposure=world.exposure), px)


def _find_light(world: World, pose: Pose) -> Vector:
    """Return the direction from a figure to the sun or the lamp."""
    lamp = world.light.lamp
    return unit((floats(world.light.towards) if lamp is None else floats(lamp) - pose.shift)[None])[0]


def _scale_inverse(covered: Float32[np.ndarray, "h w"], view: View, scale: float) -> Float32[np.ndarray, "h w"]:
    """Return the inverse depth of a figure that is scaled about the camera to its distance, before all it covers."""
    here = view.alpha > 0
    if not here.any():
        return view.inverse
    depth = 1 / np.maximum(view.inverse, np.float32(1e-6))
    behind = 0.97 / max(float(covered[here].max()), 1e-3)
    factor = min(scale, behind / float(depth[here].max()))
    factor = max(factor, min(NEAR_M, behind) / float(depth[here].min()))
    return 1 / np.minimum(depth * np.float32(factor), np.float32(behind))


def _cast_shadow(background: Background, solids: list[Solid], pose: Pose) -> Float32[np.ndarray, "h w"]:
    """Return the share of direct light, in [0, 1], that a figure takes from each pixel of the background."""
    points = pose.invert(background.points)
    shadow = np.zeros(points.shape[:2], np.float32)
    light = Light(towards=_find_light(background.world, pose) @ pose.turn)
    reach = 4 * max(float(np.abs(solid.corners).max()) for solid in solids)
    near = np.flatnonzero((np.abs(points) < reach).all(axis=-1))
    shadow.reshape(-1)[near] = find_shadows(points.reshape(-1, 3)[near], light, tuple(solids))
    return cv2.resize(cv2.blur(shadow, (3, 3)), background.view.inverse.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _add_grain(image: Float32[np.ndarray, "h w 3"], rng: np.random.Generator) -> np.ndarray:
    """Add the grain of a sensor to an image and convert it to bytes."""
    px = image.shape[0]
    rows, columns = (rng.integers(0, TILE_PX - px % TILE_PX, 2)[:, None] + np.arange(px)) % TILE_PX
    grain = build_noise_tile(0.3)[np.ix_(rows, columns)] - np.float32(0.5)
    return _to_bytes(image + np.float32(rng.uniform(0.01, 0.09)) * grain[..., None])


def _to_bytes(values: Float32[np.ndarray, "*n"]) -> np.ndarray:
    return (np.clip(values, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
