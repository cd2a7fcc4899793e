"""Infer from a sample of its files what the values of a data set's masks and depth maps mean.

What dataset.json or the command line states is not questioned. A field is certain if two independent signs agree. If
they do not, and the interpretations differ in what a network would learn, a doubt lists them and the option for each.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.dataset import TRUTHS, DataError, Dataset, DatasetSpec, Triplet
from data.runtime.files import hash_name
from data.values.alignment import DepthStep
from data.values.depth_inference import (
    MIN_VOTES,
    InferredField,
    Polarity,
    describe_depth,
    infer_missing,
    infer_near,
    infer_unit,
    measure_contour_step,
    measure_polarity,
    measure_values,
    withdraw_near,
)
from data.values.mask_inference import COLOURED_FILES, LabelSample, infer_mask_values
from data.values.masks import is_coloured, scale_mask, select_channel
from data.values.pixels import (
    JPEG_HEADER,
    decode_color,
    decode_label,
    is_lossy,
    is_orientation_unclear,
    read_bytes,
    read_orientation,
    read_pixels,
    turn,
)

SAMPLE = 64  # triplets whose files are read
SAMPLE_S = 2.0  # seconds after which no more are read
MIN_FILES = 3  # read in any case


@dataclass(frozen=True)
class Reading:
    """How the files of a folder are read."""

    spec: DatasetSpec  # with all that was inferred with certainty
    fields: tuple[InferredField, ...] = ()
    # What cannot be told, with the readings and how to state each; the folder must not be trained on.
    doubts: tuple[str, ...] = ()
    description: str = ""  # what the folder is taken for
    warnings: tuple[str, ...] = ()  # what is assumed or stated although the files leave it open or contradict it
    orientation_unclear: tuple[Triplet, ...] = ()  # those that EXIF data may turn, of the number looked at
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

    The spec of the folder holds what is configured; `configured` has the keys.
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


def _read_sample(triplets: Sequence[Triplet]) -> Iterator[_Sample]:
    """Read masks and depth maps of some triplets in the order of a stable hash, until the seconds are over."""
    until = time.monotonic() + SAMPLE_S
    chosen = sorted(triplets, key=lambda triplet: hash_name(triplet.id))[:SAMPLE]
    for number, triplet in enumerate(chosen):
        if number >= MIN_FILES and time.monotonic() > until:
            return
        orientation = read_orientation(_read_bytes(triplet.image))
        yield _Sample(triplet, *(_read_label(path, orientation) for path in (triplet.mask, triplet.depth)))


def _read_bytes(path: Path | None) -> bytes:
    """Return the content of a file; nothing of one that is absent or cannot be read."""
    try:
        return b"" if path is None else read_bytes(path)
    except DataError:
        return b""


def _read_label(path: Path | None, orientation: int) -> LabelSample | None:
    """Read a mask or depth map, upright; `orientation` is that of the image."""
    content = _read_bytes(path)
    pixels = decode_label(content)
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
    turned = f"{unclear[0].image}: EXIF data turn {len(unclear)} of {looked_at} images that were looked at"
    assumed = "their masks or depth may be turned too, but are taken to lie as the images are stored"
    return (f"{turned}; {assumed}; if that is wrong, save the images upright",)


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


def _doubt_readable(samples: Sequence[_Sample], role: str) -> str:
    """Return why no mask or no depth map can be read, "" if some can or there are none."""
    paths = [path for sample in samples if (path := getattr(sample.triplet, role))]
    if any(getattr(sample, role) for sample in samples):
        return ""
    try:
        for path in paths:
            read_pixels(path, decode_label)
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
    return measure_contour_step(select_channel(sample.depth.pixels), spec, foreground)


def _folder(path: Path | None) -> Path | str:
    return "" if path is None else path.parent
