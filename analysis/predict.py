"""Predict foreground and depth of photos with a trained model, and write the images to a folder.

    one-look predict [RUN] PHOTO_OR_FOLDER ... [--out DIR]

Threads read and write files while the network computes; only a few photos are in memory at once.
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

from analysis import AnalysisError
from analysis.photos import (
    Photo,
    draw_contact_sheet,
    draw_sheet_row,
    find_photos,
    read_photo,
    render_prediction,
)
from analysis.runs.files import MODEL_ARGUMENT, check_folder, default_to_latest, write_file
from data.dataset import DataError
from data.reading.matching import PHOTO_SUFFIXES
from data.runtime import cli
from data.runtime.cores import count_cores
from data.runtime.progress import Progress, no_progress, progress_bar
from search.config.plugins import add_plugin_option

if TYPE_CHECKING:
    from analysis.model import Model

BATCH = 16
BATCH_PIXELS = 2**24  # pixels of all photos of a batch; large photos make small batches
SHEET_ROWS = 40
MAX_THREADS = 8
MAX_NAME_BYTES = 220  # file systems allow 255; the suffixes need some
FARTHEST_MM = 65535
EPILOG = f"""\
For each photo, at its own size, in the folder --out:
  NAME_mask.png          8 bits, white = foreground
  NAME_depth.png         16 bits, relative inverse depth, 0 = far to 65535 = near
  NAME_depth_colour.jpg  the same in colours, near = bright
  NAME_overlay.jpg       the photo with its foreground tinted and outlined
  NAME_cutout.png        the foreground, transparent elsewhere
  NAME_depth_mm.png      with --metres: 16 bits, millimetres from the camera, 65535 = {FARTHEST_MM / 1000} m or more
and contact_sheet.jpg with {SHEET_ROWS} photos (further sheets: contact_sheet_2.jpg, ...).

Folders are searched recursively for files that end in {" ".join(sorted(PHOTO_SUFFIXES))};
NAME keeps the folders in which a photo was found. If two photos would get the same NAME, their suffixes are added, then
the whole path. Files of an earlier call are replaced.

Exit code: 0 photos were predicted (unreadable files are named and skipped), 1 no photo could be predicted,
2 wrong arguments.
"""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _ReadPhoto:
    """A photo with its pixels and the network's square input."""

    photo: Photo
    rgb: np.ndarray
    square: np.ndarray


ReadResult = _ReadPhoto | DataError


class PhotoPredictor:
    """Predict photos and write their output files; `done` and `skipped` count the photos and the unreadable files."""

    def __init__(self, model: "Model", out: Path, *, metres: bool = False, progress: Progress = no_progress) -> None:
        self.model, self.out, self.metres, self.progress = model, out, metres, progress
        self.done = self.skipped = self._sheets = 0

    def write(self, photos: Sequence[Photo]) -> None:
        """Write the files of each photo, then contact sheets; raise AnalysisError if a file cannot be written."""
        threads = min(MAX_THREADS, count_cores())
        rows: list[np.ndarray] = []
        with ThreadPoolExecutor(threads) as pool:
            read = map_ahead(pool, self._read, photos, most=threads + 1)
            for row in map_ahead(pool, self._write_photo, self._predict(read), most=threads + 1):
                self.done += 1
                self.progress(self.done + self.skipped, len(photos))
                rows = [*rows, row]
                if len(rows) == SHEET_ROWS:
                    self._write_sheet(rows)
                    rows = []
        if rows:
            self._write_sheet(rows)

    def _read(self, photo: Photo) -> ReadResult:
        try:
            if len(os.fsencode(Path(photo.name).name)) > MAX_NAME_BYTES:
                raise DataError(f"{photo.path}: its name is too long for the names of its output files; rename it")
            rgb = read_photo(photo.path)
        except DataError as error:
            return error
        return _ReadPhoto(photo, rgb, self.model.to_square(rgb))

    def _predict(self, read: Iterable[ReadResult]) -> Iterator[tuple[_ReadPhoto, np.ndarray]]:
        """Yield each photo with mask and depth of the network's size."""
        for batch in _batch_photos(self._keep_readable(read)):
            yield from zip(batch, self.model.predict_squares(np.stack([one.square for one in batch])), strict=True)

    def _keep_readable(self, read: Iterable[ReadResult]) -> Iterator[_ReadPhoto]:
        for one in read:
            if isinstance(one, _ReadPhoto):
                yield one
            else:
                self.skipped += 1
                print(cli.to_printable(f"skipped {one}"), file=sys.stderr)

    def _write_photo(self, predicted: tuple[_ReadPhoto, np.ndarray]) -> np.ndarray:
        """Write the output files of a photo; return its row of the contact sheet."""
        from analysis.model import resize_map

        read, maps = predicted
        image = cv2.cvtColor(read.rgb, cv2.COLOR_RGB2BGR)
        mask, depth = (resize_map(values, image.shape[:2]) for values in maps)
        if self.metres:
            distance = np.clip(self.model.metres(depth) * 1000, 0, FARTHEST_MM).round().astype(np.uint16)
            write_file(self.out / f"{read.photo.name}_depth_mm.png", encode(distance, ".png"))
        mask, depth = quantise(mask, np.uint8), quantise(depth, np.uint16)
        for suffix, rendered in render_prediction(image, mask, depth):
            write_file(self.out / f"{read.photo.name}_{suffix}", encode(rendered, Path(suffix).suffix))
        return draw_sheet_row(read.photo.name, image, mask, depth)

    def _write_sheet(self, rows: list[np.ndarray]) -> None:
        self._sheets += 1
        name = "contact_sheet.jpg" if self._sheets == 1 else f"contact_sheet_{self._sheets}.jpg"
        write_file(self.out / name, encode(draw_contact_sheet(rows), ".jpg"))


def quantise(values: np.ndarray, kind: type[np.unsignedinteger]) -> np.ndarray:
    """Scale values in [0, 1] to integers over the whole range of `kind`."""
    return np.rint(values * np.float32(np.iinfo(kind).max)).astype(kind)


def encode(image: np.ndarray, suffix: str) -> bytes:
    """Encode an image in the format of a file suffix."""
    return cv2.imencode(suffix, image)[1].tobytes()


def map_ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], *, most: int) -> Iterator[R]:
    """Yield `work(item)` in order, with at most `most` items in progress in threads."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batch_photos(photos: Iterable[_ReadPhoto]) -> Iterator[list[_ReadPhoto]]:
    batch: list[_ReadPhoto] = []
    for one in photos:
        batch.append(one)
        if len(batch) == BATCH or sum(held.rgb.size for held in batch) >= 3 * BATCH_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    p = cli.Parser("one-look predict", "Predict foreground and depth of photos with a trained model.", EPILOG)
    p.add_argument("model", **MODEL_ARGUMENT)
    add_plugin_option(p)
    p.add_argument("photos", type=Path, nargs="+", metavar="PHOTO_OR_FOLDER", help="photos, folders of photos")
    p.add_argument("--out", type=Path, default=Path("predictions"), help="folder to write to (default: %(default)s)")
    p.add_argument("--metres", action="store_true", help="write distances too; needs a model trained on metric depth")
    p.add_argument("--device", help="torch device, such as cpu or cuda:1; default: a GPU if there is one")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _predict(args), AnalysisError)


def _predict(args: argparse.Namespace) -> int:
    """Find the photos, load the model, predict, and print a summary."""
    check_folder(args.out)
    default_to_latest(args, "photos")
    photos = find_photos(args.photos, args.out)
    with progress_bar("loading the model"):
        from analysis.model import load_model

        model = load_model(args.model, device=args.device)
    for task, share in (("mask", model.stats.mask_known), ("depth", model.stats.depth_known)):
        if not share:
            print(f"note: this model was trained without any {task}; its {task} is meaningless", file=sys.stderr)
    if args.metres:
        model.metres(np.zeros((1, 1), np.float32))  # raises before the work if depth is relative
    begin = time.perf_counter()
    with progress_bar("photos") as progress:
        predictor = PhotoPredictor(model, args.out, metres=args.metres, progress=progress)
        predictor.write(photos)
    rate = predictor.done / (time.perf_counter() - begin)
    skipped = f", {cli.format_count(predictor.skipped, 'file')} skipped" if predictor.skipped else ""
    done = cli.format_count(predictor.done, "photo")
    print(f"{done} in {args.out}{skipped} ({rate:.1f} per second, without loading the model)")
    print(cli.to_printable(model.origin))
    return 0 if predictor.done else 1


if __name__ == "__main__":
    sys.exit(main())
