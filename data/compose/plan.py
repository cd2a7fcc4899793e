"""What is pasted on what: the plan of a set of composites, made from a look at its sources. Knows no pixels."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from data.compose.backgrounds import PhotoFiles, find_photos, known_distances, metric_scale, read_photo, stated_depth
from data.compose.depth_models import Teacher
from data.compose.foregrounds import find_cutouts, read_cutout
from data.compose.placement import LARGEST, LARGEST_STANDING, RULES
from data.dataset import DataError, DatasetSpec
from data.runtime.progress import Progress

VERSION = 2  # raised whenever the same seed draws something else, so that what was cut off is not taken up
PER_PAIR = 20  # the study's
MISSING = 0
SHARPER = 2.0  # cut-outs are kept at so many times their largest size: shrinking once more then costs no sharpness

Distances = Float32[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How composites are made.

    Attributes:
        px: Side of the pictures.
        flip: Whether every cut-out is also used mirrored, as often as it is used as it is.
        placement: `study` or `ground`.
        things: Cut-outs in a picture, at most; the number is drawn.
        shadow: Whether things cast shadows.
        seed: Same seed, same pictures, whatever the number of workers.
        hold_out: Whether the manifest holds out the last fifth of the photos; else whoever reads it splits it.
    """

    px: int = 224
    flip: bool = False
    placement: str = "study"
    things: int = 1
    shadow: bool = False
    seed: int = 0
    hold_out: bool = True

    def __post_init__(self) -> None:
        for name, value, least in (("size", self.px, 32), ("things", self.things, 1), ("seed", self.seed, 0)):
            if value < least:
                raise DataError(f"{name} is {value}; it is at least {least}")
        if self.placement not in RULES:
            raise DataError(f"placement is {self.placement!r}; it is one of {', '.join(RULES)}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to compose.

    Attributes:
        photos: What is pasted on.
        cutouts: What is pasted.
        count: Composites in all.
        depth: What the values of the photos' depth maps mean; None where there are none.
        rules: How they are made.
        teacher: Says the depth of composites, if it is not to be made from that of their photos.
    """

    photos: tuple[PhotoFiles, ...]
    cutouts: tuple[Path, ...]
    count: int
    depth: DatasetSpec | None
    rules: Rules = field(default_factory=Rules)
    teacher: Teacher | None = None

    def background(self, index: int) -> int:
        """Photo of a composite: consecutive composites share one, all get equally many."""
        return index * len(self.photos) // self.count

    def foreground(self, index: int) -> tuple[int, bool]:
        """Cut-out of a composite, and whether it is mirrored: all are used, in random order, before any is again."""
        sides = 2 if self.rules.flip else 1
        turn, place = divmod(index, len(self.cutouts) * sides)
        cutout, side = divmod(_order(self.rules.seed, turn, len(self.cutouts) * sides)[place], sides)
        return cutout, bool(side)

    def split(self, background: int) -> str:
        """The last fifth of the photos validates, if any is held out; a single photo is not split."""
        photos = len(self.photos)
        if photos < 2 or not self.rules.hold_out:
            return ""
        return "val" if background >= photos - max(1, photos // 5) else "train"

    @property
    def longest_px(self) -> int:
        """Longer side at which cut-outs are kept."""
        largest = LARGEST if self.rules.placement == "study" else LARGEST_STANDING
        return round(SHARPER * largest * self.rules.px)

    def stated(self) -> DatasetSpec:
        """What dataset.json says."""
        if self.depth is None:
            return DatasetSpec()
        return DatasetSpec(missing=MISSING, near_m=self.depth.near_m, far_m=self.depth.far_m)

    def origin(self) -> str:
        """All that the composites depend on, as text: sources with their sizes and times, and the rules."""
        paths = [path for path in chain(*self.photos, self.cutouts) if path is not None]
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        teacher = self.teacher.identity() if self.teacher else ""
        return "\n".join(map(str, (VERSION, self.count, self.depth, self.rules, teacher, *stats)))


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, length: int) -> list[int]:
    order: list[int] = np.random.default_rng([seed, 1, turn]).permutation(length).tolist()
    return order


def make_plan(
    backgrounds: Path,
    foregrounds: Path,
    *,
    depth: Path | None,
    count: int | None = None,
    per_pair: int = PER_PAIR,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Look at all sources, and settle the scale of the depth.

    Args:
        backgrounds: Folder of photos, or one with images/ that holds them.
        foregrounds: Folder of RGBA cut-outs.
        depth: Folder of depth maps: 16-bit millimetres, or what a dataset.json in it or above says; None for a data set
            of images and masks.
        count: Composites in all; if None, `per_pair` for every photo with every cut-out and side.
        per_pair: Used where there is no count.
        rules: How they are made.
        progress: Told (sources looked at, sources in all).

    Raises:
        DataError: Sources that cannot be used, or a number out of range.
    """
    rules = rules or Rules()
    photos, cutouts = find_photos(backgrounds, depth), find_cutouts(foregrounds)
    if count is None:
        count = len(photos) * len(cutouts) * (2 if rules.flip else 1) * _at_least_one("per-pair", per_pair)
    spec = None if depth is None else stated_depth(depth) or stated_depth(depth.parent) or DatasetSpec(depth_unit="mm")
    count = _at_least_one("count", count)
    plan = Plan(photos=photos, cutouts=cutouts, count=count, depth=spec, rules=rules)
    looks: list[Callable[[], Distances]] = [partial(_look_at_cutout, path, plan.longest_px) for path in cutouts]
    looks += [partial(_look_at_photo, files, spec, rules.px) for files in photos]
    distances = np.concatenate(list(_in_threads(looks, progress)))
    if spec is None or spec.depth_unit == "relative":
        return plan
    if distances.size == 0:
        raise DataError(f"{depth}: no known depth in any file; 0 means missing, others are distances")
    return replace(plan, depth=metric_scale(spec, distances))


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise DataError(f"{name} is {value}; it is at least 1")
    return value


def _look_at_cutout(path: Path, longest_px: int) -> Distances:
    read_cutout(path, longest_px)
    return np.zeros(0, np.float32)


def _look_at_photo(files: PhotoFiles, spec: DatasetSpec | None, px: int) -> Distances:
    image, depth = files
    read_photo(image, depth, spec and replace(spec, near_m=spec.near_m or 1.0), px)
    return known_distances(depth, spec) if depth and spec else np.zeros(0, np.float32)


def _in_threads(looks: list[Callable[[], Distances]], progress: Progress | None) -> Iterator[Distances]:
    """Decoding lets go of the interpreter, so threads do."""
    with ThreadPoolExecutor() as pool:
        for done, found in enumerate(pool.map(lambda look: look(), looks), start=1):
            if progress:
                progress(done, len(looks))
            yield found
