"""Find a user's photos in files and folders, name their outputs without collisions, and read them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from analysis.exceptions import AnalysisError

MAX_SIDE = 65_500  # px; the limit of JPEG
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


RGBImage = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Photo:
    """A user's photo.

    Attributes:
        path: The image file.
        name: Prefix of its output files relative to the output folder; it includes the folders that were searched.
    """

    path: Path
    name: str


class UnreadableError(ValueError):
    """The file is not a complete image; the message says why."""


def find_photos(places: Sequence[Path], out: Path) -> list[Photo]:
    """Find the photos in files and folders, each once.

    Folders are searched recursively for files with one of SUFFIXES, without hidden files and the output folder; a file
    that is named itself is accepted whatever its suffix.

    Raises:
        AnalysisError: A place does not exist or contains no images, or a photo lies in the output folder.
    """
    hidden = out.resolve()
    found = {path.resolve(): (path, base) for place in places for path, base in _in_place(place, hidden)}
    for path, (named, _) in found.items():
        if path.is_relative_to(hidden):
            raise AnalysisError(f"{named}: it lies in the output folder {out}; name another folder with --out")
    names = _names([_candidates(path, base) for path, base in found.values()])
    return [Photo(path, name) for (path, _), name in zip(found.values(), names, strict=True)]


def read_photo(path: Path) -> RGBImage:
    """Read a photo as RGB bytes, rotated by its EXIF orientation; transparency is ignored.

    Raises:
        UnreadableError: The file does not exist, or OpenCV cannot read it completely.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})") from error
    except cv2.error as error:
        raise UnreadableError("has more pixels than OpenCV reads") from error
    if image is None:
        raise UnreadableError("not a complete image")
    if max(image.shape) > MAX_SIDE:
        raise UnreadableError(f"has a side of more than {MAX_SIDE:,} px")
    return image


def _in_place(place: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each photo of a place with the folder that its name is relative to."""
    if not place.exists():
        raise AnalysisError(f"{place}: no such photo or folder")
    if not place.is_dir():
        yield place, place.parent
        return
    paths = sorted(_images_below(place, out))
    if not paths:
        raise AnalysisError(f"{place}: it contains no images ({' '.join(SUFFIXES)})")
    yield from ((path, place) for path in paths)


def _images_below(folder: Path, out: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        inside = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in inside if Path(where, name).resolve() != out]
        yield from (Path(where, name) for name in files if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _candidates(path: Path, base: Path) -> tuple[str, str, str]:
    """Return names of increasing length; the last, made from the whole path, is unique."""
    with_suffix = f"{path.stem}_{path.suffix[1:]}"
    whole = path.resolve().with_name(with_suffix)
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
