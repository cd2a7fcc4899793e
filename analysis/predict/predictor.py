"""Predict photos and write mask, depth, overlay and cut-out of each, in threads.

Threads read and write files while the network computes; only a few photos are in memory at once.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from analysis.predict.photos import (
    FloatMap,
    Photo,
    RGBImage,
    draw_contact_sheet,
    draw_sheet_row,
    read_photo,
    render_prediction,
)
from analysis.runs.files import write_file
from data.dataset import DataError
from data.runtime import cli
from data.runtime.process import count_cores
from data.runtime.progress import Progress, no_progress

if TYPE_CHECKING:
    from analysis.predict.model import Model

SHEET_ROWS = 40
MAX_THREADS = 8
MAX_NAME_BYTES = 220  # file systems allow 255 bytes, and suffixes are appended
FARTHEST_MM = 65535

T = TypeVar("T")
R = TypeVar("R")


ReadPhoto = tuple[Photo, RGBImage]


class PhotoPredictor:
    """Predict photos and write their output files; `done` and `skipped` count predicted photos and unreadable files."""

    def __init__(self, model: "Model", out: Path, *, metres: bool = False, progress: Progress = no_progress) -> None:
        self.model, self.out, self.metres, self.progress = model, out, metres, progress
        self.done = self.skipped = self._sheets = 0

    def write(self, photos: Sequence[Photo]) -> None:
        """Write the files of each photo, then contact sheets; raise AnalysisError if a file cannot be written."""
        threads = min(MAX_THREADS, count_cores())
        rows: list[np.ndarray] = []
        with ThreadPoolExecutor(threads) as pool:
            read = map_ahead(pool, _read, photos, most=threads + 1)
            predicted = self.model.predict_many(self._keep_readable(read))
            for row in map_ahead(pool, self._write_photo, predicted, most=threads + 1):
                self.done += 1
                self.progress(self.done + self.skipped, len(photos))
                rows = [*rows, row]
                if len(rows) == SHEET_ROWS:
                    self._write_sheet(rows)
                    rows = []
        if rows:
            self._write_sheet(rows)

    def _keep_readable(self, read: Iterable[ReadPhoto | DataError]) -> Iterator[ReadPhoto]:
        for one in read:
            if isinstance(one, DataError):
                self.skipped += 1
                print(cli.to_printable(f"skipped {one}"), file=sys.stderr)
            else:
                yield one

    def _write_photo(self, predicted: tuple[Photo, RGBImage, FloatMap, FloatMap]) -> np.ndarray:
        """Write the output files of a photo; return its row of the contact sheet."""
        photo, rgb, mask, depth = predicted
        image = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        if self.metres:
            distance = np.clip(self.model.metres(depth) * 1000, 0, FARTHEST_MM).round().astype(np.uint16)
            write_file(self.out / f"{photo.name}_depth_mm.png", encode(distance, ".png"))
        mask, depth = quantise(mask, np.uint8), quantise(depth, np.uint16)
        for suffix, rendered in render_prediction(image, mask, depth):
            write_file(self.out / f"{photo.name}_{suffix}", encode(rendered, Path(suffix).suffix))
        return draw_sheet_row(photo.name, image, mask, depth)

    def _write_sheet(self, rows: list[np.ndarray]) -> None:
        self._sheets += 1
        name = "contact_sheet.jpg" if self._sheets == 1 else f"contact_sheet_{self._sheets}.jpg"
        write_file(self.out / name, encode(draw_contact_sheet(rows), ".jpg"))


def _read(photo: Photo) -> ReadPhoto | DataError:
    """Return a photo with its pixels, or the reason why it cannot be used."""
    try:
        if len(os.fsencode(Path(photo.name).name)) > MAX_NAME_BYTES:
            raise DataError(f"{photo.path}: its name is too long for the names of its output files; rename it")
        return photo, read_photo(photo.path)
    except DataError as error:
        return error


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
