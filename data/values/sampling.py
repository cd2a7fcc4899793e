"""Read a sample of the files of a data set, from which the meaning of its values is inferred."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from data.dataset import DataError, Triplet
from data.runtime.files import hash_name
from data.values.decoding import DECODERS, measure_dim
from data.values.header import is_lossy, read_bytes, read_orientation
from data.values.masks import is_coloured
from data.values.orientation import apply_orientation, is_orientation_unclear
from models.config import TASKS

SAMPLE = 64  # triplets whose files are read
SAMPLE_S = 2.0  # seconds after which no more files are read
MIN_FILES = 3  # number of files that are read in any case
COLOURED_FILES = 0.1  # share of coloured files above which all are doubted; below it, single files are left out


@dataclass(frozen=True)
class LabelSample:
    """The values of one mask or depth file, upright."""

    path: Path
    pixels: Shaped[np.ndarray, "h w *c"]
    lossy: bool  # True if the values are not exact, as those of a JPEG
    coloured: bool
    may_be_turned: bool  # True if EXIF data turn the image, and nothing shows whether this file is upright already


@dataclass(frozen=True)
class TripletSample:
    """The readable files of one triplet."""

    triplet: Triplet
    mask: LabelSample | None
    depth: LabelSample | None
    dim: float | None  # largest value of an image that is nearly black as 8 bits


def read_sample(triplets: Sequence[Triplet]) -> Iterator[TripletSample]:
    """Read masks and depth maps of some triplets in the order of a stable hash, for SAMPLE_S seconds at most."""
    until = time.monotonic() + SAMPLE_S
    chosen = sorted(triplets, key=lambda triplet: hash_name(triplet.id))[:SAMPLE]
    for number, triplet in enumerate(chosen):
        if number >= MIN_FILES and time.monotonic() > until:
            return
        content = _read_bytes(triplet.image)
        mask, depth = (_read_label(role, getattr(triplet, role), read_orientation(content)) for role in TASKS)
        yield TripletSample(triplet, mask, depth, measure_dim(content))


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
