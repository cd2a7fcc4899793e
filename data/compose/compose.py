"""Compose a data set: paste foregrounds on photos, with masks and, if the photos have it, depth.

Depth is stored as relative inverse depth on one scale for the whole data set: PNG, 1..255 for 0..1, 0 = unknown. A
foreground is flat: all of it lies just in front of the nearest known depth that it covers, including other foregrounds.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from data.compose.blending import DISTANCE_RATIOS, Canvas, Light, paste_foreground
from data.compose.placement import Placement, compute_plane_sizes, draw_placement, draw_standing
from data.compose.plan import Plan
from data.compose.sources import UNKNOWN, Background, encode_depth_bytes, read_background, read_foreground
from data.runtime.parallel import Workers
from data.runtime.progress import Progress, no_progress
from data.writing import DatasetWriter, Sample, SampleFiles, check_room

CHUNK = 50  # composites in a job
DISK_SAMPLES = 24  # composites from which the disk space is estimated
SUFFIX = ".png"  # suffix of masks and depth: lossless, because individual values have a meaning


def write_composites(plan: Plan, out: Path, *, workers: Workers = None, progress: Progress = no_progress) -> Path:
    """Write a data set of composites to `out`, or resume an interrupted one with the same plan and sources."""
    jobs = [range(start, min(start + CHUNK, plan.count)) for start in range(0, plan.count, CHUNK)]
    with DatasetWriter(out, plan.build_spec(), origin=plan.describe_origin(), label_suffix=SUFFIX) as writer:
        check_room(writer.root, _estimate_disk_bytes(plan) * (1 - len(writer.stored) / len(jobs)))

        def count(done: int, _: int) -> None:
            progress(min(done * CHUNK, plan.count), plan.count)

        writer.fill(partial(draw_composites, plan), jobs, workers=workers, progress=count)
    return writer.root


def _estimate_disk_bytes(plan: Plan) -> float:
    """Estimate the size of all composites by drawing and encoding a sample of them."""
    files = SampleFiles(Path(), SUFFIX)
    indices = sorted({index * plan.count // DISK_SAMPLES for index in range(DISK_SAMPLES)})
    drawn = (sample for index in indices for _, sample in draw_composites(plan, range(index, index + 1)))
    return sum(map(files.compute_disk_bytes, drawn)) / len(indices) * plan.count


def draw_composites(plan: Plan, indices: range) -> Iterator[tuple[int, Sample]]:
    """Draw the composites of a job, numbered from 1."""
    for index in indices:
        number, rng = plan.pick_background(index), np.random.default_rng([plan.options.seed, 0, index])
        image, depth_file = plan.backgrounds[number]
        background = read_background(image, depth_file, plan.depth_spec, plan.options.px)
        chosen = _draw_foregrounds(plan, index, rng)
        canvas = paste_all(plan, background, chosen, rng)
        depth = None if plan.depth_spec is None else encode_depth_bytes(canvas.depth)
        names = image.stem, "+".join(plan.foregrounds[foreground].stem for foreground, _ in chosen)
        yield index + 1, Sample(canvas.image, canvas.mask, depth, *names, plan.pick_split(number))


def _draw_foregrounds(plan: Plan, index: int, rng: np.random.Generator) -> list[tuple[int, bool]]:
    """Draw the foregrounds of a composite, mirrored or not: the planned one, and others at random."""
    count = int(rng.integers(plan.options.things))
    own = plan.list_foregrounds(index)
    others, sides = (own.start + rng.integers(len(own), size=count)).tolist(), rng.random(count) < 0.5
    mirrored = [bool(side) and plan.options.flip for side in sides]
    return [plan.pick_foreground(index), *zip(others, mirrored, strict=True)]


def paste_all(plan: Plan, background: Background, chosen: list[tuple[int, bool]], rng: np.random.Generator) -> Canvas:
    """Paste the chosen foregrounds (number, mirrored) on a square window of a background, the nearest last."""
    px, options = plan.options.px, plan.options
    top, left = (int(rng.integers(0, side - px + 1)) for side in background.depth.shape)
    window = slice(top, top + px), slice(left, left + px)
    canvas = Canvas.from_background(background, window)
    light = Light.draw(rng) if options.shadow else None
    sizes = background.standing_sizes[window] if options.placement == "ground" else None
    placed = []
    for foreground, mirrored in chosen:
        pixels = read_foreground(plan.foregrounds[foreground], plan.longest_px)
        place, foot = _draw_place(canvas, sizes, pixels.shape[:2], rng)
        placed.append((pixels, replace(place, mirrored=mirrored), foot))
    for pixels, place, foot in sorted(placed, key=lambda one: one[1].bottom(one[0].shape[:2])):
        ratio = float(rng.uniform(*DISTANCE_RATIOS))
        paste_foreground(canvas, pixels, place, distance_ratio=ratio, foot=foot, light=light)
    return canvas


def _draw_place(
    canvas: Canvas, sizes: Float32[np.ndarray, "px px"] | None, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Placement, float]:
    """Draw a place for a foreground, and return it with the depth it stands on (`UNKNOWN` if it does not stand).

    With `sizes`, the foreground stands on the ground, or else on a plane. Without `sizes`, or if everything is sky, the
    study's rule applies.
    """
    if sizes is not None:
        standing = draw_standing(sizes if sizes.any() else compute_plane_sizes(canvas.depth), shape, rng)
        if standing is not None:
            place, foot = standing
            return place, float(canvas.depth[foot])
    return draw_placement(rng), UNKNOWN
