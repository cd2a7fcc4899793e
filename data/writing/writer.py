"""The one writer of data set folders, in the study's layout: built-in scenes and composites alike.

Owns names, formats, manifest.csv and dataset.json, and that a folder appears whole or not at all. Knows nothing of
what the pictures show.
"""

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import cv2
import numpy as np
from jaxtyping import UInt8

from data.dataset import DataError, DatasetSpec
from data.runtime.parallel import Workers, parallel_map
from data.runtime.progress import Progress
from data.writing.staging import Row, StagingDir

COLUMNS = ("image", "mask", "depth", "background", "foreground", "split")
JPEG_QUALITY = {"image": 93, "mask": 95, "depth": 97}
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
BLOCK = 4096  # bytes; a file takes whole ones
SPARE = 1.05  # of the disk that is estimated

Job = TypeVar("Job")


@dataclass(frozen=True)
class Sample:
    """One sample to write: RGB image, mask 0..255, depth 0..255 (relative inverse) if any, and where they come from."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    depth: UInt8[np.ndarray, "h w"] | None
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

    def write(self, number: int, sample: Sample) -> Row:
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
            "depth": f"depth/fgbg{number:06d}{self.depth_suffix}" if sample.depth is not None else "",
        }
        for role, encoded in self.encode(sample).items():
            (self.folder / names[role]).write_bytes(encoded.data)
        return names | {"background": sample.background, "foreground": sample.foreground, "split": sample.split}

    def encode(self, sample: Sample) -> dict[str, UInt8[np.ndarray, " n"]]:
        """Bytes of the files of a sample, by role."""
        pictures = {"image": cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR), "mask": sample.mask, "depth": sample.depth}
        suffixes = {"image": ".jpg", "mask": self.mask_suffix, "depth": self.depth_suffix}
        return {
            role: cv2.imencode(suffixes[role], picture, _options(role, suffixes[role]))[1]
            for role, picture in pictures.items()
            if picture is not None
        }

    def disk_bytes(self, sample: Sample) -> int:
        """Disk space that a sample takes."""
        return sum(-(-len(encoded) // BLOCK) * BLOCK for encoded in self.encode(sample).values())


def _options(role: str, suffix: str) -> list[int]:
    return PNG_OPTIONS if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[role]]


class DatasetWriter:
    """Context that fills a hidden folder beside `root` and gives it its name when all went well.

    Args:
        root: Folder to make; it may exist if it is empty.
        spec: What dataset.json states.
        mask_suffix: Format of the masks.
        depth_suffix: Format of the depth maps.
        origin: All that the samples depend on, as text; then what was cut off is kept, and taken up by a writer of the
            same origin. Without it nothing is left of what was cut off.

    Raises:
        DataError: `root` is in use, is a file, or cannot be made; or is being made by another process or from another
            origin.
    """

    def __init__(
        self,
        root: Path,
        spec: DatasetSpec,
        *,
        mask_suffix: str = ".jpg",
        depth_suffix: str = ".jpg",
        origin: str | None = None,
    ) -> None:
        self.root, self.spec, self._origin = Path(root), spec, origin
        self._suffixes = {"mask_suffix": mask_suffix, "depth_suffix": depth_suffix}
        check_free(self.root)

    def __enter__(self) -> "DatasetWriter":
        self._draft = StagingDir(self.root, self._origin)
        self.files = SampleFiles(folder=self._draft.folder, **self._suffixes)
        for role in ("images", "masks", "depth"):
            (self.files.folder / role).mkdir(exist_ok=True)
        self._stored = self._draft.complete_jobs()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._draft.close()

    @property
    def stored_jobs(self) -> int:
        """Jobs that were stored before; `fill` leaves them out."""
        return len(self._stored)

    def add(self, rows: Iterable[Row], job: int = -1) -> None:
        """Take over rows of samples that `files.write` has stored, of a job if they are one's."""
        self._draft.store(job, rows)

    def fill(
        self,
        draw: Callable[[Job], Iterable[tuple[int, Sample]]],
        jobs: Sequence[Job],
        *,
        workers: Workers = None,
        progress: Progress | None = None,
    ) -> None:
        """Draw and store the samples of all jobs that are not stored yet, several jobs at a time.

        Args:
            draw: Yields numbered samples of a job; a function that can be pickled. What it draws must depend on the
                job alone.
            jobs: What to draw.
            workers: Who does it.
            progress: Told after each job how many are done.
        """
        left = [(index, job) for index, job in enumerate(jobs) if index not in self._stored]
        begun = len(jobs) - len(left)
        if progress and begun:
            progress(begun, len(jobs))
        results = parallel_map(partial(_store, self.files, draw), left, workers, folder=self.files.folder)
        for done, ((index, _), rows) in enumerate(results, start=begun + 1):
            self.add(rows, index)
            if progress:
                progress(done, len(jobs))

    def _finish(self) -> None:
        folder = self.files.folder
        rows = {row["image"]: row for _, stored in self._draft.stored() for row in stored}
        with (folder / "manifest.csv").open("w", newline="") as file:
            columns = [name for name in COLUMNS if name != "split" or any(row["split"] for row in rows.values())]
            table = csv.DictWriter(file, columns, extrasaction="ignore")
            table.writeheader()
            table.writerows(rows[image] for image in sorted(rows))
        if not any(row["depth"] for row in rows.values()):
            (folder / "depth").rmdir()
        stated = {key: value for key, value in dataclasses.asdict(self.spec).items() if value is not None}
        (folder / "dataset.json").write_text(json.dumps(stated, indent=2) + "\n")
        self._draft.publish()


def check_free(root: Path) -> None:
    """Refuse a folder that holds anything.

    Raises:
        DataError: `root` is a file or a folder that is not empty.
    """
    if root.is_file():
        raise DataError(f"{root}: is a file; choose another folder for --out")
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root}: folder is in use; choose another for --out or empty it")


def check_room(root: Path, needed: float) -> None:
    """Refuse what does not fit on the disk.

    Args:
        root: Folder to make.
        needed: Bytes that it will take.

    Raises:
        DataError: There is less space than that.
    """
    there = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if needed * SPARE > free:
        raise DataError(
            f"{root}: about {needed / 1e9:,.2f} GB are needed, {free / 1e9:,.2f} GB are free; make fewer or smaller "
            "pictures, or choose another --out"
        )


def _store(files: SampleFiles, draw: Callable[[Job], Iterable[tuple[int, Sample]]], job: tuple[int, Job]) -> list[Row]:
    return [files.write(number, sample) for number, sample in draw(job[1])]
