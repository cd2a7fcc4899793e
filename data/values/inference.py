"""Infer from a sample of its files what the values of a data set's masks and depth maps mean.

What dataset.json or the command line states is taken as it is. A field is certain if two independent signs agree. If
they do not, and the readings differ in what a network would learn, a doubt shows them and how to state each.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from data.dataset import TRUTHS, DataError, Dataset, DatasetSpec, Triplet
from data.values.alignment import DepthStep, measure_contour_step
from data.values.depth import SATURATED, find_known, is_constant
from data.values.mask_inference import COLOURED_FILES, LabelSample, infer_mask_values
from data.values.masks import is_coloured, read_bytes, read_label, scale_mask, select_channel
from data.values.pixels import (
    JPEG_HEADER,
    decode_color,
    decode_label,
    is_lossy,
    is_orientation_unclear,
    read_orientation,
    turn,
)
from data.values.polarity import MIN_SHARE, MIN_VOTES, Polarity, measure_polarity

SAMPLE = 64  # triplets whose files are read
SAMPLE_S = 2.0  # seconds after which no more are read
MIN_FILES = 3  # read in any case
ISOLATED = 8  # levels of 255 without values above 0, if 0 means unknown
MAX_MM = 30_000  # larger 16-bit values are relative: no depth camera measures 30 m in mm
MM_NEAREST, MM_FARTHEST = 1_500, 10_000  # percentiles 1 and 99 of distances that depth cameras measure, in mm
FEW_VOTES = 3  # steps that must agree if near things also lie at the bottom of the images
SLOPE = 0.1  # of the range of a depth map: a clear difference between its top and its bottom
HOLES = 0.001  # share of zeros from which they count as a value of their own


@dataclass(frozen=True)
class InferredField:
    """A key of dataset.json: inferred value (None: unknown), certainty, reason, and number of files that it is from.

    `doubt` shows the readings and how to state each, if the field must be known and cannot be told.
    """

    key: str
    value: Any
    certain: bool
    reason: str
    files: int = 0
    doubt: str = ""


@dataclass(frozen=True)
class DepthValues:
    """Statistics of the values of a depth map that are finite and not 0, and the share of zeros.

    `low` and `high` are the percentiles 1 and 99; `slope` is the median of the lowest quarter of the image minus that
    of the highest, as a share of their distance; `holes` is the share of pixels without a value, zeros among them.
    """

    dtype: str
    minimum: float
    low: float
    median: float
    high: float
    maximum: float
    zeros: float
    constant: bool = False
    slope: float = 0.0
    holes: float = 0.0


@dataclass(frozen=True)
class Reading:
    """How the files of a folder are read.

    Attributes:
        spec: The spec with all that was inferred with certainty.
        fields: What was inferred.
        doubts: What cannot be told, with the readings and how to state each; the folder must not be trained on.
        description: What the folder is taken for.
        warnings: What is assumed or stated although the files leave it open or contradict it.
        orientation_unclear: The triplets that EXIF data may turn, see `warn_of_orientation`, of `looked_at`.
    """

    spec: DatasetSpec
    fields: tuple[InferredField, ...] = ()
    doubts: tuple[str, ...] = ()
    description: str = ""
    warnings: tuple[str, ...] = ()
    orientation_unclear: tuple[Triplet, ...] = ()
    looked_at: int = 0

    @property
    def mask_doubts(self) -> tuple[str, ...]:
        """The doubts about masks, which come first."""
        unclear = any(field.key == "mask_values" and not field.certain for field in self.fields)
        return self.doubts[:1] if unclear else ()

    def apply(self, dataset: Dataset) -> Dataset:
        """Return a data set as it is to be read."""
        meaning = replace(dataset, spec=self.spec, description=self.description)
        turned = warn_of_orientation(self.orientation_unclear, self.looked_at)
        return replace(meaning, doubts=self.doubts, warnings=(*dataset.warnings, *turned, *self.warnings))


@dataclass(frozen=True)
class _Sample:
    triplet: Triplet
    mask: LabelSample | None
    depth: LabelSample | None


def infer_reading(dataset: Dataset, configured: Mapping[str, Any]) -> Reading:
    """Infer how the files of a single folder are to be read; files that cannot be read are skipped.

    Args:
        dataset: The folder; its spec holds what is configured.
        configured: The keys that are configured.

    Raises:
        DataError: A configured value that no file has.
    """
    samples = list(_read_sample(dataset.triplets))
    unclear = [s.triplet for s in samples if any(label and label.may_be_turned for label in (s.mask, s.depth))]
    reading = Reading(dataset.spec, orientation_unclear=tuple(unclear), looked_at=len(samples))
    reading = replace(reading, doubts=tuple(filter(None, (_doubt_readable(samples, role) for role in TRUTHS))))
    masks = [sample for sample in samples if sample.mask is not None]
    if masks:
        reading = _add_masks(reading, masks)
    depths = [sample for sample in samples if sample.depth is not None]
    if depths:
        reading = _add_depth(reading, depths, configured)
    return reading


def measure_values(depth: Shaped[np.ndarray, "h w"], missing: Sequence[float] = ()) -> DepthValues:
    """Measure the values of a depth map as stored; those that are `missing` count as not finite."""
    step = -(-max(depth.shape) // 512)
    few = depth[::step, ::step].astype(np.float64)
    finite = np.isfinite(few)
    zeros = float(np.mean(few[finite] == 0)) if finite.any() else 1.0
    finite &= ~np.isin(few, missing)
    known = few[finite & (few != 0)]
    if depth.dtype == np.uint16 and known.size and (rest := known[known != SATURATED]).size and rest.max() < MAX_MM:
        known = rest  # the largest value stands alone, as cameras write it for missing distances
    if not known.size:
        return DepthValues(depth.dtype.name, 0.0, 0.0, 0.0, 0.0, 0.0, zeros, is_constant(few, finite), 0.0, 1.0)
    low, median, high = (float(value) for value in np.percentile(known, (1, 50, 99)))
    quarter = max(1, len(few) // 4)
    sound = finite & (few != 0)
    ends = [few[rows][sound[rows]] for rows in (slice(quarter), slice(-quarter, None))]
    rise = float(np.median(ends[1]) - np.median(ends[0])) if all(end.size for end in ends) else 0.0
    slope = rise / (high - low) if high > low else 0.0
    constant, holes = is_constant(depth, np.isfinite(depth)), 1 - known.size / few.size
    minimum, maximum = float(known.min()), float(known.max())
    return DepthValues(depth.dtype.name, minimum, low, median, high, maximum, zeros, constant, slope, holes)


def infer_unit(values: Sequence[DepthValues], polarity: Polarity) -> InferredField:
    """Infer the unit of depth from types, ranges and holes, and from whether foregrounds have larger values."""
    files, votes = len(values), polarity.votes
    dtypes = Counter(value.dtype for value in values)
    if len(dtypes) > 1:
        reason = "files of different types: " + ", ".join(f"{name} in {n}" for name, n in sorted(dtypes.items()))
        doubt = f"{reason}; convert them to one type, or state what all are as --depth-unit or in dataset.json"
        return InferredField("depth_unit", None, False, reason, files, doubt)
    dtype = values[0].dtype
    low, median, high = (float(np.median([getattr(v, key) for v in values])) for key in ("low", "median", "high"))
    maximum, empty = max(value.maximum for value in values), float(np.mean([value.holes for value in values]))
    holes = empty > HOLES
    smaller = votes.dark >= FEW_VOTES and votes.share >= MIN_SHARE and votes.majority == "dark"
    larger = votes.bright >= FEW_VOTES and votes.share >= MIN_SHARE and votes.majority == "bright"
    reason = f"{dtype}, {low:.4g} to {high:.4g}, largest {maximum:.4g}, median {median:.4g}, {empty:.0%} empty"
    if smaller or larger:
        reason += f", {'smaller' if smaller else 'larger'} in the foreground"
    rises, falls = _count_slopes(values)
    if not smaller and rises >= FEW_VOTES and rises >= MIN_SHARE * (rises + falls):
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


def _count_slopes(values: Sequence[DepthValues]) -> tuple[int, int]:
    """Return how many maps are clearly larger at the bottom and how many are smaller there."""
    slopes = [value.slope > 0 for value in values if abs(value.slope) >= SLOPE]
    return sum(slopes), len(slopes) - sum(slopes)


def withdraw_near(field: InferredField) -> InferredField:
    """Return an inferred polarity as uncertain: steps at the contours of doubtful masks show nothing."""
    return replace(field, certain=False, doubt=field.doubt or _doubt_near(field.reason))


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


def _read_sample(triplets: Sequence[Triplet]) -> Iterator[_Sample]:
    """Read masks and depth maps of some triplets in the order of a stable hash, until the seconds are over."""
    until = time.monotonic() + SAMPLE_S
    chosen = sorted(triplets, key=lambda triplet: _hash(triplet.id))[:SAMPLE]
    for number, triplet in enumerate(chosen):
        if number >= MIN_FILES and time.monotonic() > until:
            return
        orientation = _read_orientation(triplet.image)
        yield _Sample(triplet, *(_read_label(path, orientation) for path in (triplet.mask, triplet.depth)))


def _read_orientation(path: Path) -> int:
    try:
        return read_orientation(read_bytes(path))
    except DataError:
        return 1


def _read_label(path: Path | None, orientation: int) -> LabelSample | None:
    """Read a mask or depth map, upright; `orientation` is that of the image."""
    try:
        content = b"" if path is None else read_bytes(path)
    except DataError:
        return None
    pixels = decode_label(content) if content else None
    if pixels is None:
        return None
    own = read_orientation(content)
    unclear = is_orientation_unclear(pixels, own, orientation)
    colours = decode_color(content) if content.startswith(JPEG_HEADER) else pixels  # the label has its brightness
    coloured = colours is not None and is_coloured(colours)
    return LabelSample(turn(pixels, orientation if unclear else own), is_lossy(content), coloured, unclear)


def warn_of_orientation(unclear: Sequence[Triplet], looked_at: int) -> tuple[str, ...]:
    """Return a warning if EXIF data turn images whose labels may be turned already."""
    if not unclear:
        return ()
    return (
        f"{unclear[0].image}: EXIF data turn {len(unclear)} of {looked_at} images that were looked at, and neither "
        "size nor tag of their masks or depth shows whether those are turned too; they are taken to lie as the image "
        "is stored; if that is wrong, save the images upright",
    )


def _add_masks(reading: Reading, samples: Sequence[_Sample]) -> Reading:
    where = _folder(samples[0].triplet.mask)
    try:
        found = infer_mask_values([s.mask for s in samples if s.mask is not None], reading.spec.mask_values)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    field = InferredField("mask_values", found.description, not found.doubt, found.reason, len(samples))
    return replace(
        reading,
        spec=replace(reading.spec, mask_values=found.values),
        fields=(*reading.fields, field),
        doubts=(*((f"{where}: {found.doubt}",) if found.doubt else ()), *reading.doubts),
        description=found.description,
    )


def _add_depth(reading: Reading, samples: Sequence[_Sample], configured: Mapping[str, Any]) -> Reading:
    where, spec = _folder(samples[0].triplet.depth), reading.spec
    maps = [sample.depth for sample in samples if sample.depth is not None]
    values = [measure_values(select_channel(one.pixels), spec.missing) for one in maps]
    if (coloured := sum(one.coloured for one in maps)) > COLOURED_FILES * len(maps):
        doubt = f"{where}: {coloured} of {len(samples)} depth maps are in colour, which is no depth; save the values"
        return replace(reading, doubts=(*reading.doubts, doubt))
    if all(value.constant for value in values):
        doubt = f"{where}: each of {len(values)} depth maps that were looked at has one value only; export them again"
        return replace(reading, doubts=(*reading.doubts, doubt))
    polarity = measure_polarity([s.triplet for s in samples], [_measure_step(s, spec) for s in samples])
    values = [value for value in values if not value.constant]
    fields, doubts = list(reading.fields), list(reading.doubts)
    if "depth_unit" not in configured:
        unit = infer_unit(values, polarity)
        fields.append(unit)
        if not unit.certain:
            return replace(reading, fields=tuple(fields), doubts=(*doubts, f"{where}: {unit.doubt}"))
        spec = replace(spec, depth_unit=unit.value)
    near, warnings = None, reading.warnings
    if spec.depth_unit == "relative" and "near" in configured:
        warnings += _warn_of_near(where, spec.near, polarity)
    elif spec.depth_unit == "relative" and any(sample.triplet.near is None for sample in samples):
        near = withdraw_near(infer_near(polarity, values)) if doubts else infer_near(polarity, values)
        fields.append(near)
        spec = replace(spec, near=near.value) if near.certain else spec
        doubts += [f"{where}: {near.doubt}"] if near.doubt else []
    missing = [] if "missing" in configured else infer_missing(values, spec.depth_unit)
    if missing and missing[0].certain:
        spec = replace(spec, missing=(0.0,))
    depth = describe_depth(spec, values[0].dtype, unclear=near is not None and not near.certain)
    description = "; ".join(filter(None, (reading.description, depth)))
    found = replace(reading, spec=spec, fields=(*fields, *missing), description=description)
    return replace(found, doubts=tuple(doubts), warnings=warnings)


def describe_depth(spec: DatasetSpec, dtype: str, *, unclear: bool = False) -> str:
    """Return in a few words what depth values are taken for; `unclear` if the polarity is."""
    bits = {"uint8": "8-bit", "uint16": "16-bit"}.get(dtype, dtype)
    scale = f" / {spec.depth_scale:g}" if spec.depth_scale else ""
    unknown = [0.0] if spec.depth_unit != "relative" else []
    unknown += [value for value in spec.missing if value not in unknown]
    near = "small" if spec.metric else "large" if spec.depth_unit == "disparity" else spec.near
    near = "unclear" if unclear else near
    holes = "".join(f", {value:g} = unknown" for value in unknown)
    return f"depth {bits} {spec.depth_unit}{scale}{holes}, near = {near}"


def _doubt_unit(unit: str, reason: str) -> str:
    guess = {"relative": "relative depth", "mm": "distances", "m": "distances"}[unit]
    return (
        f"cannot tell whether depth is distances or relative ({reason}; it looks like {guess}); state "
        "--depth-unit mm, or --depth-unit m with --depth-scale 256 (KITTI) or 5000 (TUM) for fractions of metres, or "
        "--depth-unit relative with --near bright or dark, or --depth-unit disparity (dataset.json has the same keys)"
    )


def _doubt_near(reason: str) -> str:
    return (
        f"cannot tell whether near is bright or dark ({reason}); look at a depth map, and state --near bright if "
        "near things are bright in it, or --near dark (dataset.json: near)"
    )


def _doubt_readable(samples: Sequence[_Sample], role: str) -> str:
    """Return why no mask or no depth map can be read, "" if some can or there are none."""
    paths = [path for sample in samples if (path := getattr(sample.triplet, role))]
    if any(getattr(sample, role) for sample in samples):
        return ""
    try:
        for path in paths:
            read_label(path)
    except DataError as error:
        return f"{error} (none of {len(paths)} {role} files that were looked at can be read)"
    return ""


def _warn_of_near(where: Path | str, near: str, polarity: Polarity) -> tuple[str, ...]:
    """Return a warning if the files contradict the stated polarity."""
    if polarity.votes.decide(MIN_VOTES) not in (None, near) or polarity.mixed:
        return (f"{where}: near is stated as {near}, but the depth maps say otherwise ({polarity.votes}); see --near",)
    return ()


def _measure_step(sample: _Sample, spec: DatasetSpec) -> DepthStep | None:
    if sample.mask is None or sample.depth is None:
        return None
    foreground, _ = scale_mask(select_channel(sample.mask.pixels, spec.mask_values), spec.mask_values)
    if not (foreground > 0.5).any() or (foreground > 0.5).all():
        return None
    depth = select_channel(sample.depth.pixels)
    valid = find_known(depth, spec)
    if depth.dtype != np.uint8:
        valid &= depth != 0
    return measure_contour_step(depth, valid, foreground)


def _folder(path: Path | None) -> Path | str:
    return "" if path is None else path.parent


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
