"""Plan a set of composites: which foreground goes on which background, after a check of all sources."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from data.compose.placement import RULES
from data.compose.sources import (
    FOREGROUNDS,
    BackgroundFiles,
    find_backgrounds,
    find_depth_spec,
    fit_depth_scale,
    list_images,
    read_background,
    read_distances,
    read_foreground,
)
from data.dataset import DataError, DatasetSpec
from data.runtime.progress import Progress, no_progress

VERSION = 5  # raised whenever the same seed gives other composites, so that an interrupted set is not resumed
PER_PAIR = 20  # as in the study
TEST_FROM = 20  # number of photos and of foregrounds from which some are held out for the test
OVERSAMPLING = 2.0  # foregrounds are kept at twice their largest size, so that a second resize costs no sharpness


@dataclass(frozen=True, kw_only=True)
class ComposeOptions:
    """Options of composites."""

    px: int = 224  # side of the images
    flip: bool = False  # use every foreground equally often mirrored and unmirrored
    placement: str = "study"  # one of `placement.RULES`
    things: int = 1  # largest number of foregrounds in an image; the number is drawn
    shadow: bool = False
    seed: int = 0  # decides the composites, whatever the number of workers
    # True holds out the last fifth of backgrounds and of foregrounds (`Plan.pick_split`); False leaves this to each run
    hold_out: bool = True

    def __post_init__(self) -> None:
        for name, value, least in (("size", self.px, 32), ("things", self.things, 1), ("seed", self.seed, 0)):
            _check_minimum(name, value, least)
        if self.placement not in RULES:
            raise DataError(f"placement is {self.placement!r}; use one of {', '.join(RULES)}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sources and options of a set of composites."""

    backgrounds: tuple[BackgroundFiles, ...]
    foregrounds: tuple[Path, ...]
    count: int
    depth_spec: DatasetSpec | None  # meaning of the values of the depth maps; None without depth
    options: ComposeOptions = field(default_factory=ComposeOptions)

    def pick_background(self, index: int) -> int:
        """Pick the background of a composite: consecutive composites share one, and all are used equally often."""
        return index * len(self.backgrounds) // self.count

    def pick_foreground(self, index: int) -> tuple[int, bool]:
        """Pick the foreground of a composite, mirrored or not: all are used in random order before any is reused."""
        sides = 2 if self.options.flip else 1
        own = self.list_foregrounds(index)
        first = self._first_composites[self.pick_split(self.pick_background(index))]
        turn, place = divmod(index - first, len(own) * sides)
        foreground, side = divmod(_shuffle(self.options.seed, turn, len(own) * sides)[place], sides)
        return own[foreground], bool(side)

    def list_foregrounds(self, index: int) -> range:
        """Return the foregrounds that a composite may use; each split has a separate range."""
        count, split = len(self.foregrounds), self.pick_split(self.pick_background(index))
        return self._divide(count)[split] if split and count > 1 else range(count)

    @cached_property
    def _first_composites(self) -> dict[str, int]:
        """The first composite of each split."""
        splits = [self.pick_split(self.pick_background(index)) for index in range(self.count)]
        return {split: splits.index(split) for split in set(splits)}

    def pick_split(self, background: int) -> str:
        """Pick the split of a background: "train", "val" or "test"; "" if nothing is held out."""
        count = len(self.backgrounds)
        if count < 2 or not self.options.hold_out:
            return ""
        return next(split for split, sources in self._divide(count).items() if background in sources)

    def _divide(self, count: int) -> dict[str, range]:
        """Split the sources: the last fifth is held out, half of it for the test if there are enough sources."""
        held_out = max(1, count // 5)
        tested = held_out // 2 if min(len(self.backgrounds), len(self.foregrounds)) >= TEST_FROM else 0
        limits = (0, count - held_out, count - tested, count)
        return {split: range(*limits[k : k + 2]) for k, split in enumerate(("train", "val", "test"))}

    @property
    def longest_px(self) -> int:
        """Longer side at which foregrounds are kept."""
        return round(OVERSAMPLING * RULES[self.options.placement] * self.options.px)

    def build_spec(self) -> DatasetSpec:
        """Build the content of dataset.json."""
        if self.depth_spec is None:
            return DatasetSpec()
        return DatasetSpec(missing=(0.0,), near_m=self.depth_spec.near_m, far_m=self.depth_spec.far_m)

    def describe_origin(self) -> str:
        """Return a text with everything that the composites depend on: options, and sources with sizes and times."""
        paths = [path for path in chain(*self.backgrounds, self.foregrounds) if path is not None]
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        return "\n".join(map(str, (VERSION, self.count, self.depth_spec, self.options, *stats)))


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
    progress: Progress = no_progress,
) -> Plan:
    """Read all sources once and fix the depth scale; without a `count`, make `per_pair` composites of each pair."""
    options = options or ComposeOptions()
    photos, images = find_backgrounds(backgrounds, depth), list_images(foregrounds, FOREGROUNDS)
    if count is None:
        _check_minimum("per-pair", per_pair, 1)
        count = len(photos) * len(images) * (2 if options.flip else 1) * per_pair
    _check_minimum("count", count, 1)
    spec = None if depth is None else find_depth_spec(depth, [path for _, path in photos if path])
    plan = Plan(backgrounds=photos, foregrounds=images, count=count, depth_spec=spec, options=options)
    distances = _read_sources(plan, progress)
    if spec is None or not spec.metric:
        return plan
    if distances.size == 0:
        raise DataError(f"{depth}: no known depth in any file; 0 means missing, other values are distances")
    return replace(plan, depth_spec=fit_depth_scale(spec, distances))


def _check_minimum(name: str, value: int, least: int) -> None:
    """Raise DataError if a value is too small."""
    if value < least:
        raise DataError(f"{name} is {value}; use at least {least}")


def _read_sources(plan: Plan, progress: Progress) -> Float32[np.ndarray, " n"]:
    """Read every source once, so that faults are found early, and return the known distances of the photos."""
    sources: list[Path | BackgroundFiles] = [*plan.foregrounds, *plan.backgrounds]
    distances = [np.zeros(0, np.float32)]
    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
        for done, found in enumerate(pool.map(partial(_read_source, plan), sources), start=1):
            distances += [] if found is None else [found]
            progress(done, len(sources))
    return np.concatenate(distances)


def _read_source(plan: Plan, source: Path | BackgroundFiles) -> Float32[np.ndarray, " n"] | None:
    if isinstance(source, Path):
        read_foreground(source, plan.longest_px)
        return None
    (image, depth), spec = source, plan.depth_spec
    read_background(image, depth, spec and replace(spec, near_m=spec.near_m or 1.0), plan.options.px)
    return read_distances(depth, spec) if depth and spec else None
