"""Find and read a user's photos, name their outputs without collisions, and draw predictions and contact sheets."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from analysis import AnalysisError
from data.dataset import DataError
from data.loading.visualize import apply_colormap
from data.reading.listing import is_system_name
from data.reading.matching import PHOTO_SUFFIXES, is_image_name
from data.reading.roles import find_role, group_folders
from data.values.decoding import decode_color, read_pixels
from data.values.orientation import apply_orientation
from models.config import TASKS

MAX_SIDE = 65_500  # px; the limit of JPEG
TINT = (230, 20, 255)  # BGR; magenta is rare in photos
TINT_SHARE = 0.4
CELL = (160, 120)  # width and height of a thumbnail
CAPTION_PX = 18
GAP = 4  # between thumbnails
ROWS_PER_LINE = 2  # number of photos side by side
COLUMNS = ("photo", "mask", "depth", "overlay")

RGBImage = UInt8[np.ndarray, "h w 3"]
FloatMap = Float32[np.ndarray, "h w"]
BGRImage = UInt8[np.ndarray, "h w 3"]
ByteMask = UInt8[np.ndarray, "h w"]
DepthCodes = UInt16[np.ndarray, "h w"]


@dataclass(frozen=True)
class Photo:
    """A photo file of the user."""

    path: Path
    name: str  # prefix of its output files relative to the output folder; it includes the folders that were searched


def find_photos(places: Sequence[Path], out: Path) -> list[Photo]:
    """Find the photos in files and folders, each once.

    Folders are searched recursively for files with one of PHOTO_SUFFIXES, except hidden files, the output folder, and
    the masks and depth maps of a data set folder; a file that is named directly may have any suffix.
    """
    hidden = out.resolve()
    found = {_resolve(path): (path, base) for place in places for path, base in _find_in(place, hidden)}
    for path, (named, _) in found.items():
        if path.is_relative_to(hidden):
            raise AnalysisError(f"{named}: lies in the output folder {out}; name another folder with --out")
    names = _choose_names([_list_candidates(path, base) for path, base in found.values()])
    return [Photo(path, name) for (path, _), name in zip(found.values(), names, strict=True)]


def read_photo(path: Path) -> RGBImage:
    """Read a photo as upright RGB bytes without its transparency; raise DataError if it cannot be read."""
    image = apply_orientation(*read_pixels(path, decode_color))
    if max(image.shape) > MAX_SIDE:
        raise DataError(f"{path}: has a side of more than {MAX_SIDE:,} px; shrink it")
    return image


def _find_in(place: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each photo of a place with the folder that its name is relative to."""
    if not os.path.lexists(place):  # Path.exists raises on names that are too long
        raise AnalysisError(f"{place}: no such photo or folder")
    if not place.is_dir():
        yield place, place.parent
        return
    paths = sorted(_walk_images(place, out))
    if not paths:
        raise AnalysisError(f"{place}: contains no images ({' '.join(sorted(PHOTO_SUFFIXES))})")
    truths = _list_truth_folders(place, {path.parent for path in paths})
    yield from ((path, place) for path in paths if path.parent not in truths)


def _list_truth_folders(place: Path, folders: Iterable[Path]) -> set[Path]:
    """Return the folders named as those of masks or depth maps, if another one is named as that of the images."""
    groups = group_folders({path.relative_to(place).as_posix(): () for path in folders}).complete
    named = [group.members for group in groups if find_role(group.members["image"][0])]
    return {place / members[task][0] for members in named for task in TASKS if task in members}


def _walk_images(folder: Path, out: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        inside = [name for name in folders if not is_system_name(name)]
        folders[:] = [name for name in inside if _resolve(Path(where, name)) != out]
        photos = (Path(where, name) for name in files if is_image_name(name, PHOTO_SUFFIXES))
        yield from (path for path in photos if not path.is_fifo())


def _resolve(path: Path) -> Path:
    """Return the real path; Path.resolve would raise on a link to itself."""
    return Path(os.path.realpath(path))


def _list_candidates(path: Path, base: Path) -> tuple[str, str, str]:
    """Return names of increasing length; the last one is made from the whole path and is unique."""
    with_suffix = f"{path.stem}_{path.suffix[1:]}"
    whole = _resolve(path).with_name(with_suffix)
    inside = path.relative_to(base)
    return inside.with_name(path.stem).as_posix(), inside.with_name(with_suffix).as_posix(), "/".join(whole.parts[1:])


def _choose_names(candidates: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the first unique name of each photo; upper and lower case count as equal."""
    names = [choices[0] for choices in candidates]
    for level in (1, 2, 2):  # a longer name may coincide with the name of another photo
        count = Counter(name.casefold() for name in names)
        pairs = zip(names, candidates, strict=True)
        names = [choices[level] if count[name.casefold()] > 1 else name for name, choices in pairs]
    return names


def colour_depth(depth: DepthCodes) -> BGRImage:
    """Render depth in colours, near = bright."""
    return apply_colormap((depth >> 8).astype(np.uint8))


def draw_overlay(image: BGRImage, mask: ByteMask) -> BGRImage:
    """Tint the foreground of an image in proportion to the mask, and outline where the mask exceeds one half."""
    tint = (np.array(TINT) * TINT_SHARE).astype(np.uint8)
    tinted = cv2.convertScaleAbs(image, alpha=1 - TINT_SHARE) + tint
    share = mask * np.float32(1 / 255)
    mixed = cv2.blendLinear(tinted, image, share, 1 - share)
    outlines, _ = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(min(mask.shape) / 200))
    return cv2.drawContours(mixed, outlines, -1, TINT, thickness, cv2.LINE_AA)


def render_prediction(image: BGRImage, mask: ByteMask, depth: DepthCodes) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each image of a prediction with the suffix of its file name, one at a time, because photos may be large.

    Images that are only for viewing are JPEGs: PNGs would take a third of the total time and space.
    """
    yield "mask.png", mask
    yield "depth.png", depth
    yield "depth_colour.jpg", colour_depth(depth)
    yield "overlay.jpg", draw_overlay(image, mask)
    yield "cutout.png", np.dstack([image, mask])


def draw_sheet_row(name: str, image: BGRImage, mask: ByteMask, depth: DepthCodes) -> BGRImage:
    """Draw thumbnails of image, mask, depth and overlay side by side under the photo's name."""
    scale = min(CELL[0] / mask.shape[1], CELL[1] / mask.shape[0])
    size = tuple(max(1, round(side * scale)) for side in mask.shape[::-1])
    image, mask, depth = (cv2.resize(v, size, interpolation=cv2.INTER_AREA) for v in (image, mask, depth))
    panels = (image, cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), colour_depth(depth), draw_overlay(image, mask))
    right, below = CELL[0] + GAP - size[0], CELL[1] + GAP - size[1]
    cells = [cv2.copyMakeBorder(panel, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(255,) * 3) for panel in panels]
    return np.vstack([_draw_caption(name), np.hstack(cells)])


def draw_contact_sheet(rows: Sequence[BGRImage]) -> BGRImage:
    """Arrange the rows on a sheet under the names of the columns."""
    header = np.hstack([_draw_caption(column, CELL[0] + GAP) for column in COLUMNS])
    blank = np.full_like(rows[0], 255)
    per_line = min(ROWS_PER_LINE, len(rows))
    filled = [*rows, *[blank] * (-len(rows) % per_line)]
    lines = [np.hstack(filled[i : i + per_line]) for i in range(0, len(filled), per_line)]
    return np.vstack([np.hstack([header] * per_line), *lines])


def _draw_caption(text: str, width: int = (CELL[0] + GAP) * len(COLUMNS)) -> BGRImage:
    strip = np.full((CAPTION_PX, width, 3), 255, np.uint8)
    fits = width // 7  # characters are seven pixels wide on average
    text = text.encode("ascii", "replace").decode()  # OpenCV draws ASCII only, and fails on some other characters
    shown = text if len(text) <= fits else ".." + text[2 - fits :]
    return cv2.putText(strip, shown, (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
