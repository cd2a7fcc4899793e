"""Composites: cut-outs pasted on photos with sensor depth, as a data set with mask and depth.

    python -m data.compose --backgrounds DIR --foregrounds DIR --count 2000 --out DIR

Owns the pasting, the depth of what is pasted, and the command line. Depth is stored as relative inverse depth on one
scale for the whole data set, 1..255 for 0..1 in PNG, 0 where the sensor saw nothing:
(1/z - 1/far) / (1/near - 1/far), clipped, where `far` is the 99th percentile of all known depths and `near` nine tenths
of their first, so that the range is used and things have room before what they cover. dataset.json keeps both.
A cut-out is flat: all of it stands just before the nearest known depth that it covers.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.compose_sources import CutOut, Photo, find_cutouts, find_photos, read_cutout, read_photo
from data.dataset import DataError, DatasetSpec
from data.placement import Placement, draw_placement, overlap
from data.progress import Progress, progress_bar
from data.writer import DatasetWriter, Sample, check_free

OPAQUE = 200 / 255  # the study's threshold of alpha for its masks
MISSING = 0
JUST_BEFORE = (0.85, 0.98)  # depth of a thing as a share of the nearest depth it covers
CHUNK = 50  # composites to a job


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to compose. `near_m` and `far_m` are the ends of the depth scale."""

    photos: tuple[tuple[Path, Path], ...]
    cutouts: tuple[Path, ...]
    count: int
    seed: int
    px: int
    near_m: float
    far_m: float
    hold_out: bool = True

    def background(self, index: int) -> int:
        """Photo of a composite: consecutive composites share one, all get equally many."""
        return index * len(self.photos) // self.count

    def foreground(self, index: int) -> int:
        """Cut-out of a composite: all are used once, in random order, before any is used again."""
        turn, place = divmod(index, len(self.cutouts))
        return int(np.random.default_rng([self.seed, 1, turn]).permutation(len(self.cutouts))[place])

    def split(self, background: int) -> str:
        """The last fifth of the photos validates, if any is held out; a single photo is not split."""
        photos = len(self.photos)
        if photos < 2 or not self.hold_out:
            return ""
        return "val" if background >= photos - max(1, photos // 5) else "train"


def compose(
    backgrounds: Path,
    foregrounds: Path,
    out: Path,
    count: int = 2000,
    *,
    seed: int = 0,
    px: int = 224,
    hold_out: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make a data set of composites.

    Args:
        backgrounds: Folder with images/ and depth/ (16-bit millimetres, 0 = missing) of equal stems.
        foregrounds: Folder of RGBA cut-outs.
        out: Folder to make.
        count: Composites in all.
        seed: Same seed, same pictures, whatever the number of workers.
        px: Side of the pictures.
        hold_out: Whether the manifest holds out the last fifth of the photos; else whoever reads it splits it.
        workers: Processes; the number of cores if None.
        progress: Told (jobs done, jobs in all).

    Returns:
        `out`.

    Raises:
        DataError: Sources that cannot be used, `out` in use, or a number out of range.
    """
    check_free(Path(out))
    plan = make_plan(Path(backgrounds), Path(foregrounds), count, seed=seed, px=px)
    plan = replace(plan, hold_out=hold_out)
    spec = DatasetSpec(near="bright", depth_unit="relative", missing=MISSING, near_m=plan.near_m, far_m=plan.far_m)
    jobs = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    with DatasetWriter(Path(out), spec, depth_suffix=".png") as writer:
        writer.fill(partial(draw_composites, plan), jobs, workers=workers, progress=progress)
    return Path(out)


def make_plan(backgrounds: Path, foregrounds: Path, count: int, *, seed: int = 0, px: int = 224) -> Plan:
    """Look at the sources and settle the scale of the depth.

    Raises:
        DataError: Sources that cannot be used, or a number out of range.
    """
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("size", px, 32)):
        if value < least:
            raise DataError(f"{name} is {value}; it is at least {least}")
    photos, cutouts = find_photos(backgrounds), find_cutouts(foregrounds)
    known = np.concatenate([depth[depth > 0][::7] for depth in (read_photo(*pair, px).depth_m for pair in photos)])
    if known.size == 0:
        raise DataError(f"{backgrounds / 'depth'}: no known depth in any file; 0 means missing, others are millimetres")
    first, last = np.percentile(known, [1, 99])
    near_m = round(0.9 * float(first), 3)
    far_m = max(round(float(last), 3), round(near_m * 1.2, 3))
    return Plan(photos=photos, cutouts=cutouts, count=count, seed=seed, px=px, near_m=near_m, far_m=far_m)


def draw_composites(plan: Plan, indices: range) -> Iterator[tuple[int, Sample]]:
    """Numbered composites of a job."""
    for index in indices:
        background, foreground = plan.background(index), plan.foreground(index)
        photo, cutout = read_photo(*plan.photos[background], plan.px), read_cutout(plan.cutouts[foreground])
        image, mask, depth = paste(plan, photo, cutout, np.random.default_rng([plan.seed, 0, index]))
        names = plan.photos[background][0].stem, plan.cutouts[foreground].stem
        yield index + 1, Sample(image, mask, depth, *names, plan.split(background))


def paste(
    plan: Plan, photo: Photo, cutout: CutOut, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """Paste a cut-out on a photo by the study's rule.

    Args:
        plan: Size and scale of depth.
        photo: Its shorter side is the size; a square window of it is drawn.
        cutout: What to paste.
        rng: Draws window, place, side and depth.

    Returns:
        Image, mask (0 or 255) and depth codes (0 = not known, 1..255 = 0..1).
    """
    height, width = photo.depth_m.shape
    top, left = int(rng.integers(0, height - plan.px + 1)), int(rng.integers(0, width - plan.px + 1))
    window = slice(top, top + plan.px), slice(left, left + plan.px)
    place = draw_placement(rng)
    colour, alpha = _sized(cutout, place, plan.px)
    at = overlap(place, alpha.shape, plan.px)
    image, depth_m = photo.image[window].copy(), photo.depth_m[window].copy()
    colour, alpha = colour[at.cutout], alpha[at.cutout]
    blended = image[at.picture] * (1 - alpha[..., None]) + colour
    image[at.picture] = np.clip(blended + np.float32(0.5), 0, 255).astype(np.uint8)
    mask = np.zeros(depth_m.shape, np.uint8)
    mask[at.picture] = np.where(alpha >= OPAQUE, np.uint8(255), np.uint8(0))
    depth_m[mask > 0] = _depth_before(depth_m, mask > 0, rng)
    return image, mask, depth_codes(depth_m, plan.near_m, plan.far_m)


def depth_codes(depth_m: Float32[np.ndarray, "h w"], near_m: float, far_m: float) -> UInt8[np.ndarray, "h w"]:
    """Metres (0 = not known) as codes: 0 = not known, 1..255 = relative inverse depth 0..1."""
    known = depth_m > 0
    inverse = np.divide(np.float32(1), depth_m, out=np.zeros_like(depth_m), where=known)
    share = np.clip((inverse - np.float32(1 / far_m)) / np.float32(1 / near_m - 1 / far_m), 0, 1)
    return np.where(known, np.maximum(share * np.float32(255) + np.float32(0.5), 1), 0).astype(np.uint8)


def _sized(
    cutout: CutOut, place: Placement, px: int
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Premultiplied colours (0..255) and alpha of a cut-out at the size and side of its place."""
    scale = place.size * px / max(cutout.alpha.shape)
    size = tuple(max(1, round(side * scale)) for side in cutout.alpha.shape[::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    colour, alpha = (cv2.resize(plane, size, interpolation=method) for plane in (cutout.colour, cutout.alpha))
    return (colour[:, ::-1], alpha[:, ::-1]) if place.mirrored else (colour, alpha)


def _depth_before(depth_m: Float32[np.ndarray, "h w"], here: np.ndarray, rng: np.random.Generator) -> float:
    """Depth of a thing: just before the nearest known depth behind it, or in the picture where none is known behind."""
    share = float(rng.uniform(*JUST_BEFORE))
    for depths in (depth_m[here], depth_m):
        known = depths[depths > 0]
        if known.size:
            return share * float(known.min())
    return 1.0


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 done, 2 the user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m data.compose", description="Paste cut-outs on photos with depth.")
    parser.add_argument(
        "--backgrounds", type=Path, required=True, help="folder with images/ and depth/ (16-bit mm, 0 = missing)"
    )
    parser.add_argument("--foregrounds", type=Path, required=True, help="folder of RGBA cut-outs")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--count", type=int, default=2000, help="composites in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same pictures (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side in pixels (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one a core)")
    parser.add_argument(
        "--no-split",
        action="store_true",
        help="let each run split by its seed; else the last fifth of the photos validates",
    )
    args = parser.parse_args(arguments)
    try:
        with progress_bar("composites") as progress:
            compose(
                args.backgrounds, args.foregrounds, args.out, args.count, seed=args.seed, px=args.size,
                hold_out=not args.no_split, workers=args.workers, progress=progress,
            )  # fmt: skip
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.count} composites in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
