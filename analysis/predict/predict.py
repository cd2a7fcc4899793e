"""Foreground and depth of photos, by a trained model: pictures beside each other in a folder.

    python -m analysis.predict RUN PHOTO_OR_FOLDER ... [--out DIR]

Files are read and written in threads while the network works; only a few photos are in memory at once.
"""

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from analysis.exceptions import AnalysisError
from analysis.predict.images import contact_sheet, pictures, sheet_row
from analysis.predict.photos import ENDINGS, Photo, UnreadableError, find_photos, read_photo
from analysis.runs.files import check_folder, write_file
from data.runtime.cli import run
from data.runtime.progress import Progress, progress_bar

if TYPE_CHECKING:
    from analysis.model import Model

BATCH = 16
BATCH_PIXELS = 2**24  # of the photos of a batch; large ones make small batches
SHEET_ROWS = 40
MOST_THREADS = 8
MOST_NAME_BYTES = 220  # file systems take 255, of which endings need some
FARTHEST_MM = 65535
EPILOG = f"""\
For each photo, at its own size, in the folder --out:
  NAME_mask.png          8 bits, white = foreground
  NAME_depth.png         16 bits, relative inverse depth, 0 = far to 65535 = near
  NAME_depth_colour.jpg  the same in colours, near = bright
  NAME_overlay.jpg       the photo with the foreground tinted and outlined
  NAME_cutout.png        the foreground, transparent elsewhere
  NAME_depth_mm.png      with --metres: 16 bits, millimetres from the camera, 65535 = {FARTHEST_MM / 1000} m or more
and contact_sheet.jpg with {SHEET_ROWS} photos (further ones: contact_sheet_2.jpg, ...).

Folders are searched with all below them for {" ".join(ENDINGS)}; NAME keeps the folders in which a photo was found.
Where two photos would get the same NAME, their endings are added, then the whole path. Files of an earlier call are
replaced.

Exit code: 0 photos were predicted (files that are no pictures are named and skipped), 1 none could be predicted,
2 wrong arguments.
"""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Seen:
    """A photo that was read, and the square that the network is shown."""

    photo: Photo
    rgb: np.ndarray
    square: np.ndarray


class Predictions:
    """Photos in, files out.

    Attributes:
        done: How many photos were predicted.
        skipped: How many could not be read.

    Args:
        model: Which predicts.
        out: Where to.
        metres: Whether distances are written too.
        progress: Told (photos done, photos in all).
    """

    def __init__(self, model: "Model", out: Path, *, metres: bool = False, progress: Progress | None = None) -> None:
        self.model, self.out, self.metres, self.progress = model, out, metres, progress
        self.done = self.skipped = self._sheets = 0

    def write(self, photos: Sequence[Photo]) -> None:
        """Predict photos and write the files of each, then their contact sheets.

        Raises:
            AnalysisError: A file cannot be written.
        """
        threads = min(MOST_THREADS, _cores())
        rows: list[np.ndarray] = []
        with ThreadPoolExecutor(threads) as pool:
            seen = ahead(pool, self._see, photos, most=threads + 1)
            for row in ahead(pool, self._write_one, self._predicted(seen), most=threads + 1):
                self.done += 1
                self._tell(len(photos))
                rows = [*rows, row]
                if len(rows) == SHEET_ROWS:
                    self._write_sheet(rows)
                    rows = []
        if rows:
            self._write_sheet(rows)

    def _see(self, photo: Photo) -> _Seen | tuple[Photo, UnreadableError]:
        try:
            if len(os.fsencode(Path(photo.name).name)) > MOST_NAME_BYTES:
                raise UnreadableError("its name is too long for the files that are named after it")
            rgb = read_photo(photo.path)
        except UnreadableError as error:
            return photo, error
        return _Seen(photo, rgb, self.model.to_square(rgb))

    def _predicted(self, seen: Iterable[_Seen | tuple[Photo, UnreadableError]]) -> Iterator[tuple[_Seen, np.ndarray]]:
        """Yield each photo with mask and depth at the network's size."""
        for batch in _batches(self._readable(seen)):
            yield from zip(batch, self.model.predict_squares(np.stack([one.square for one in batch])), strict=True)

    def _readable(self, seen: Iterable[_Seen | tuple[Photo, UnreadableError]]) -> Iterator[_Seen]:
        for one in seen:
            if isinstance(one, _Seen):
                yield one
            else:
                self.skipped += 1
                print(f"skipped {one[0].path}: {one[1]}", file=sys.stderr)

    def _write_one(self, predicted: tuple[_Seen, np.ndarray]) -> np.ndarray:
        """Write the pictures of a photo; return its row of the contact sheet."""
        from analysis.model import resize_map

        seen, maps = predicted
        photo = cv2.cvtColor(seen.rgb, cv2.COLOR_RGB2BGR)
        mask, depth = (resize_map(values, photo.shape[:2]) for values in maps)
        if self.metres:
            distance = np.clip(self.model.metres(depth) * 1000, 0, FARTHEST_MM).round().astype(np.uint16)
            write_file(self.out / f"{seen.photo.name}_depth_mm.png", encoded(distance, ".png"))
        mask, depth = codes(mask, np.uint8), codes(depth, np.uint16)
        for ending, picture in pictures(photo, mask, depth):
            write_file(self.out / f"{seen.photo.name}_{ending}", encoded(picture, Path(ending).suffix))
        return sheet_row(seen.photo.name, photo, mask, depth)

    def _write_sheet(self, rows: list[np.ndarray]) -> None:
        self._sheets += 1
        name = "contact_sheet.jpg" if self._sheets == 1 else f"contact_sheet_{self._sheets}.jpg"
        write_file(self.out / name, encoded(contact_sheet(rows), ".jpg"))

    def _tell(self, total: int) -> None:
        if self.progress:
            self.progress(self.done + self.skipped, total)


def codes(values: np.ndarray, kind: type[np.unsignedinteger]) -> np.ndarray:
    """Return values of [0, 1] as whole numbers over the whole range of `kind`."""
    return np.rint(values * np.float32(np.iinfo(kind).max)).astype(kind)


def encoded(picture: np.ndarray, suffix: str) -> bytes:
    """Return the content of a picture file."""
    return cv2.imencode(suffix, picture)[1].tobytes()


def ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], *, most: int) -> Iterator[R]:
    """Yield `work(item)` in order, with up to `most` items under way in threads."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batches(seen: Iterable[_Seen]) -> Iterator[list[_Seen]]:
    batch: list[_Seen] = []
    for one in seen:
        batch.append(one)
        if len(batch) == BATCH or sum(held.rgb.size for held in batch) >= 3 * BATCH_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(
        prog="python -m analysis.predict",
        description="Predict foreground and depth of photos with a trained model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", type=Path, metavar="RUN_OR_MODEL", help="run folder, its best/ or a .safetensors file")
    p.add_argument("photos", type=Path, nargs="+", metavar="PHOTO_OR_FOLDER", help="photos, folders of photos")
    p.add_argument("--out", type=Path, default=Path("predictions"), help="folder to write to (default: %(default)s)")
    p.add_argument("--metres", action="store_true", help="write distances too, where the model's data were metric")
    p.add_argument("--device", help="torch device, such as cpu or cuda:1; by default a GPU where there is one")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = parser().parse_args(arguments)
    return run(lambda: _predict(args), AnalysisError)


def _predict(args: argparse.Namespace) -> int:
    """Find the photos, load the model, predict, and say where things are."""
    check_folder(args.out)
    photos = find_photos(args.photos, args.out)
    from analysis.model import load_model

    model = load_model(args.model, device=args.device)
    for task, share in (("mask", model.stats.mask_known), ("depth", model.stats.depth_known)):
        if not share:
            print(f"note: no {task} was known in this model's training; its {task} means nothing", file=sys.stderr)
    if args.metres:
        model.metres(np.zeros((1, 1), np.float32))  # complains before the work
    begin = time.perf_counter()
    with progress_bar("photos") as progress:
        predictions = Predictions(model, args.out, metres=args.metres, progress=progress)
        predictions.write(photos)
    rate = predictions.done / (time.perf_counter() - begin)
    skipped = f", {_counted(predictions.skipped, 'file')} skipped" if predictions.skipped else ""
    done = _counted(predictions.done, "photo")
    print(f"{done} in {args.out}{skipped} ({rate:.1f} a second; loading the model not counted)")
    return 0 if predictions.done else 1


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
