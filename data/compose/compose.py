"""Compose a data set: paste foregrounds on photos, with masks and, if the photos have it, depth.

Depth is stored as relative inverse depth on one scale for the whole data set: PNG, 1..255 for 0..1, 0 = unknown. A
foreground is flat: all of it lies just in front of the nearest known depth that it covers, including other foregrounds.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.blending import DISTANCE_RATIOS, Canvas, Light, paste_foreground
from data.compose.depth_models import (
    LevelGround,
    cache_depth_maps,
    list_presets,
    load_depth_model,
    predict_relative_depth,
)
from data.compose.placement import RULES, Placement, compute_plane_sizes, draw_placement, draw_standing
from data.compose.plan import PER_PAIR, ComposeOptions, Plan, make_plan
from data.compose.sources import (
    FOREGROUNDS,
    UNKNOWN,
    Background,
    encode_depth_bytes,
    list_backgrounds,
    list_images,
    read_background,
    read_foreground,
)
from data.dataset import DataError
from data.runtime import cli
from data.runtime.parallel import Workers, open_workers
from data.runtime.progress import Progress, no_progress, progress_bar
from data.writing import DatasetWriter, Sample, SampleFiles, check_free, check_room

CHUNK = 50  # composites in a job
DISK_SAMPLES = 24  # composites from which the disk space is estimated
SUFFIX = ".png"  # suffix of masks and depth: lossless, because individual values have a meaning


def write_composites(plan: Plan, out: Path, *, workers: Workers = None, progress: Progress = no_progress) -> Path:
    """Write a data set of composites to `out`, or resume an interrupted one with the same plan and sources."""
    out = Path(out)
    check_free(out)
    jobs = [range(start, min(start + CHUNK, plan.count)) for start in range(0, plan.count, CHUNK)]
    with DatasetWriter(out, plan.build_spec(), origin=plan.describe_origin(), label_suffix=SUFFIX) as writer:
        check_room(out, _estimate_disk_bytes(plan) * (1 - len(writer.stored) / len(jobs)))
        writer.fill(
            partial(draw_composites, plan),
            jobs,
            workers=workers,
            progress=lambda done, _: progress(min(done * CHUNK, plan.count), plan.count),
        )
    return out


def _estimate_disk_bytes(plan: Plan) -> float:
    """Estimate the size of all composites by drawing and encoding a sample of them."""
    files = SampleFiles(Path(), SUFFIX)
    indices = sorted({index * plan.count // DISK_SAMPLES for index in range(DISK_SAMPLES)})
    drawn = (sample for index in indices for _, sample in draw_composites(plan, range(index, index + 1)))
    return sum(map(files.disk_bytes, drawn)) / len(indices) * plan.count


def draw_composites(plan: Plan, indices: range) -> Iterator[tuple[int, Sample]]:
    """Draw the composites of a job, numbered from 1."""
    for index in indices:
        number, rng = plan.pick_background(index), np.random.default_rng([plan.options.seed, 0, index])
        image, depth_file = plan.backgrounds[number]
        background = read_background(image, depth_file, plan.depth, plan.options.px)
        chosen = _draw_foregrounds(plan, index, rng)
        canvas = paste_all(plan, background, chosen, rng)
        names = image.stem, "+".join(plan.foregrounds[foreground].stem for foreground, _ in chosen)
        yield index + 1, Sample(canvas.image, canvas.mask, _build_depth(plan, canvas), *names, plan.pick_split(number))


def _build_depth(plan: Plan, canvas: Canvas) -> UInt8[np.ndarray, "px px"] | None:
    """Return the depth of a composite, from the canvas or the depth model, as 0 = unknown, 1..255 = 0..1."""
    depth = canvas.depth
    if plan.depth_model is not None:
        depth = predict_relative_depth(plan.depth_model, canvas.image, "a composite", plan.options.px)
    elif plan.depth is None:
        return None
    return encode_depth_bytes(depth)


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


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = cli.Parser("one-look compose", "Paste foregrounds on photos.")
    add = parser.add_argument
    add("--backgrounds", type=Path, required=True, metavar="DIR", help="photos, or a folder with images/ and depth/")
    add("--foregrounds", type=Path, required=True, metavar="DIR", help="RGBA images of cut-out objects")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    depth = (
        "DIR: depth maps named like the photos, in 16-bit mm or as dataset.json in DIR says; MODEL.onnx or hf:NAME: a "
        "depth model; ground: level ground below a horizon; none: no depth (default: depth/ of the backgrounds)"
    )
    add("--depth", metavar="SOURCE", help=depth)
    preset = f"preprocessing of MODEL.onnx if there is no MODEL.json beside it: {', '.join(list_presets())}"
    add("--depth-preset", metavar="NAME", help=preset)
    on = "run the depth model on the photos, or on each composite, which is slow (default: %(default)s)"
    add("--depth-on", choices=("background", "composite"), default="background", help=on)
    number = parser.add_mutually_exclusive_group()
    per_pair = "composites in total for each pair of photo and foreground (default: %(default)s)"
    number.add_argument("--per-pair", type=int, default=PER_PAIR, metavar="N", help=per_pair)
    number.add_argument("--count", type=int, metavar="N", help="number of composites in total, instead of --per-pair")
    add("--flip", action="store_true", help="also use each foreground mirrored, equally often")
    placement = (
        "study: anywhere, 0.3 to 0.6 of the side; ground: standing, smaller with distance (default: %(default)s)"
    )
    add("--placement", choices=RULES, default="study", help=placement)
    add("--things", type=int, default=1, metavar="N", help="largest number of foregrounds (default: %(default)s)")
    add("--shadow", action="store_true", help="cast shadows")
    add("--seed", type=int, default=0, help="the same seed gives the same images (default: %(default)s)")
    add("--size", type=int, default=224, metavar="PX", help="side in pixels (default: %(default)s)")
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument("--workers", type=int, metavar="N", help="number of processes (default: one for each core)")
    workers.add_argument(
        "--address", help="address of a Ray cluster that does the work; auto: the cluster on this machine"
    )
    no_split = (
        "let each run split by its seed (default: hold out the last fifth of photos and foregrounds for validation; "
        "from 20 of both on, half of it for the test)"
    )
    add("--no-split", action="store_true", help=no_split)
    return parser


def plan_from_args(args: argparse.Namespace, workers: Workers = None) -> Plan:
    """Plan the requested composites; `workers` run the depth model on the photos."""
    names = ("flip", "placement", "things", "shadow", "seed")
    options = ComposeOptions(px=args.size, hold_out=not args.no_split, **{name: getattr(args, name) for name in names})
    check_free(args.out)
    list_images(args.foregrounds, FOREGROUNDS)
    model = load_depth_model(args.depth or "", args.depth_preset)
    if args.depth_on == "composite" and (model is None or isinstance(model, LevelGround)):
        raise DataError("--depth-on composite: there is no depth model; add --depth MODEL.onnx or hf:NAME")
    depth = None if args.depth == "none" else Path(args.depth or args.backgrounds / "depth")
    if model is not None:
        with progress_bar("depth of the photos") as progress:
            depth = cache_depth_maps(model, list_backgrounds(args.backgrounds), workers=workers, progress=progress)
    number = {"count": args.count, "per_pair": args.per_pair}
    with progress_bar("sources") as progress:
        plan = make_plan(args.backgrounds, args.foregrounds, depth=depth, options=options, progress=progress, **number)
    return replace(plan, depth_model=model) if args.depth_on == "composite" else plan


def main(arguments: list[str] | None = None) -> int:
    """Run `one-look compose` and return its exit code; after 130 (stopped) the same command resumes."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _run(args), DataError, OSError)


def _run(args: argparse.Namespace) -> None:
    try:
        with open_workers(args.workers, args.address) as workers:
            plan = plan_from_args(args, workers)
            sources = f"{len(plan.backgrounds)} photos and {len(plan.foregrounds)} foregrounds"
            print(f"{plan.count:,} composites of {sources}")
            with progress_bar("composites") as progress:
                write_composites(plan, args.out, workers=workers, progress=progress)
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
        raise
    print(f"written to {args.out}")
