"""Photos to predict: found in files and folders, named so that no two outputs collide, read whole or not at all."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from analysis.exceptions import AnalysisError

LONGEST = 65_500  # px of a side; the most that a JPEG may have
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Photo:
    """A file to predict.

    Attributes:
        path: Where it lies.
        name: Of its outputs, below the output folder; folders stand before it where it was found in some.
    """

    path: Path
    name: str


class UnreadableError(ValueError):
    """A file that is no whole picture; the message says why."""


def find_photos(places: Sequence[Path], out: Path) -> list[Photo]:
    """Return the photos of files and folders, each once.

    Folders are searched with all that lies below them, hidden files and the output folder excepted, for files with one
    of ENDINGS; a file that is named is taken whatever its ending.

    Args:
        places: Files and folders.
        out: Where outputs go.

    Raises:
        AnalysisError: A place does not exist or holds no pictures, or a photo lies in the output folder.
    """
    hidden = out.resolve()
    found = {path.resolve(): (path, base) for place in places for path, base in _in_place(place, hidden)}
    for path, (named, _) in found.items():
        if path.is_relative_to(hidden):
            raise AnalysisError(f"{named}: lies in the output folder {out}; name another with --out")
    names = _names([_candidates(path, base) for path, base in found.values()])
    return [Photo(path, name) for (path, _), name in zip(found.values(), names, strict=True)]


def read_photo(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read a photo as RGB bytes, turned upright by its EXIF orientation; transparency is ignored.

    Raises:
        UnreadableError: No such file, or nothing OpenCV can read whole.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})") from error
    except cv2.error as error:
        raise UnreadableError("has more pixels than OpenCV reads") from error
    if picture is None:
        raise UnreadableError("not a whole picture")
    if max(picture.shape) > LONGEST:
        raise UnreadableError(f"has a side of more than {LONGEST:,} px")
    return picture


def _in_place(place: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each photo of a place with the folder that its name is told from."""
    if not place.exists():
        raise AnalysisError(f"{place}: no such photo or folder")
    if not place.is_dir():
        yield place, place.parent
        return
    paths = sorted(_pictures_below(place, out))
    if not paths:
        raise AnalysisError(f"{place}: no pictures in it ({' '.join(ENDINGS)})")
    yield from ((path, place) for path in paths)


def _pictures_below(folder: Path, out: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        inside = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in inside if Path(where, name).resolve() != out]
        yield from (Path(where, name) for name in files if _is_picture(name))


def _is_picture(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def _candidates(path: Path, base: Path) -> tuple[str, str, str]:
    """Return names of growing length; the last, made of the whole path, is no other file's."""
    ended = f"{path.stem}_{path.suffix[1:]}"
    whole = path.resolve().with_name(ended)
    inside = path.relative_to(base)
    return inside.with_name(path.stem).as_posix(), inside.with_name(ended).as_posix(), "/".join(whole.parts[1:])


def _names(candidates: Sequence[tuple[str, ...]]) -> list[str]:
    """Return for each the first of its names that no other one has; upper and lower case count as the same."""
    levels = [0] * len(candidates)
    while True:
        names = [choices[level] for choices, level in zip(candidates, levels, strict=True)]
        count = Counter(name.casefold() for name in names)
        clashing = [i for i, name in enumerate(names) if count[name.casefold()] > 1 and levels[i] < 2]
        if not clashing:
            return names
        for i in clashing:
            levels[i] += 1
