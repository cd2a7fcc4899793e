"""Find a user's photos in files and folders, name their outputs without collisions, and read them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from analysis import AnalysisError
from data.reading.matching import PHOTO_SUFFIXES, is_photo_name
from data.values.pixels import decode_color, read_orientation, turn

MAX_SIDE = 65_500  # px; the limit of JPEG

RGBImage = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Photo:
    """A user's photo."""

    path: Path
    name: str  # prefix of its output files relative to the output folder; it includes the folders that were searched


class UnreadableError(ValueError):
    """The file is not a complete image; the message says why."""


def find_photos(places: Sequence[Path], out: Path) -> list[Photo]:
    """Find the photos in files and folders, each once.

    Folders are searched recursively for files with one of PHOTO_SUFFIXES, without hidden files and the output folder; a
    file that is named itself is accepted whatever its suffix.

    Raises:
        AnalysisError: A place does not exist or contains no images, or a photo lies in the output folder.
    """
    hidden = out.resolve()
    found = {_resolve(path): (path, base) for place in places for path, base in _in_place(place, hidden)}
    for path, (named, _) in found.items():
        if path.is_relative_to(hidden):
            raise AnalysisError(f"{named}: it lies in the output folder {out}; name another folder with --out")
    names = _names([_candidates(path, base) for path, base in found.values()])
    return [Photo(path, name) for (path, _), name in zip(found.values(), names, strict=True)]


def read_photo(path: Path) -> RGBImage:
    """Read a photo as RGB bytes, rotated by its EXIF orientation; transparency is ignored.

    Raises:
        UnreadableError: The file does not exist, or it cannot be read completely.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})") from error
    image = decode_color(content)
    if image is None:
        heif = path.suffix.lower() in (".heic", ".heif")
        raise UnreadableError("not a complete image, or pip install pillow-heif" if heif else "not a complete image")
    if max(image.shape) > MAX_SIDE:
        raise UnreadableError(f"has a side of more than {MAX_SIDE:,} px")
    return turn(image, read_orientation(content))


def _in_place(place: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each photo of a place with the folder that its name is relative to."""
    if not os.path.lexists(place):  # Path.exists raises on names that are too long
        raise AnalysisError(f"{place}: no such photo or folder")
    if not place.is_dir():
        yield place, place.parent
        return
    paths = sorted(_images_below(place, out))
    if not paths:
        raise AnalysisError(f"{place}: it contains no images ({' '.join(sorted(PHOTO_SUFFIXES))})")
    yield from ((path, place) for path in paths)


def _images_below(folder: Path, out: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        inside = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in inside if _resolve(Path(where, name)) != out]
        yield from (Path(where, name) for name in files if is_photo_name(name))


def _resolve(path: Path) -> Path:
    """Return the real path; a link to itself, on which Path.resolve raises, gives its own."""
    return Path(os.path.realpath(path))


def _candidates(path: Path, base: Path) -> tuple[str, str, str]:
    """Return names of increasing length; the last, made from the whole path, is unique."""
    with_suffix = f"{path.stem}_{path.suffix[1:]}"
    whole = _resolve(path).with_name(with_suffix)
    inside = path.relative_to(base)
    return inside.with_name(path.stem).as_posix(), inside.with_name(with_suffix).as_posix(), "/".join(whole.parts[1:])


def _names(candidates: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the first unique name of each photo; upper and lower case count as equal."""
    levels = [0] * len(candidates)
    while True:
        names = [choices[level] for choices, level in zip(candidates, levels, strict=True)]
        count = Counter(name.casefold() for name in names)
        clashing = [i for i, name in enumerate(names) if count[name.casefold()] > 1 and levels[i] < 2]
        if not clashing:
            return names
        for i in clashing:
            levels[i] += 1
