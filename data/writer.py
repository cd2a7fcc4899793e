"""The one writer of data set folders, in the study's layout: built-in scenes and composites alike.

Owns names, formats, manifest.csv and dataset.json, and that a folder appears whole or not at all. Knows nothing of
what the pictures show.
"""

import csv
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import cv2
import numpy as np
from jaxtyping import UInt8

from data.dataset import DataError, DatasetSpec
from data.progress import Progress

COLUMNS = ("image", "mask", "depth", "background", "foreground", "split")
JPEG_QUALITY = {"image": 93, "mask": 95, "depth": 97}
PNG_EFFORT = 1  # of 9: a tenth larger files in a third of the time

Job = TypeVar("Job")


@dataclass(frozen=True)
class Sample:
    """One sample to write: RGB image, mask 0..255, depth 0..255 (relative inverse depth), and where they come from."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    depth: UInt8[np.ndarray, "h w"]
    background: str
    foreground: str
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class SampleFiles:
    """Where and how samples are stored; small, so that it travels to worker processes.

    Attributes:
        folder: Holds images/, masks/ and depth/.
        mask_suffix: `.jpg` or `.png`.
        depth_suffix: `.jpg`, or `.png` where single values mean something (missing).
    """

    folder: Path
    mask_suffix: str = ".jpg"
    depth_suffix: str = ".jpg"

    def write(self, number: int, sample: Sample) -> dict[str, str]:
        """Encode and store a sample.

        Args:
            number: Names the files; from 1.
            sample: What to store.

        Returns:
            Its row of manifest.csv.
        """
        names = {
            "image": f"images/fgbg{number:06d}.jpg",
            "mask": f"masks/mask{number:06d}{self.mask_suffix}",
            "depth": f"depth/fgbg{number:06d}{self.depth_suffix}",
        }
        pictures = {"image": cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR), "mask": sample.mask, "depth": sample.depth}
        for role, name in names.items():
            options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[role]]
            if name.endswith(".png"):
                options = [cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT]
            _, encoded = cv2.imencode(name[-4:], pictures[role], options)
            (self.folder / name).write_bytes(encoded.data)
        return names | {"background": sample.background, "foreground": sample.foreground, "split": sample.split}


class DatasetWriter:
    """Context that fills a hidden folder beside `root` and gives it its name when all went well.

    Args:
        root: Folder to make; it may exist if it is empty.
        spec: What dataset.json states.
        mask_suffix: Format of the masks.
        depth_suffix: Format of the depth maps.

    Raises:
        DataError: `root` is in use, is a file, or cannot be made.
    """

    def __init__(self, root: Path, spec: DatasetSpec, *, mask_suffix: str = ".jpg", depth_suffix: str = ".jpg") -> None:
        self.root, self.spec = Path(root), spec
        self._suffixes = {"mask_suffix": mask_suffix, "depth_suffix": depth_suffix}
        self._rows: list[dict[str, str]] = []
        check_free(self.root)

    def __enter__(self) -> "DatasetWriter":
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{self.root.name}.", suffix=".partial", dir=self.root.parent))
        except OSError as error:
            raise DataError(f"{self.root}: cannot be made ({error.strerror}); choose another folder") from error
        for role in ("images", "masks", "depth"):
            (folder / role).mkdir()
        self.files = SampleFiles(folder=folder, **self._suffixes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self.files.folder, ignore_errors=True)

    def add(self, rows: Iterable[dict[str, str]]) -> None:
        """Take over rows of samples that `files.write` has stored."""
        self._rows.extend(rows)

    def fill(
        self,
        draw: Callable[[Job], Iterable[tuple[int, Sample]]],
        jobs: Sequence[Job],
        *,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Draw and store the samples of all jobs, several jobs at a time.

        Args:
            draw: Yields numbered samples of a job; a function that can be pickled. What it draws must depend on the
                job alone.
            jobs: What to draw.
            workers: Processes; the number of cores if None. 1 works in this process.
            progress: Told after each job how many are done.
        """
        store = partial(_store, self.files, draw)
        for done, rows in enumerate(_in_parallel(store, jobs, workers or os.cpu_count() or 1), start=1):
            self.add(rows)
            if progress:
                progress(done, len(jobs))

    def _finish(self) -> None:
        folder = self.files.folder
        with (folder / "manifest.csv").open("w", newline="") as file:
            columns = COLUMNS if any(row["split"] for row in self._rows) else COLUMNS[:-1]
            table = csv.DictWriter(file, columns, extrasaction="ignore")
            table.writeheader()
            table.writerows(sorted(self._rows, key=lambda row: row["image"]))
        stated = {key: value for key, value in dataclasses.asdict(self.spec).items() if value is not None}
        (folder / "dataset.json").write_text(json.dumps(stated, indent=2) + "\n")
        folder.chmod(0o755)
        try:
            folder.rename(self.root)
        except OSError as error:
            raise DataError(f"{self.root}: came into use meanwhile; choose another folder") from error


def check_free(root: Path) -> None:
    """Refuse a folder that holds anything.

    Raises:
        DataError: `root` is a file or a folder that is not empty.
    """
    if root.is_file():
        raise DataError(f"{root}: is a file; choose another folder for --out")
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root}: folder is in use; choose another for --out or empty it")


def _store(files: SampleFiles, draw: Callable[[Job], Iterable[tuple[int, Sample]]], job: Job) -> list[dict[str, str]]:
    return [files.write(number, sample) for number, sample in draw(job)]


def _in_parallel(
    store: Callable[[Job], list[dict[str, str]]], jobs: Sequence[Job], workers: int
) -> Iterator[list[dict[str, str]]]:
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from map(store, jobs)
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        futures = [pool.submit(store, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
