"""Composites: cut-outs pasted on photos, as a data set with mask and, where the photos have it, depth.

    python -m data.compose --backgrounds DIR --foregrounds DIR --per-pair 20 --flip --out DIR

Owns what is pasted on what, and the command line. Depth is stored as relative inverse depth on one scale for the whole
data set, 1..255 for 0..1 in PNG, 0 where it is not known. Where photos have metric depth that is
(1/z - 1/far) / (1/near - 1/far), clipped, `far` being the 99th percentile of all known depths and `near` nine tenths
of their first, so that the range is used and things have room before what they cover. dataset.json keeps both.
A cut-out is flat: all of it stands just before the nearest known depth that it covers, other things included.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.backgrounds import UNKNOWN, Photo, depth_codes, photos_in, read_photo
from data.compose.blending import JUST_BEFORE, Canvas, Light, paste_thing
from data.compose.depth_cache import relative_depth, teach
from data.compose.depth_models import GroundTeacher, Teacher, find_teacher, ready_preparations
from data.compose.foregrounds import find_cutouts, read_cutout
from data.compose.placement import RULES, Placement, draw_placement, draw_standing, plane_sizes
from data.compose.plan import PER_PAIR, Plan, Rules, make_plan
from data.dataset import DataError
from data.runtime.parallel import Workers
from data.runtime.progress import Progress, progress_bar
from data.runtime.ray_map import open_workers
from data.writing.writer import DatasetWriter, Sample, SampleFiles, check_free, check_room

CHUNK = 50  # composites to a job
LOOK_AT = 24  # composites from which the disk space is estimated
SUFFIX = ".png"  # of masks and depth: their values mean something


def compose(plan: Plan, out: Path, *, workers: Workers = None, progress: Progress | None = None) -> Path:
    """Make a data set of composites; what was cut off is taken up where the plan and its sources are the same.

    Args:
        plan: What to make.
        out: Folder to make.
        workers: Who does it.
        progress: Told (composites done, composites in all).

    Returns:
        `out`.

    Raises:
        DataError: `out` in use, or no room for it.
    """
    out = Path(out)
    check_free(out)
    jobs = [range(start, min(start + CHUNK, plan.count)) for start in range(0, plan.count, CHUNK)]
    told = partial(_tell_composites, progress, plan.count) if progress else None
    formats = {"mask_suffix": SUFFIX, "depth_suffix": SUFFIX}
    with DatasetWriter(out, plan.stated(), origin=plan.origin(), **formats) as writer:
        check_room(out, disk_bytes(plan) * (1 - writer.stored_jobs / len(jobs)))
        writer.fill(partial(draw_composites, plan), jobs, workers=workers, progress=told)
    return out


def _tell_composites(progress: Progress, count: int, jobs_done: int, _: int) -> None:
    progress(min(jobs_done * CHUNK, count), count)


def disk_bytes(plan: Plan) -> float:
    """Disk space that the composites take, from some that are drawn and encoded."""
    files = SampleFiles(folder=Path(), mask_suffix=SUFFIX, depth_suffix=SUFFIX)
    some = sorted({index * plan.count // LOOK_AT for index in range(LOOK_AT)})
    drawn = (sample for index in some for _, sample in draw_composites(plan, range(index, index + 1)))
    return sum(map(files.disk_bytes, drawn)) / len(some) * plan.count


def draw_composites(plan: Plan, indices: range) -> Iterator[tuple[int, Sample]]:
    """Numbered composites of a job."""
    for index in indices:
        background, rng = plan.background(index), np.random.default_rng([plan.rules.seed, 0, index])
        photo = read_photo(*plan.photos[background], plan.depth, plan.rules.px)
        things = draw_things(plan, index, rng)
        canvas = paste_all(plan, photo, things, rng)
        names = plan.photos[background][0].stem, "+".join(plan.cutouts[cutout].stem for cutout, _ in things)
        yield index + 1, Sample(canvas.image, canvas.mask, depth_of(plan, canvas), *names, plan.split(background))


def depth_of(plan: Plan, canvas: Canvas) -> UInt8[np.ndarray, "px px"] | None:
    """Depth of a composite as it is written: that of its photo and things, or what a teacher sees in it."""
    if plan.teacher is not None:
        return depth_codes(relative_depth(plan.teacher, canvas.image, "a composite", plan.rules.px))
    return None if plan.depth is None else depth_codes(canvas.depth)


def draw_things(plan: Plan, index: int, rng: np.random.Generator) -> list[tuple[int, bool]]:
    """Cut-outs of a composite and whether each is mirrored: its own, and others drawn at random."""
    others = int(rng.integers(plan.rules.things))
    cutouts, sides = rng.integers(len(plan.cutouts), size=others).tolist(), rng.random(others) < 0.5
    return [
        plan.foreground(index),
        *((cutout, bool(side) and plan.rules.flip) for cutout, side in zip(cutouts, sides, strict=True)),
    ]


def paste_all(plan: Plan, photo: Photo, things: list[tuple[int, bool]], rng: np.random.Generator) -> Canvas:
    """Paste cut-outs on a square window of a photo, the nearer over the farther."""
    px, rules = plan.rules.px, plan.rules
    top, left = (int(rng.integers(0, side - px + 1)) for side in photo.depth.shape)
    window = slice(top, top + px), slice(left, left + px)
    canvas = Canvas.of(photo, window)
    light = Light.draw(rng) if rules.shadow else None
    sizes = photo.standing[window] if rules.placement == "ground" else None
    placed = []
    for cutout, mirrored in things:
        pixels = read_cutout(plan.cutouts[cutout], plan.longest_px)
        place, foot = draw_place(canvas, sizes, pixels.shape[:2], rng)
        placed.append((pixels, replace(place, mirrored=mirrored), foot))
    for pixels, place, foot in sorted(placed, key=lambda thing: thing[1].bottom(thing[0].shape[:2])):
        paste_thing(canvas, pixels, place, share=float(rng.uniform(*JUST_BEFORE)), foot=foot, light=light)
    return canvas


def draw_place(
    canvas: Canvas, sizes: Float32[np.ndarray, "px px"] | None, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Placement, float]:
    """A place for a cut-out of a shape, and the depth of what it stands on, `UNKNOWN` if that is not known.

    On ground of given sizes; where the window has none of the photo's, on a plane; by the study's rule in what is all
    sky, and where no sizes are given.
    """
    if sizes is None:
        return draw_placement(rng), UNKNOWN
    stand = draw_standing(sizes if sizes.any() else plane_sizes(canvas.depth), shape, rng)
    if stand is None:
        return draw_placement(rng), UNKNOWN
    place, foot = stand
    return place, float(canvas.depth[foot])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data.compose", description="Paste cut-outs on photos.")
    add = parser.add_argument
    add("--backgrounds", type=Path, required=True, metavar="DIR", help="photos, or a folder with images/ and depth/")
    add("--foregrounds", type=Path, required=True, metavar="DIR", help="RGBA cut-outs")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    _add_depth(parser)
    number = parser.add_mutually_exclusive_group()
    per_pair = "composites of every photo with every cut-out (default: %(default)s)"
    number.add_argument("--per-pair", type=int, default=PER_PAIR, metavar="N", help=per_pair)
    number.add_argument("--count", type=int, metavar="N", help="composites in all, instead")
    add("--flip", action="store_true", help="use every cut-out mirrored too, as often")
    placement = (
        "study: anywhere, 0.3 to 0.6 of the side; ground: standing on what is level, as large as the distance makes it "
        "(default: %(default)s)"
    )
    add("--placement", choices=RULES, default="study", help=placement)
    add("--things", type=int, default=1, metavar="N", help="cut-outs in a picture, at most (default: %(default)s)")
    add("--shadow", action="store_true", help="things cast shadows")
    add("--seed", type=int, default=0, help="same seed, same pictures (default: %(default)s)")
    add("--size", type=int, default=224, metavar="PX", help="side in pixels (default: %(default)s)")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--workers", type=int, default=None, metavar="N", help="processes (default: one a core)")
    who.add_argument(
        "--address", help="address of a Ray cluster that does the work instead; auto: the one on this machine"
    )
    no_split = "let each run split by its seed; else the last fifth of the photos validates"
    add("--no-split", action="store_true", help=no_split)
    return parser


def _add_depth(parser: argparse.ArgumentParser) -> None:
    depth = (
        "DIR: depth maps named as the photos, 16-bit mm (0 = missing) or what a dataset.json beside them says; "
        "MODEL.onnx or hf:NAME: a teacher that sees each photo once; ground: level ground below a horizon, for photos "
        "of which nothing is known; none: images and masks only "
        "(default: depth/ of the backgrounds)"
    )
    parser.add_argument("--depth", metavar="WHAT", help=depth)
    teacher = f"how MODEL.onnx is used, where no MODEL.json beside it says so: {', '.join(ready_preparations())}"
    parser.add_argument("--teacher", metavar="NAME", help=teacher)
    on = "what the teacher sees: photos, or each composite, which is slow (default: %(default)s)"
    parser.add_argument("--depth-on", choices=("background", "composite"), default="background", help=on)


def plan_of(args: argparse.Namespace, workers: Workers = None) -> Plan:
    """Look at what the command line names.

    Args:
        args: The command line.
        workers: Who lets a teacher see the photos.

    Raises:
        DataError: It cannot be used.
    """
    rules = Rules(
        px=args.size,
        flip=args.flip,
        placement=args.placement,
        things=args.things,
        shadow=args.shadow,
        seed=args.seed,
        hold_out=not args.no_split,
    )
    check_free(args.out)
    find_cutouts(args.foregrounds)
    teacher = find_teacher(args.depth or "", args.teacher)
    if args.depth_on == "composite" and (teacher is None or isinstance(teacher, GroundTeacher)):
        raise DataError("--depth-on composite: nobody is there to see them; name a teacher, --depth MODEL.onnx")
    depth = _depth_folder(args, teacher, workers)
    number = {"count": args.count, "per_pair": args.per_pair}
    with progress_bar("sources") as progress:
        plan = make_plan(args.backgrounds, args.foregrounds, depth=depth, rules=rules, progress=progress, **number)
    return replace(plan, teacher=teacher) if args.depth_on == "composite" else plan


def _depth_folder(args: argparse.Namespace, teacher: Teacher | None, workers: Workers) -> Path | None:
    if args.depth == "none":
        return None
    if teacher is None:
        return Path(args.depth or args.backgrounds / "depth")
    with progress_bar("depth of the photos") as progress:
        return teach(teacher, photos_in(args.backgrounds), workers=workers, progress=progress)


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 done, 2 the user's mistake, 130 stopped by the user with what was made kept."""
    args = parser().parse_args(arguments)
    try:
        with open_workers(args.workers, args.address) as workers:
            plan = plan_of(args, workers)
            print(f"{plan.count:,} composites of {len(plan.photos)} photos and {len(plan.cutouts)} cut-outs")
            with progress_bar("composites") as progress:
                compose(plan, args.out, workers=workers, progress=progress)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"written to {args.out}")
    return 0
