"""Infer from a sample of its files what the values of a data set's masks and depth maps mean.

A field of dataset.json that is configured is not inferred. An inferred field is certain if two independent signs agree.
If they do not, and the possible meanings differ in what a network would learn, a doubt lists them and the option for
each.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.dataset import DataError, Dataset, DatasetSpec, Triplet, read_fields
from data.runtime.files import hash_name
from data.values.alignment import DepthStep
from data.values.decoding import DECODERS, measure_dim, read_pixels
from data.values.header import is_lossy, read_bytes, read_orientation
from data.values.infer_depth import (
    MIN_VOTES,
    Polarity,
    describe_depth,
    infer_depth_fields,
    measure_contour_step,
    measure_polarity,
    measure_values,
)
from data.values.infer_masks import COLOURED_FILES, LabelSample, infer_mask_values
from data.values.masks import is_coloured, reduce_channels, scale_mask
from data.values.orientation import apply_orientation, is_orientation_unclear
from models.config import TASKS

SAMPLE = 64  # triplets whose files are read
SAMPLE_S = 2.0  # seconds after which no more files are read
MIN_FILES = 3  # number of files that are read in any case


@dataclass
class Encoding:
    """The meaning of the values of a folder's masks and depth maps."""

    spec: DatasetSpec  # with all fields that were inferred with certainty
    description: str = ""  # describes masks and depth in a few words
    mask_doubt: str = ""  # why the meaning of the masks is unclear
    image_doubt: str = ""  # that the images are nearly black, if they are
    # why the meaning of the depth maps is unclear, or why no file can be read
    doubts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # configured fields that the files contradict
    orientation_warnings: tuple[str, ...] = ()

    def apply(self, dataset: Dataset) -> Dataset:
        """Return the data set with this encoding."""
        return replace(
            dataset,
            spec=self.spec,
            description=self.description,
            doubts=tuple(filter(None, (self.mask_doubt, self.image_doubt, *self.doubts))),
            warnings=(*dataset.warnings, *self.orientation_warnings, *self.warnings),
        )


@dataclass(frozen=True)
class _Sample:
    triplet: Triplet
    mask: LabelSample | None
    depth: LabelSample | None
    dim: float | None  # largest value of an image that is nearly black as 8 bits


def infer_encoding(dataset: Dataset, configured: Mapping[str, Any]) -> Encoding:
    """Infer the encoding of a single folder; files that cannot be read are skipped.

    The spec of the folder already contains the values of the `configured` fields.
    """
    samples = list(_read_sample(dataset.triplets))
    unclear = [s.triplet for s in samples if any(label and label.may_be_turned for label in (s.mask, s.depth))]
    turned = warn_of_orientation(unclear, len(samples))
    encoding = Encoding(dataset.spec, image_doubt=_describe_dim(samples), orientation_warnings=turned)
    encoding.doubts += filter(None, (_describe_unreadable(samples, role) for role in TASKS))
    if masks := [sample.mask for sample in samples if sample.mask is not None]:
        _infer_masks(encoding, masks)
    if depths := [sample for sample in samples if sample.depth is not None]:
        _infer_depth(encoding, depths, configured)
    return encoding


def _read_sample(triplets: Sequence[Triplet]) -> Iterator[_Sample]:
    """Read masks and depth maps of some triplets in the order of a stable hash, for SAMPLE_S seconds at most."""
    until = time.monotonic() + SAMPLE_S
    chosen = sorted(triplets, key=lambda triplet: hash_name(triplet.id))[:SAMPLE]
    for number, triplet in enumerate(chosen):
        if number >= MIN_FILES and time.monotonic() > until:
            return
        content = _read_bytes(triplet.image)
        mask, depth = (_read_label(role, getattr(triplet, role), read_orientation(content)) for role in TASKS)
        yield _Sample(triplet, mask, depth, measure_dim(content))


def _read_bytes(path: Path | None) -> bytes:
    """Return the content of a file; b"" if it is absent or cannot be read."""
    try:
        return b"" if path is None else read_bytes(path)
    except DataError:
        return b""


def _read_label(role: str, path: Path | None, orientation: int) -> LabelSample | None:
    """Read a mask or depth map, upright; `orientation` is that of the image."""
    content = _read_bytes(path)
    pixels = DECODERS[role](content)
    if path is None or pixels is None:
        return None
    own = read_orientation(content)
    unclear = is_orientation_unclear(pixels, own, orientation)
    upright = apply_orientation(pixels, orientation if unclear else own)
    return LabelSample(path, upright, is_lossy(content), is_coloured(pixels), unclear)


def warn_of_orientation(unclear: Sequence[Triplet], looked_at: int) -> tuple[str, ...]:
    """Return a warning if EXIF data turn images whose labels may be turned already."""
    if not unclear:
        return ()
    turned = f"{unclear[0].image}: EXIF data turn {len(unclear)} of {looked_at} images that were looked at"
    assumed = "their masks or depth may be turned too, but are taken to lie as the images are stored"
    return (f"{turned}; {assumed}; if that is wrong, save the images upright",)


def _describe_unreadable(samples: Sequence[_Sample], role: str) -> str:
    """Return why no mask or no depth map can be read, "" if some can or there are none."""
    paths = [path for sample in samples if (path := getattr(sample.triplet, role))]
    if any(getattr(sample, role) for sample in samples):
        return ""
    try:
        for path in paths:
            read_pixels(path, DECODERS[role])
    except DataError as error:
        return f"{error} (none of {len(paths)} {role} files that were looked at can be read)"
    return ""


def _describe_dim(samples: Sequence[_Sample]) -> str:
    """Return that most images are nearly black as 8 bits, as those of 12 bits in files of 16; "" if they are not."""
    values = [sample.dim for sample in samples if sample.dim is not None]
    if len(values) <= len(samples) / 2:
        return ""
    seen = f"{len(values)} of {len(samples)} images that were looked at have values up to {max(values):,.4g}"
    where = samples[0].triplet.image.parent
    return f"{where}: {seen}, which is nearly black in files of their type; save them with 8 bits, 255 as the brightest"


def _infer_masks(encoding: Encoding, masks: Sequence[LabelSample]) -> None:
    where = masks[0].path.parent
    try:
        found = infer_mask_values(masks, encoding.spec.mask_values)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    encoding.spec = replace(encoding.spec, mask_values=found.values)
    encoding.description = found.description
    encoding.mask_doubt = f"{where}: {found.doubt}" if found.doubt else ""


def _infer_depth(encoding: Encoding, samples: Sequence[_Sample], configured: Mapping[str, Any]) -> None:
    maps = [sample.depth for sample in samples if sample.depth is not None]
    where, spec = maps[0].path.parent, encoding.spec
    values = [measure_values(reduce_channels(one.pixels), spec.missing) for one in maps]
    if (coloured := sum(one.coloured for one in maps)) > COLOURED_FILES * len(maps):
        problem = f"{coloured} of {len(samples)} depth maps are in colour, which is no depth; save the values"
        encoding.doubts.append(f"{where}: {problem}")
        return
    if all(value.constant for value in values):
        problem = f"each of {len(values)} depth maps that were looked at has one value only; export them again"
        encoding.doubts.append(f"{where}: {problem}")
        return
    values = [value for value in values if not value.constant]
    polarity = measure_polarity([s.triplet for s in samples], [_measure_step(s, spec) for s in samples])
    found = infer_depth_fields(values, polarity, configured, unclear_masks=bool(encoding.mask_doubt))
    fields = {one.key: one for one in found}
    encoding.doubts += [f"{where}: {one.doubt}" for one in fields.values() if one.doubt]
    if "depth_unit" in fields and not fields["depth_unit"].certain:
        return
    certain = {key: one.value for key, one in fields.items() if one.certain}
    spec = replace(spec, **read_fields(DatasetSpec, certain))
    if spec.depth_unit == "relative" and "near" in configured:
        encoding.warnings += _warn_of_near(where, spec.near, polarity)
    depth = describe_depth(spec, values[0].dtype, unclear="near" in fields.keys() - certain.keys())
    encoding.spec, encoding.description = spec, "; ".join(filter(None, (encoding.description, depth)))


def _warn_of_near(where: Path, near: str, polarity: Polarity) -> list[str]:
    """Return a warning if the files contradict the configured polarity."""
    if polarity.votes.decide(MIN_VOTES) not in (None, near) or polarity.mixed:
        return [f"{where}: near is set to {near}, but the depth maps show the opposite ({polarity.votes}); see --near"]
    return []


def _measure_step(sample: _Sample, spec: DatasetSpec) -> DepthStep | None:
    if sample.mask is None or sample.depth is None:
        return None
    foreground, _ = scale_mask(reduce_channels(sample.mask.pixels, spec.mask_values), spec.mask_values)
    if not (foreground > 0.5).any() or (foreground > 0.5).all():
        return None
    return measure_contour_step(reduce_channels(sample.depth.pixels), spec, foreground)
