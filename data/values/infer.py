"""Infer from a sample of its files what the values of a data set's masks and depth maps mean.

A field of dataset.json that is configured is not inferred. An inferred field is certain if two independent signs agree.
If they do not, and the possible meanings differ in what a network would learn, a doubt lists them and the option for
each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.dataset import DataError, Dataset, DatasetSpec, Triplet, read_fields
from data.values.alignment import DepthStep
from data.values.decoding import DECODERS, read_pixels
from data.values.infer_depth import (
    MIN_VOTES,
    Polarity,
    describe_depth,
    infer_depth_fields,
    measure_contour_step,
    measure_polarity,
    measure_values,
)
from data.values.infer_masks import infer_mask_values
from data.values.masks import reduce_channels, scale_mask
from data.values.sampling import COLOURED_FILES, LabelSample, TripletSample, read_sample
from models.config import TASKS


@dataclass
class Encoding:
    """The meaning of the values of a folder's masks and depth maps."""

    spec: DatasetSpec  # with all fields that were inferred with certainty
    description: str = ""  # describes masks and depth in a few words
    mask_doubt: str = ""  # why the meaning of the masks is unclear
    image_doubt: str = ""  # that the images are nearly black, if they are
    # why the meaning of the depth maps is unclear, or why no file can be read
    doubts: list[str] = field(default_factory=list)
    near_warning: str = ""  # that the files contradict the configured polarity
    orientation_warning: str = ""  # see `describe_orientation`

    def apply(self, dataset: Dataset) -> Dataset:
        """Return the data set with this encoding."""
        doubts = tuple(filter(None, (self.mask_doubt, self.image_doubt, *self.doubts)))
        warnings = (*dataset.warnings, *filter(None, (self.orientation_warning, self.near_warning)))
        return replace(dataset, spec=self.spec, description=self.description, doubts=doubts, warnings=warnings)


def infer_encoding(dataset: Dataset, configured: Mapping[str, Any]) -> Encoding:
    """Infer the encoding of a single folder; files that cannot be read are skipped.

    The spec of the folder already contains the values of the `configured` fields.
    """
    samples = list(read_sample(dataset.triplets))
    unclear = [s.triplet for s in samples if any(label and label.may_be_turned for label in (s.mask, s.depth))]
    turned = describe_orientation(unclear, len(samples))
    encoding = Encoding(dataset.spec, image_doubt=_describe_dim(samples), orientation_warning=turned)
    encoding.doubts += filter(None, (_describe_unreadable(samples, role) for role in TASKS))
    if masks := [sample.mask for sample in samples if sample.mask is not None]:
        _infer_masks(encoding, masks)
    if depths := [sample for sample in samples if sample.depth is not None]:
        _infer_depth(encoding, depths, configured)
    return encoding


def describe_orientation(unclear: Sequence[Triplet], looked_at: int) -> str:
    """Return how many images EXIF data turn whose labels may be turned already, and what is assumed; "" if none."""
    if not unclear:
        return ""
    turned = f"{unclear[0].image}: EXIF data turn {len(unclear)} of {looked_at} images that were looked at"
    assumed = "their masks or depth may be turned too, but are taken to lie as the images are stored"
    return f"{turned}; {assumed}; if that is wrong, save the images upright"


def _describe_unreadable(samples: Sequence[TripletSample], role: str) -> str:
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


def _describe_dim(samples: Sequence[TripletSample]) -> str:
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


def _infer_depth(encoding: Encoding, samples: Sequence[TripletSample], configured: Mapping[str, Any]) -> None:
    maps = [sample.depth for sample in samples if sample.depth is not None]
    where, spec = maps[0].path.parent, encoding.spec
    values = [measure_values(reduce_channels(one.pixels), spec.missing) for one in maps]
    if (coloured := sum(one.coloured for one in maps)) > COLOURED_FILES * len(maps):
        problem = f"{coloured} of {len(samples)} depth maps are in colour, which is no depth; save the values"
        encoding.doubts.append(f"{where}: {problem}")
        return
    if all(value.constant for value in values):
        problem = f"each of {len(values)} depth maps that were looked at has at most one value; export them again"
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
        encoding.near_warning = _describe_contradiction(where, spec.near, polarity)
    depth = describe_depth(spec, values[0].dtype, unclear="near" in fields.keys() - certain.keys())
    encoding.spec, encoding.description = spec, "; ".join(filter(None, (encoding.description, depth)))


def _describe_contradiction(where: Path, near: str, polarity: Polarity) -> str:
    """Return that the files contradict the configured polarity, "" if they do not."""
    if polarity.votes.decide(MIN_VOTES) not in (None, near) or polarity.mixed:
        return f"{where}: near is set to {near}, but the depth maps show the opposite ({polarity.votes}); see --near"
    return ""


def _measure_step(sample: TripletSample, spec: DatasetSpec) -> DepthStep | None:
    if sample.mask is None or sample.depth is None:
        return None
    foreground, _ = scale_mask(reduce_channels(sample.mask.pixels, spec.mask_values), spec.mask_values)
    if not (foreground > 0.5).any() or (foreground > 0.5).all():
        return None
    return measure_contour_step(reduce_channels(sample.depth.pixels), spec, foreground)
