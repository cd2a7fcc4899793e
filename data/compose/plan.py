"""Plan a set of composites: which foreground goes on which background, after a check of all sources."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from data.compose.backgrounds import (
    BackgroundFiles,
    find_backgrounds,
    find_depth_spec,
    fit_depth_scale,
    read_background,
    read_distances,
)
from data.compose.depth_models import DepthModel
from data.compose.foregrounds import list_foregrounds, read_foreground
from data.compose.placement import LARGEST, LARGEST_STANDING
from data.dataset import DataError, DatasetSpec
from data.runtime.progress import Progress

VERSION = 2  # raised whenever the same seed gives other composites, so that an interrupted set is not resumed
PER_PAIR = 20  # as in the study
OVERSAMPLING = 2.0  # foregrounds are kept at twice their largest size, so that a second resize costs no sharpness

Distances = Float32[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class ComposeOptions:
    """Options of composites.

    Attributes:
        px: Side of the images in pixels.
        flip: True to use every foreground mirrored as often as it is used as it is.
        placement: `study` or `ground`.
        things: Largest number of foregrounds in an image; the number is drawn.
        shadow: True to cast shadows.
        seed: Seed; it decides the composites, whatever the number of workers.
        hold_out: True to assign the last fifth of the photos to validation; else the reader splits.
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
            check_minimum(name, value, least)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sources and options of a set of composites.

    Attributes:
        backgrounds: Photos with their depth files.
        foregrounds: RGBA files.
        count: Number of composites.
        depth: Meaning of the values of the depth maps; None if there are none.
        options: Options of the composites.
        depth_model: Predicts the depth of each composite; None if it is made from that of its background.
    """

    backgrounds: tuple[BackgroundFiles, ...]
    foregrounds: tuple[Path, ...]
    count: int
    depth: DatasetSpec | None
    options: ComposeOptions = field(default_factory=ComposeOptions)
    depth_model: DepthModel | None = None

    def pick_background(self, index: int) -> int:
        """Pick the background of a composite: consecutive composites share one, all get equally many."""
        return index * len(self.backgrounds) // self.count

    def pick_foreground(self, index: int) -> tuple[int, bool]:
        """Pick the foreground of a composite, mirrored or not: all are used in random order before any is reused."""
        sides = 2 if self.options.flip else 1
        turn, place = divmod(index, len(self.foregrounds) * sides)
        foreground, side = divmod(_shuffle(self.options.seed, turn, len(self.foregrounds) * sides)[place], sides)
        return foreground, bool(side)

    def pick_split(self, background: int) -> str:
        """Pick the part of a background: "val" for the last fifth, "" if nothing is held out."""
        count = len(self.backgrounds)
        if count < 2 or not self.options.hold_out:
            return ""
        return "val" if background >= count - max(1, count // 5) else "train"

    @property
    def longest_px(self) -> int:
        """Longer side at which foregrounds are kept."""
        largest = LARGEST if self.options.placement == "study" else LARGEST_STANDING
        return round(OVERSAMPLING * largest * self.options.px)

    def build_spec(self) -> DatasetSpec:
        """Build the content of dataset.json."""
        if self.depth is None:
            return DatasetSpec()
        return DatasetSpec(missing=0, near_m=self.depth.near_m, far_m=self.depth.far_m)

    def describe_origin(self) -> str:
        """Return a text with everything that the composites depend on: options, and sources with sizes and times."""
        paths = [path for path in chain(*self.backgrounds, self.foregrounds) if path is not None]
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        model = self.depth_model.cache_key() if self.depth_model else ""
        return "\n".join(map(str, (VERSION, self.count, self.depth, self.options, model, *stats)))


@lru_cache(maxsize=4)
def _shuffle(seed: int, turn: int, length: int) -> list[int]:
    order: list[int] = np.random.default_rng([seed, 1, turn]).permutation(length).tolist()
    return order


def make_plan(
    backgrounds: Path,
    foregrounds: Path,
    *,
    depth: Path | None,
    count: int | None = None,
    per_pair: int = PER_PAIR,
    options: ComposeOptions | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Read all sources once, and fix the scale of the depth.

    Args:
        backgrounds: Folder of photos, or one with images/.
        foregrounds: Folder of RGBA files.
        depth: Folder of depth maps: 16-bit millimetres, or as a dataset.json in it or above it says; None for a data
            set without depth.
        count: Number of composites; if None, `per_pair` for every pair of background and foreground (and side).
        per_pair: Number of composites for each pair, if there is no count.
        options: Options of the composites.
        progress: Called with (sources read, sources in total).
    """
    options = options or ComposeOptions()
    photos, cutouts = find_backgrounds(backgrounds, depth), list_foregrounds(foregrounds)
    if count is None:
        count = len(photos) * len(cutouts) * (2 if options.flip else 1) * check_minimum("per-pair", per_pair, 1)
    spec = None if depth is None else find_depth_spec(depth)
    plan = Plan(
        backgrounds=photos, foregrounds=cutouts, count=check_minimum("count", count, 1), depth=spec, options=options
    )
    reads: list[Callable[[], Distances]] = [partial(_read_foreground, path, plan.longest_px) for path in cutouts]
    reads += [partial(_read_background, files, spec, options.px) for files in photos]
    distances = np.concatenate(_run_in_threads(reads, progress))
    if spec is None or spec.depth_unit == "relative":
        return plan
    if distances.size == 0:
        raise DataError(f"{depth}: no known depth in any file; 0 means missing, other values are distances")
    return replace(plan, depth=fit_depth_scale(spec, distances))


def check_minimum(name: str, value: int, least: int) -> int:
    """Return a value, if it is large enough."""
    if value < least:
        raise DataError(f"{name} is {value}; use at least {least}")
    return value


def _read_foreground(path: Path, longest_px: int) -> Distances:
    read_foreground(path, longest_px)
    return np.zeros(0, np.float32)


def _read_background(files: BackgroundFiles, spec: DatasetSpec | None, px: int) -> Distances:
    image, depth = files
    read_background(image, depth, spec and replace(spec, near_m=spec.near_m or 1.0), px)
    return read_distances(depth, spec) if depth and spec else np.zeros(0, np.float32)


def _run_in_threads(reads: list[Callable[[], Distances]], progress: Progress | None) -> list[Distances]:
    """Read with threads, because decoding releases the interpreter lock."""
    found = []
    with ThreadPoolExecutor() as pool:
        for distances in pool.map(lambda read: read(), reads):
            found.append(distances)
            if progress:
                progress(len(found), len(reads))
    return found
