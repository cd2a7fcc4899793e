# mypy: disable-error-code="no-any-return"
# (arithmetic on arrays of no stated shape has no stated type)
"""The built-in data: procedural scenes with a thing in front, with exact mask and exact depth.

    python -m data.scenes --out DIR --count 2000

Owns the putting together of backgrounds and things, the scale of the depth, and the command line. Depth is stored as
relative inverse depth on one scale for all scenes: 1 at `NEAR_M`, 0 at `FAR_M` and beyond,
(1/z - 1/far) / (1/near - 1/far). Backgrounds begin at about 1.5 m and things stand before all that they cover.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32

from data.compose.placement import Overlap, draw_placement, overlap
from data.dataset import DataError, DatasetSpec
from data.runtime.files import cache_dir
from data.runtime.progress import Progress, progress_bar
from data.scenes.figures import CutOut, draw_figure
from data.scenes.indoors import indoor_world
from data.scenes.outdoors import outdoor_world
from data.scenes.render import World, render
from data.scenes.textures import TILE_PX, noise_tile
from data.scenes.things import draw_thing
from data.scenes.vectors import floats
from data.writing.writer import DatasetWriter, Sample

VERSION = 1  # raised whenever the same seed draws something else, so that cached scenes are made anew
NEAR_M, FAR_M = 1.4, 200.0
PER_BACKGROUND = 20


@dataclass(frozen=True)
class Background:
    """A drawn background: display colours in [0, 1], inverse depth in 1/m, and the world they show."""

    image: Float32[np.ndarray, "h w 3"]
    inverse: Float32[np.ndarray, "h w"]
    world: World


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to draw: how many scenes in all, how many to a background, from which seed, how large."""

    count: int
    per_background: int = PER_BACKGROUND
    seed: int = 0
    px: int = 224

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("per_background", 1), ("seed", 0), ("px", 32)):
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}; it is at least {least}")


def make_scenes(
    out: Path,
    count: int = 2000,
    *,
    per_background: int = PER_BACKGROUND,
    seed: int = 0,
    px: int = 224,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Draw a data set of scenes.

    Args:
        out: Folder to make.
        count: Scenes in all.
        per_background: Scenes that share a background, each with a thing of its own.
        seed: Same seed, same pictures, whatever the number of workers.
        px: Side of the pictures.
        workers: Processes; the number of cores if None.
        progress: Told (backgrounds done, backgrounds in all).

    Returns:
        `out`.

    Raises:
        DataError: `out` is in use, or a number is out of range.
    """
    plan = Plan(count=count, per_background=per_background, seed=seed, px=px)
    spec = DatasetSpec(near="bright", depth_unit="relative", group_size=per_background, near_m=NEAR_M, far_m=FAR_M)
    backgrounds = range(-(-count // per_background))
    with DatasetWriter(Path(out), spec) as writer:
        writer.fill(partial(draw_group, plan), backgrounds, workers=workers, progress=progress)
    return Path(out)


def cached_scenes(count: int, *, progress: Progress | None = None) -> Path:
    """Folder of built-in scenes in the user's cache, drawn on first use.

    Args:
        count: Scenes in all.
        progress: As for `make_scenes`.

    Returns:
        The folder; another process that draws the same at the same time does no harm.
    """
    folder = cache_dir() / f"scenes-v{VERSION}-{count}"
    if folder.is_dir():
        return folder
    try:
        return make_scenes(folder, count, progress=progress)
    except DataError:
        if folder.is_dir():
            return folder
        raise


def draw_group(plan: Plan, index: int) -> Iterator[tuple[int, Sample]]:
    """Numbered scenes of one background, each with another thing in front."""
    background = draw_background(np.random.default_rng([VERSION, plan.seed, index]), plan.px)
    first = index * plan.per_background
    for number in range(first, min(first + plan.per_background, plan.count)):
        rng = np.random.default_rng([VERSION, plan.seed, index, number - first + 1])
        yield number + 1, replace(draw_scene(background, rng), background=f"scene{index:04d}")


def draw_background(rng: np.random.Generator, px: int) -> Background:
    """A random background, outdoors or indoors."""
    world = outdoor_world(rng) if rng.random() < 0.55 else indoor_world(rng)
    image, depth = render(world, px)
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 0.8)))
    return Background(image=image, inverse=np.float32(1) / depth, world=world)


def draw_scene(background: Background, rng: np.random.Generator) -> Sample:
    """Put a random thing in front of a background.

    Args:
        background: What stands behind.
        rng: Draws the thing and its place.

    Returns:
        The sample, its background not yet named.
    """
    px = background.image.shape[0]
    place, figure = draw_placement(rng), draw_thing(rng)
    cutout = draw_figure(figure, place.size * px, _light_on_thing(background.world, rng), float(rng.uniform(0.35, 0.6)))
    at = overlap(place, cutout.alpha.shape, px)
    alpha, colour = cutout.alpha[at.cutout], cutout.colour[at.cutout] * np.float32(rng.uniform(0.8, 1.1))
    image, inverse = background.image.copy(), background.inverse.copy()
    mask = np.zeros((px, px), np.float32)
    image[at.picture] = image[at.picture] * (1 - alpha[..., None]) + colour
    thing = _thing_inverse(background, cutout, at, figure.height_m)
    inverse[at.picture] = inverse[at.picture] * (1 - alpha) + thing * alpha
    mask[at.picture] = alpha
    return Sample(_developed(image, rng), _bytes(mask), _bytes(relative(inverse)), "", figure.name)


def relative(inverse: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """Inverse depth in 1/m as relative inverse depth in [0, 1] on the scale of all scenes."""
    return np.clip((inverse - np.float32(1 / FAR_M)) / np.float32(1 / NEAR_M - 1 / FAR_M), 0, 1)


def _thing_inverse(background: Background, cutout: CutOut, at: Overlap, height_m: float) -> Float32[np.ndarray, "h w"]:
    """Inverse depth of a thing as far away as its size says, or just before what it covers where that is nearer."""
    focal_px = background.world.camera.focal * background.image.shape[0]
    relief = cutout.relief[at.cutout] / np.float32(focal_px)  # depth behind its front, in shares of the front's depth
    covered = background.inverse[at.picture][cutout.alpha[at.cutout] > 0]
    behind = 0.97 / max(float(covered.max(initial=0.0)), 1e-3)
    front = min(0.8 * height_m * focal_px / cutout.px_per_unit, behind / (1 + float(relief.max())))
    front = max(front, min(NEAR_M, behind))
    return 1 / np.minimum(np.float32(front) * (1 + relief), np.float32(behind))


def _light_on_thing(world: World, rng: np.random.Generator) -> tuple[float, float, float]:
    """Roughly the light of the world, as the viewer sees it; a lamp is taken to hang above."""
    axes = world.camera.axes()
    way = axes @ floats(world.light.towards) if world.light.lamp is None else floats([0, 1, -0.3])
    seen = way + floats([0, 0.2, -0.5]) + rng.normal(0, 0.25, 3).astype(np.float32)
    return tuple(seen.tolist())


def _developed(image: Float32[np.ndarray, "h w 3"], rng: np.random.Generator) -> np.ndarray:
    """The grain of a sensor over the whole picture, then bytes."""
    row, column = rng.integers(0, TILE_PX - image.shape[0] % TILE_PX, 2)
    grain = noise_tile(0.3)[row : row + image.shape[0], column : column + image.shape[1], None] - np.float32(0.5)
    return _bytes(image + np.float32(rng.uniform(0.01, 0.09)) * grain)


def _bytes(values: Float32[np.ndarray, "*n"]) -> np.ndarray:
    return (np.clip(values, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 done, 2 the user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m data.scenes", description="Draw the built-in data set of scenes.")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--count", type=int, default=2000, help="scenes in all (default: %(default)s)")
    parser.add_argument(
        "--per-background", type=int, default=PER_BACKGROUND, help="scenes to a background (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same pictures (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side in pixels (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one a core)")
    args = parser.parse_args(arguments)
    try:
        with progress_bar("scenes") as progress:
            make_scenes(
                args.out, args.count, per_background=args.per_background, seed=args.seed, px=args.size,
                workers=args.workers, progress=progress,
            )  # fmt: skip
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.count} scenes in {args.out}")
    return 0
