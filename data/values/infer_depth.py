"""Infer what the values of depth maps mean: unit, polarity, and whether 0 means unknown.

A foreground is nearer than its surroundings, so each step of the depth at its contour is a vote on the polarity. If a
folder mixes both polarities, triplets whose names start alike (a series) are assumed to share one, unless the votes
contradict that.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Shaped

from data.dataset import POLARITIES, DatasetSpec, Triplet
from data.values.alignment import PX, STEP, STEP_Z, DepthStep, measure_depth_step, shrink_to_square
from data.values.depth import SATURATED, find_known, is_constant

ISOLATED = 8  # levels of 255 without values above 0, if 0 means unknown
MAX_MM = 30_000  # larger 16-bit values are relative: no depth camera measures 30 m in mm
MM_NEAREST, MM_FARTHEST = 1_500, 10_000  # percentiles 1 and 99 of distances that depth cameras measure, in mm
FEW_VOTES = 3  # steps that must agree if near things also lie at the bottom of the images
SLOPE = 0.1  # share of a depth map's range that is a clear difference between top and bottom
HOLES = 0.001  # share of zeros from which 0 counts as a separate value
MIN_VOTES = 8  # clear steps from which a majority is certain
MIN_SERIES_VOTES = 2  # least votes for a series in a mixed folder (none of 779 clear steps was wrong)
MIN_SHARE = 0.9  # share of the votes that must agree
MIXED_VOTES = 3  # votes of the minority from which a folder is mixed


@dataclass(frozen=True)
class Votes:
    """Triplets whose depth becomes brighter or darker at the contour, or has no clear step."""

    bright: int
    dark: int
    neither: int

    def __str__(self) -> str:
        counted = f"foregrounds brighter than around: {self.bright}, darker: {self.dark}, neither: {self.neither}"
        return counted if self.bright + self.dark + self.neither else "no foregrounds to compare"

    @property
    def share(self) -> float:
        """Share of the majority among the clear steps; 0 without votes."""
        return max(self.bright, self.dark) / max(self.bright + self.dark, 1)

    @property
    def majority(self) -> str:
        """Polarity with most votes."""
        return POLARITIES[self.dark > self.bright]

    def decide(self, least: int) -> str | None:
        """Return the polarity on which at least `MIN_SHARE` of at least `least` votes agree, else None."""
        return self.majority if self.share >= MIN_SHARE and self.bright + self.dark >= least else None


@dataclass(frozen=True)
class Polarity:
    """Polarity ("bright", "dark" or None for undecided) of the triplets with depth for which the manifest has none."""

    votes: Votes
    series: dict[str, Votes]
    by_series: dict[str, str | None]
    near: dict[str, str | None]  # by triplet id, from its series or its own step
    certain: dict[str, str | None]  # by triplet id, only from series with at least `MIN_VOTES` votes

    @property
    def mixed(self) -> bool:
        """True if both polarities occur: by several votes each, or in series that are certain by themselves."""
        disagreeing = self.votes.share < MIN_SHARE and min(self.votes.bright, self.votes.dark) >= MIXED_VOTES
        return disagreeing or len({votes.decide(MIN_VOTES) for votes in self.series.values()} - {None}) > 1

    @property
    def unclear(self) -> list[str]:
        """Ids of triplets of unknown polarity."""
        return [id_ for id_, near in self.near.items() if near is None]


def measure_polarity(triplets: Sequence[Triplet], steps: Sequence[DepthStep | None]) -> Polarity:
    """Count the votes of a folder, in total and by series; a step of None means that the triplet does not vote."""
    pairs = [(t, step) for t, step in zip(triplets, steps, strict=True) if t.depth is not None and t.near is None]
    groups: dict[str, list[DepthStep | None]] = defaultdict(list)
    for triplet, step in pairs:
        groups[_get_series(triplet)].append(step)
    series = {name: _count_votes(group) for name, group in groups.items()}
    certain = {name: votes.decide(MIN_VOTES) for name, votes in series.items()}
    consistent = all(v.decide(MIN_SERIES_VOTES) for v in series.values() if v.bright + v.dark >= MIN_SERIES_VOTES)
    by_series = {name: votes.decide(MIN_SERIES_VOTES) for name, votes in series.items()} if consistent else certain
    return Polarity(
        votes=_count_votes(step for _, step in pairs),
        series=series,
        by_series=by_series,
        near={t.id: by_series[_get_series(t)] or _count_votes([step]).decide(1) for t, step in pairs},
        certain={t.id: certain[_get_series(t)] for t, _ in pairs},
    )


def _get_series(triplet: Triplet) -> str:
    """Return the image name up to its first digit."""
    return re.split(r"\d", triplet.image.stem, maxsplit=1)[0]


def _count_votes(found: Iterable[DepthStep | None]) -> Votes:
    steps = [step for step in found if step]
    clear = [step.slope > 0 for step in steps if abs(step.slope) >= STEP and abs(step.z_score) >= STEP_Z]
    return Votes(sum(clear), len(clear) - sum(clear), len(steps) - len(clear))


@dataclass(frozen=True)
class InferredField:
    """A field of dataset.json that was inferred."""

    key: str
    value: Any  # as in dataset.json; None if it is unknown
    certain: bool
    reason: str
    files: int = 0  # number of files from which it was inferred
    doubt: str = ""  # problem and remedy, if the field must be known and is not certain


@dataclass(frozen=True)
class DepthValues:
    """Statistics of the values of a depth map that are finite and not 0."""

    dtype: str
    zeros: float  # share of the pixels
    constant: bool  # True if it has one value only, or no known value
    holes: float  # share of the pixels without a value, zeros among them
    minimum: float = 0.0
    low: float = 0.0  # percentile 1
    median: float = 0.0
    high: float = 0.0  # percentile 99
    maximum: float = 0.0
    slope: float = 0.0  # median of the image's lowest quarter minus that of the highest, as a share of `high` - `low`


def measure_values(depth: Shaped[np.ndarray, "h w"], missing: Sequence[float] = ()) -> DepthValues:
    """Measure the values of a depth map as stored; those that are `missing` count as not finite."""
    step = -(-max(depth.shape) // 512)
    few = depth[::step, ::step].astype(np.float64)
    finite = np.isfinite(few)
    zeros = float(np.mean(few[finite] == 0)) if finite.any() else 1.0
    finite &= ~np.isin(few, missing)
    sound = finite & (few != 0)
    known = few[sound]
    if depth.dtype == np.uint16 and known.size and (rest := known[known != SATURATED]).size and rest.max() < MAX_MM:
        known = rest  # the largest value is isolated, as cameras write it for missing distances
    if not known.size:
        return DepthValues(depth.dtype.name, zeros, constant=True, holes=1.0)
    low, median, high = (float(value) for value in np.percentile(known, (1, 50, 99)))
    quarter = max(1, len(few) // 4)
    ends = [few[rows][sound[rows]] for rows in (slice(quarter), slice(-quarter, None))]
    rise = float(np.median(ends[1]) - np.median(ends[0])) if all(end.size for end in ends) else 0.0
    slope = rise / (high - low) if high > low else 0.0
    constant, holes = is_constant(depth, np.isfinite(depth)), 1 - known.size / few.size
    minimum, maximum = float(known.min()), float(known.max())
    return DepthValues(depth.dtype.name, zeros, constant, holes, minimum, low, median, high, maximum, slope)


def measure_contour_step(
    depth: Shaped[np.ndarray, "h w"], spec: DatasetSpec, mask: Float32[np.ndarray, "rows columns"]
) -> DepthStep | None:
    """Measure the step of a stored depth map at the mask's contour; unknown pixels are set to the median."""
    known, values = find_known(depth, spec), depth.astype(np.float32)
    if depth.dtype != np.uint8:  # 0 usually means unknown
        known &= depth != 0
    if not known.any():
        return None
    values = np.where(known, values, np.float32(np.median(values[known])))
    return measure_depth_step(cv2.resize(values, (PX, PX), interpolation=cv2.INTER_AREA), shrink_to_square(mask))


def infer_depth_fields(
    values: Sequence[DepthValues], polarity: Polarity, configured: Mapping[str, Any], *, unclear_masks: bool
) -> list[InferredField]:
    """Infer depth_unit, near and missing, as far as they are not configured; near only if a triplet needs it.

    With unclear masks, polarity is uncertain: it is measured at their contours.
    """
    unit = infer_unit(values, polarity)
    fields = [unit, *infer_missing(values, str(configured.get("depth_unit", unit.value)))]
    if configured.get("depth_unit", unit.value if unit.certain else None) == "relative" and polarity.near:
        near = infer_near(polarity, values)
        unclear = replace(near, certain=False, doubt=near.doubt or _doubt_near(near.reason))
        fields.insert(1, unclear if unclear_masks else near)
    return [one for one in fields if one.key not in configured]


def infer_unit(values: Sequence[DepthValues], polarity: Polarity) -> InferredField:
    """Infer the unit of depth from types, ranges and holes, and from whether foregrounds have larger values."""
    files, votes = len(values), polarity.votes
    dtypes = Counter(value.dtype for value in values)
    if len(dtypes) > 1:
        reason = "files of different types: " + ", ".join(f"{name} in {n}" for name, n in sorted(dtypes.items()))
        doubt = f"{reason}; convert them to one type, or set the unit with --depth-unit or in dataset.json"
        return InferredField("depth_unit", None, False, reason, files, doubt)
    dtype = values[0].dtype
    low, median, high = (float(np.median([getattr(v, key) for v in values])) for key in ("low", "median", "high"))
    maximum, empty = max(value.maximum for value in values), float(np.mean([value.holes for value in values]))
    holes = empty > HOLES
    decided = votes.decide(FEW_VOTES)
    smaller, larger = decided == "dark", decided == "bright"
    reason = f"{dtype}, {low:.4g} to {high:.4g}, largest {maximum:.4g}, median {median:.4g}, {empty:.0%} empty"
    if decided:
        reason += f", {'smaller' if smaller else 'larger'} in the foreground"
    if not smaller and grows_downwards(values):
        larger, reason = True, f"{reason}, larger at the bottom, where near things are"
    unit, certain = "relative", True
    if dtype.startswith("float") and maximum > 1:
        unit = "m" if maximum < 300 else "mm"
        certain = (median < 100 or maximum >= 300) and (smaller or holes) and not larger
    elif not dtype.startswith("float") and dtype != "uint8":
        if maximum > MAX_MM:
            normalised = float(np.mean([value.maximum >= 65_000 for value in values])) >= MIN_SHARE
            certain = normalised or not (holes or smaller)
        else:
            unit = "mm"
            in_range = low < MM_NEAREST and 300 < high < MM_FARTHEST and median > 300
            certain = in_range and empty < 0.5 and (holes or smaller) and not larger
    return InferredField("depth_unit", unit, certain, reason, files, "" if certain else _doubt_unit(unit, reason))


def infer_near(polarity: Polarity, values: Sequence[DepthValues]) -> InferredField:
    """Infer the polarity of relative depth from steps at the contours of foregrounds, and from top and bottom."""
    votes, files = polarity.votes, len(values)
    if polarity.mixed:
        reason = f"{votes}; both polarities in one folder"
        doubt = f"{reason}; write near in each line of manifest.csv, as one-look check DIR --fix OUT does"
        return InferredField("near", None, False, reason, files, doubt)
    rises, falls = _count_slopes(values)
    clear, bottom = rises + falls, rises if votes.majority == "bright" else falls
    agree = clear >= FEW_VOTES and bottom >= MIN_SHARE * clear
    contradict = clear >= MIN_VOTES and bottom <= (1 - MIN_SHARE) * clear
    reason = f"{votes}; {rises} of {clear} maps are brighter at the bottom"
    many, few = votes.decide(MIN_VOTES) is not None, votes.decide(FEW_VOTES) is not None
    certain = (many and not contradict) or (few and agree)
    value = votes.majority if certain or votes.share >= 0.6 else None
    return InferredField("near", value, certain, reason, files, "" if certain else _doubt_near(reason))


def grows_downwards(values: Sequence[DepthValues]) -> bool:
    """Return whether depth maps are larger at the bottom, where near things are, so that they cannot be distances."""
    rises, falls = _count_slopes(values)
    return rises >= FEW_VOTES and rises >= MIN_SHARE * (rises + falls)


def _count_slopes(values: Sequence[DepthValues]) -> tuple[int, int]:
    """Return how many maps are clearly larger at the bottom and how many are smaller there."""
    slopes = [value.slope > 0 for value in values if abs(value.slope) >= SLOPE]
    return sum(slopes), len(slopes) - sum(slopes)


def infer_missing(values: Sequence[DepthValues], unit: str) -> list[InferredField]:
    """Infer whether 0 means unknown."""
    with_zeros = [value for value in values if value.zeros > HOLES]
    if not with_zeros:
        return []
    if unit != "relative":
        reason = f"zeros in {len(with_zeros)} of {len(values)} depth maps; no distance is 0"
        return [InferredField("missing", 0, True, reason, len(values))]
    gap = ISOLATED * {"uint8": 1.0, "uint16": 257.0}.get(with_zeros[0].dtype, 1 / 255)
    isolated = sum(value.minimum >= gap for value in with_zeros)
    share = isolated / len(with_zeros)
    if share < 0.5:
        return []
    reason = f"no values next to 0 in {isolated} of {len(with_zeros)} depth maps with zeros"
    certain = share >= MIN_SHARE and isolated >= MIN_VOTES
    return [InferredField("missing", 0, certain, reason, len(values))]


def describe_depth(spec: DatasetSpec, dtype: str, *, unclear: bool = False) -> str:
    """Describe the encoding of depth in a few words; `unclear` means that the polarity is unclear."""
    bits = {"uint8": "8-bit", "uint16": "16-bit"}.get(dtype, dtype)
    scale = f" / {spec.depth_scale:g}" if spec.depth_scale else ""
    unknown = [0.0] if spec.depth_unit != "relative" else []
    unknown += [value for value in spec.missing if value not in unknown]
    near = "small" if spec.metric else "large" if spec.depth_unit == "disparity" else spec.near
    near = "unclear" if unclear else near
    holes = "".join(f", {value:g} = unknown" for value in unknown)
    return f"depth {bits} {spec.depth_unit}{scale}{holes}, near = {near}"


def _doubt_unit(unit: str, reason: str) -> str:
    guess = "relative depth" if unit == "relative" else "distances"
    units = "mm, m with --depth-scale 256 (KITTI) or 5000 (TUM), relative with --near bright or dark, or disparity"
    problem = f"cannot tell whether depth is distances or relative ({reason}; it looks like {guess})"
    return f"{problem}; use --depth-unit {units} (dataset.json has the same keys)"


def _doubt_near(reason: str) -> str:
    remedy = "look at a depth map, and use --near bright if near things are bright in it, or --near dark"
    return f"cannot tell whether near is bright or dark ({reason}); {remedy} (dataset.json: near)"
