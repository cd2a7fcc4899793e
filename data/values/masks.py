"""Convert values of mask files to foreground in [0, 1] and the pixels that are known."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from data.dataset import DataError, MaskValues
from data.values.depth import average_known

COLOURED, COLOURED_SHARE = 32, 0.001  # difference between channels of 255; share of such pixels
IGNORED_SHARE = 0.5  # of the area of an output pixel, from which it is ignored

Foreground = Float32[np.ndarray, "h w"]
Known = Bool[np.ndarray, "h w"]


def reduce_channels(
    pixels: Shaped[np.ndarray, "h w *c"], values: MaskValues | None = None
) -> Shaped[np.ndarray, "h w"]:
    """Reduce a mask or depth map to one channel, which holds its values: alpha if `values` says so, or else the colour.

    Without `values`, alpha is selected if it varies where the colour does not. The largest colour channel is returned;
    the channels are equal except for noise, see `check_channels`.
    """
    if pixels.ndim == 2:
        return pixels
    channels = pixels.shape[2]
    alpha = pixels[..., -1] if channels in (2, 4) else None
    wanted = has_varying_alpha(pixels) if values is None else values.alpha
    if alpha is not None and wanted:
        return np.ascontiguousarray(alpha)
    return np.ascontiguousarray(pixels[..., : 1 if channels < 3 else 3].max(axis=2))


def has_varying_alpha(pixels: Shaped[np.ndarray, "h w *c"], *, alone: bool = True) -> bool:
    """Return True if a mask has an alpha channel that varies; if `alone`, the colour of what it shows does not."""
    if pixels.ndim == 2 or pixels.shape[2] not in (2, 4) or pixels[..., -1].min() == pixels[..., -1].max():
        return False
    shown = pixels[pixels[..., -1] > 0]
    return not alone or bool((shown[:, :-1] == shown[:1, :-1]).all())


def has_other_alpha(pixels: Shaped[np.ndarray, "h w *c"], values: MaskValues | None = None) -> bool:
    """Return True if a mask has an alpha channel that varies and differs from the channel that holds its values."""
    return has_varying_alpha(pixels, alone=False) and not np.array_equal(
        reduce_channels(pixels, values), pixels[..., -1]
    )


def measure_colour(pixels: Shaped[np.ndarray, "h w *c"]) -> float:
    """Return the share of pixels whose colour channels differ clearly."""
    if pixels.ndim == 2 or pixels.shape[2] < 3:
        return 0.0
    scale = 255 / np.iinfo(pixels.dtype).max if pixels.dtype.kind in "ui" else 255
    colours = pixels[..., :3]
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        spread = colours.max(axis=2).astype(np.float32) - colours.min(axis=2)
    return float(np.mean(spread * np.float32(scale) > COLOURED))


def is_coloured(pixels: Shaped[np.ndarray, "h w *c"]) -> bool:
    """Return True if the colour channels of a mask or depth map differ, so that it has no single value."""
    return measure_colour(pixels) > COLOURED_SHARE


def check_channels(path: Path, pixels: Shaped[np.ndarray, "h w *c"], values: MaskValues | None = None) -> None:
    """Raise DataError for a mask or depth map in colour, or one whose alpha may be the mask as well as its `values`."""
    if values is not None and values.alpha:
        return
    if is_coloured(pixels):
        raise DataError(f"{path}: is in colour, which is not one value; save it as one channel of values", "channels")
    if values is not None and has_other_alpha(pixels, values):
        raise DataError(f"{path}: alpha varies beside other values; save the mask as one channel", "channels")


def check_range(path: Path, raw: Shaped[np.ndarray, "h w"], values: MaskValues | None) -> None:
    """Raise DataError for a mask of 0 and 1 among masks that reach 255 or more: it would count as empty."""
    if values is None or values.foreground or values.full is None:
        return
    lossy = path.suffix.lower() in (".jpg", ".jpeg", ".jfif")
    if max(values.full, values.empty) >= 255 and not lossy and raw.max(initial=0) == 1:
        message = f"{path}: holds 0 and 1, but the other masks reach {max(values.full, values.empty):g}"
        raise DataError(f"{message}; multiply it by that", "mask values")


def complete_values(raw: Shaped[np.ndarray, "h w"], values: MaskValues | None = None) -> MaskValues:
    """Return the values with the value of full foreground: by default the largest of the file's type.

    Without `values`, it is 1 in a mask of 0 and 1.
    """
    if values is not None and values.full is not None:
        return values
    one = raw.dtype.kind == "f" or (values is None and raw.max(initial=0) <= 1)
    return replace(values or MaskValues(), full=1.0 if one else float(np.iinfo(raw.dtype).max))


def scale_mask(raw: Shaped[np.ndarray, "h w"], values: MaskValues | None = None) -> tuple[Foreground, Known]:
    """Convert stored values to foreground in [0, 1] and True where known, see `complete_values`."""
    known = np.ones(raw.shape, bool)
    if raw.dtype.kind == "f":
        known &= np.isfinite(raw)
    values = complete_values(raw, values)
    for value in values.ignored:
        known &= raw != value
    if values.foreground:
        foreground = np.isin(raw, values.foreground).astype(np.float32)
    else:
        scale = np.float32(1 / ((values.full or 0.0) - values.empty))
        foreground = (raw.astype(np.float32) - np.float32(values.empty)) * scale
        foreground = np.clip(foreground, 0.0, 1.0)
    return (foreground if known.all() else np.where(known, foreground, np.float32(0))), known


def shrink_mask(
    foreground: Foreground, known: Known, px: int
) -> tuple[UInt8[np.ndarray, "px px"], Bool[np.ndarray, "px px"]]:
    """Resize a mask to a square by averages over known pixels: 0..255, and True where half of the area is known."""
    if known.all():
        levels = np.rint(foreground * np.float32(255)).astype(np.uint8)  # as files store them: averages are exact
        return cv2.resize(levels, (px, px), interpolation=cv2.INTER_AREA), np.ones((px, px), bool)
    mean, share = average_known(foreground, known, px)
    valid = share > 1 - IGNORED_SHARE
    return np.rint(np.clip(mean * valid, 0, 1) * np.float32(255)).astype(np.uint8), valid
