"""Infer from a sample of masks which of their values are foreground, background and ignored."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Shaped

from data.dataset import DataError, MaskValues
from data.values.masks import has_other_alpha, has_varying_alpha, reduce_channels, scale_mask
from data.values.sampling import COLOURED_FILES, LabelSample

SIDE = 512  # pixels; larger masks are thinned out
FLAT_SHARE = 0.005  # share of the image: an even area of one value, which a soft edge never contains
THIN_PX = 9  # an ignored border is narrower
THIN_SHARE = 0.1  # of the pixels of a border that lie in larger areas
MIN_AGREEMENT = 0.8  # share of the files that must agree
COVERED, ON_BORDER = 0.5, 0.8  # a mask looks inverted above these shares of the image and of its border
EMPTY, FULL = 1e-4, 0.9999  # share of the image
LOSSY_STEP = 24  # levels between a configured value and the end of the range that it means in a lossy file
REACHED = 0.9  # share of the value of full foreground that graded masks reach
LARGEST_LABEL = 64  # a mask whose largest value is below this contains class numbers
SHOWN_VALUES = 8


@dataclass(frozen=True)
class MaskEncoding:
    """Meaning of the values of masks."""

    values: MaskValues  # a guess if there is a doubt
    description: str  # of the values in a few words
    doubt: str = ""  # problem and remedy if the meaning is unclear


@dataclass(frozen=True)
class _Levels:
    """Values of a mask."""

    shares: dict[float, float]  # value, in ascending order -> share of the image
    flat: set[float]  # values with even areas
    thin: bool  # True if the largest value is in thin lines only
    lossy: bool

    @property
    def top(self) -> float:
        return max(self.shares)


def infer_mask_values(samples: Sequence[LabelSample], configured: MaskValues | None) -> MaskEncoding:
    """Infer the meaning of the values of masks, or complete the configured one."""
    varying = sum(has_varying_alpha(sample.pixels) for sample in samples)
    alpha = (configured is not None and configured.alpha) or varying > len(samples) / 2
    planes = [reduce_channels(sample.pixels, MaskValues(alpha=alpha)) for sample in samples]
    levels = [_measure_levels(plane, sample.lossy) for plane, sample in zip(planes, samples, strict=True)]
    if configured is None:
        found = _infer_values(levels, samples, planes[0].dtype, alpha=alpha)
    else:
        found = _complete_configured(configured, levels, planes[0].dtype)
    found = replace(found, values=replace(found.values, alpha=alpha))
    if alpha:
        found = replace(found, description=f"{found.description} in alpha")
    return replace(found, doubt=found.doubt or _doubt_areas(planes, found.values, configured=configured is not None))


def _measure_levels(raw: Shaped[np.ndarray, "h w"], lossy: bool) -> _Levels:
    step = -(-max(raw.shape) // SIDE)
    thinned = np.ascontiguousarray(raw[::step, ::step]).astype(np.float64)
    thinned = np.nan_to_num(thinned, nan=0.0, posinf=0.0, neginf=0.0)
    values, counts = np.unique(thinned, return_counts=True)
    square = np.ones((3, 3), np.uint8)
    even = thinned[cv2.erode(thinned, square) == cv2.dilate(thinned, square)]
    flat_values, flat_counts = np.unique(even, return_counts=True)
    flat = set(flat_values[flat_counts >= FLAT_SHARE * thinned.size].tolist())
    shares = dict(zip(values.tolist(), (counts / thinned.size).tolist(), strict=True))
    return _Levels(shares, flat, _is_thin(thinned == values[-1]), lossy)


def _is_thin(area: np.ndarray) -> bool:
    kernel = np.ones((THIN_PX, THIN_PX), np.uint8)
    kept = cv2.erode(area.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return bool(kept.sum() <= THIN_SHARE * area.sum())


def _infer_values(
    levels: Sequence[_Levels], samples: Sequence[LabelSample], dtype: np.dtype, *, alpha: bool
) -> MaskEncoding:
    coloured = 0 if alpha else sum(sample.coloured for sample in samples)
    alpha_files = sum(has_other_alpha(sample.pixels) for sample in samples)
    limit = COLOURED_FILES * len(samples)
    if alpha_files > limit:
        doubt = f"{alpha_files} of {len(samples)} masks have an alpha channel besides other values; if it is the mask, "
        doubt += 'write "mask_values": {"alpha": true} in dataset.json, or else save the masks without it'
        return MaskEncoding(MaskValues(), "masks with alpha besides other values", doubt)
    if coloured > limit:
        doubt = f"{coloured} of {len(samples)} masks are in colour; save each as one channel of levels or class numbers"
        return MaskEncoding(MaskValues(), "masks in colour", doubt)
    whole = all(value.is_integer() for mask in levels for value in mask.shares)
    exact = whole and not any(mask.lossy for mask in levels)
    found = (_infer_binary(levels) or _infer_border(levels) or _infer_labels(levels)) if exact else None
    return found or _infer_grades(levels, dtype)


def _infer_binary(levels: Sequence[_Levels]) -> MaskEncoding | None:
    """Infer masks of 0 and one other value each."""
    if not all(mask.shares.keys() <= {0.0, mask.top} for mask in levels):
        return None
    tops = sorted({mask.top for mask in levels} - {0.0})
    if len(tops) == 1:
        return MaskEncoding(MaskValues(full=tops[0]), f"masks 0/{tops[0]:g}")
    if not tops:
        return MaskEncoding(MaskValues(), "masks 0")
    listed = "/".join(f"{top:g}" for top in tops[:SHOWN_VALUES])
    return MaskEncoding(MaskValues(full=1.0), f"masks 0/{listed}, every value but 0 is foreground")


def _infer_border(levels: Sequence[_Levels]) -> MaskEncoding | None:
    """Infer masks of 0 and one class number each, whose outline is a thin line of the largest value."""
    void = max(mask.top for mask in levels)
    bordered = [mask for mask in levels if mask.top == void]
    others = [mask.shares.keys() - {0.0, void} for mask in levels]
    if void not in (255.0, 65535.0) or any(len(classes) > 1 for classes in others) or not set().union(*others):
        return None
    if sum(mask.thin for mask in bordered) < MIN_AGREEMENT * len(bordered):
        return None
    listed = "/".join(f"{number:g}" for number in sorted(set().union(*others))[:SHOWN_VALUES])
    return MaskEncoding(MaskValues(full=1.0, ignored=(void,)), f"masks 0/{listed}, {void:g} ignored")


def _infer_labels(levels: Sequence[_Levels]) -> MaskEncoding | None:
    """Recognise maps of several classes, whose meaning must be configured."""
    low, top = min(min(mask.shares) for mask in levels), max(mask.top for mask in levels)
    with_classes = sum(bool(mask.flat - {low, top}) for mask in levels)
    if with_classes < len(levels) / 2 and low == 0 and top >= LARGEST_LABEL:
        return None
    key = '"mask_values": {"foreground": [N], "ignored": [N]}'
    remedy = f"name the foreground by --mask-foreground N and the unknown by --mask-ignored N (dataset.json: {key})"
    doubt = f"masks hold the values {_list_shares(levels)}; {remedy}"
    return MaskEncoding(MaskValues(full=1.0), "masks of several classes", doubt)


def _list_shares(levels: Sequence[_Levels]) -> str:
    total: Counter[float] = Counter()
    for mask in levels:
        total.update(mask.shares)
    shown = sorted(value for value, _ in total.most_common(SHOWN_VALUES))
    more = f" and {len(total) - len(shown)} more" if len(total) > len(shown) else ""
    return ", ".join(f"{value:g} ({total[value] / len(levels):.0%})" for value in shown) + more


def _infer_grades(levels: Sequence[_Levels], dtype: np.dtype) -> MaskEncoding:
    """Infer the largest value of graded masks."""
    top = max(mask.top for mask in levels)
    full = _choose_full(top, dtype)
    if full is None:
        held = f"masks hold {len(set().union(*(mask.shares for mask in levels)))} values up to {top:g}"
        doubt = f'{held}; add the value of foreground to dataset.json: "mask_values": {{"full": {top:g}}}'
        return MaskEncoding(MaskValues(full=top or None), f"masks 0 to {top:g}", doubt)
    return MaskEncoding(MaskValues(full=full), f"masks 0 to {full:g}")


def _choose_full(top: float, dtype: np.dtype) -> float | None:
    """Return the value of full foreground of graded masks that reach `top`; None if it is unclear."""
    fulls = {"u": (255.0, 65535.0), "i": (255.0, 65535.0), "f": (1.0, 255.0, 65535.0)}[dtype.kind]
    for full in fulls:
        if REACHED * full <= top <= full * 1.001:
            return full
    return 1.0 if top == 0 else None


def _complete_configured(configured: MaskValues, levels: Sequence[_Levels], dtype: np.dtype) -> MaskEncoding:
    """Complete the configured meaning from the values that the masks hold."""
    ignored = f", {_format_values(configured.ignored)} ignored" if configured.ignored else ""
    lossy = any(mask.lossy for mask in levels)
    if configured.foreground:
        found = _complete_foreground(configured, levels, dtype, lossy=lossy)
    elif configured.full is not None:
        found = MaskEncoding(configured, f"masks {configured.empty:g} to {configured.full:g}")
    else:
        known = [_drop_ignored(mask, configured.ignored) for mask in levels]
        found = _infer_binary(known) or (None if lossy else _infer_labels(known)) or _infer_grades(known, dtype)
    values = replace(found.values, ignored=configured.ignored)
    return replace(found, values=values, description=found.description + ignored)


def _complete_foreground(
    configured: MaskValues, levels: Sequence[_Levels], dtype: np.dtype, *, lossy: bool
) -> MaskEncoding:
    """Return the meaning of configured foreground values: a single end of the grey range means all of it."""
    first, *others = configured.foreground
    held = set().union(*(mask.shares for mask in levels)) - set(configured.ignored)
    full = _choose_full(max(held, default=0.0), dtype)
    if (lossy or len(held) > SHOWN_VALUES) and not others and full is not None:
        near = LOSSY_STEP if full > 1 else 0.1
        if min(abs(first), abs(first - full)) <= near:
            empty, full = (full, 0.0) if abs(first) <= near else (0.0, full)
            return MaskEncoding(MaskValues(empty=empty, full=full), f"masks {empty:g} to {full:g}")
    if held.isdisjoint(configured.foreground):
        raise DataError(
            f"foreground {_format_values(configured.foreground)} is in none of {len(levels)} masks, which hold "
            f"{_list_shares(levels)}; correct mask_values in dataset.json or --mask-foreground"
        )
    return MaskEncoding(configured, f"masks with foreground {_format_values(configured.foreground)}")


def _drop_ignored(mask: _Levels, ignored: Sequence[float]) -> _Levels:
    shares = {value: share for value, share in mask.shares.items() if value not in ignored} or {0.0: 1.0}
    return replace(mask, shares=shares, flat=mask.flat - set(ignored))


def _format_values(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _doubt_areas(planes: Sequence[np.ndarray], values: MaskValues, *, configured: bool) -> str:
    """Return the doubt that all masks are empty or full, or inverted if their values are not configured; else ""."""
    found = [scale_mask(plane, values) for plane in planes]
    covers = [float(np.mean(foreground[known] > 0.5)) if known.any() else 0.0 for foreground, known in found]
    number = len(covers)
    if all(cover < EMPTY for cover in covers):
        return f"all {number} masks that were looked at are empty; there is nothing to learn, export them again"
    if all(cover > FULL for cover in covers):
        return f"all {number} masks that were looked at are full: every pixel is foreground; export them again"
    if all(cover < EMPTY or cover > FULL for cover in covers):
        return f"each of {number} masks that were looked at is empty or full; export them again"
    borders = [_measure_border(foreground) for foreground, _ in found]
    partly = [(c, b) for c, b in zip(covers, borders, strict=True) if EMPTY <= c <= FULL]
    inverted = sum(cover > COVERED and border > ON_BORDER for cover, border in partly)
    if configured or inverted < MIN_AGREEMENT * len(partly):
        return ""
    cover = float(np.mean([c for c, _ in partly]))
    full, empty = (255.0 if values.full is None else values.full), values.empty
    seen = f"in {inverted} of {len(partly)} the foreground is large ({cover:.0%} on average) and lies along the border"
    remedy = f"use --mask-foreground {empty:g} if {empty:g} is the object, else --mask-foreground {full:g}"
    return f"masks look inverted: {seen}; {remedy} (dataset.json: mask_values)"


def _measure_border(foreground: np.ndarray) -> float:
    """Return the share of the pixels at the border of an image that are foreground."""
    edge = np.concatenate([foreground[0], foreground[-1], foreground[:, 0], foreground[:, -1]])
    return float(np.mean(edge > 0.5))
