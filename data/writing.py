"""Write data set folders in the study's layout, in a hidden staging folder until they are complete."""

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import cv2
import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import UInt8

from data.dataset import ROLES, DataError, DatasetSpec
from data.runtime.files import explain_write_errors
from data.runtime.parallel import Workers, parallel_map
from data.runtime.progress import Progress, no_progress

STORED = "stored.jsonl"  # one line per job: its number and its rows of the manifest
ORIGIN = "origin.txt"  # everything that the samples depend on
LOCK = ".lock"

Row = dict[str, str]


class StagingDir:
    """A hidden folder beside `root`, locked by this process.

    The `origin` is a text with everything that the samples depend on: an interrupted build of equal origin is resumed.
    Without an origin, nothing is kept, and several processes may build the same folder at the same time.
    """

    def __init__(self, root: Path, origin: str | None = None) -> None:
        self.root, self.resumable = root.resolve() if root.is_symlink() else root, origin is not None
        parent, name = self.root.parent, f".{self.root.name}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            if self.resumable:
                self.folder = parent / f"{name}.partial"
                self.folder.mkdir(exist_ok=True)
            else:
                self.folder = Path(tempfile.mkdtemp(prefix=f"{name}.", suffix=".partial", dir=parent))
            self._lock = FileLock(self.folder / LOCK, timeout=0)
            self._lock.acquire()
            self._stored = (self.folder / STORED).open("a+b")
        except Timeout as error:
            raise DataError(f"{self.folder}: another process is making this set; wait for it or end it") from error
        except OSError as error:
            raise DataError(f"{root}: cannot be made ({error.strerror}); choose another folder") from error
        if origin is not None:
            self._check(origin)
        self._stored.seek(0)
        self._stored.truncate(self._stored.read().rfind(b"\n") + 1)  # drops a line that was not written completely

    def _check(self, origin: str) -> None:
        path = self.folder / ORIGIN
        if path.is_file() and path.read_text() != origin:
            self._stored.close()
            self._lock.release()
            remedy = "use the options and sources that it was started with, or remove the folder"
            raise DataError(f"{self.folder}: holds the beginning of another set; {remedy}")
        path.write_text(origin)

    def record_job(self, job: int, rows: Iterable[Row]) -> None:
        """Record that the files of a job are written."""
        self._stored.write(json.dumps([job, list(rows)]).encode() + b"\n")
        self._stored.flush()

    def read_jobs(self) -> Iterator[tuple[int, list[Row]]]:
        """Yield recorded jobs and their rows, in the order in which they were recorded."""
        with (self.folder / STORED).open() as lines:
            for line in lines:
                job, rows = json.loads(line)
                yield job, rows

    def complete_jobs(self) -> set[int]:
        """Return the jobs whose files all exist and are not empty, as they may be after a power failure."""
        return {job for job, rows in self.read_jobs() if all(map(self._is_complete, rows))}

    def _is_complete(self, row: Row) -> bool:
        paths = [self.folder / row[role] for role in ROLES if row.get(role)]
        return all(path.is_file() and path.stat().st_size > 0 for path in paths)

    def publish(self) -> None:
        """Rename the folder to `root`; raise DataError if `root` is no longer absent or empty."""
        self.folder.chmod(0o755)
        try:
            self.folder.rename(self.root)
        except OSError as error:
            raise DataError(f"{self.root}: the folder is no longer empty; choose another one") from error
        for name in (STORED, ORIGIN, LOCK):
            (self.root / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Release the folder; an unpublished folder is kept only if it can be resumed and has recorded jobs."""
        empty = (self.folder / STORED).is_file() and not any(self.read_jobs())
        if empty or not self.resumable:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._stored.close()
        self._lock.release()


COLUMNS = ("image", "mask", "depth", "background", "foreground", "split", "kind")
JPEG_QUALITY = {"image": 93, "mask": 95, "depth": 97}
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
BLOCK = 4096  # bytes; a file occupies whole blocks
SPARE = 1.05  # factor on the estimated disk space

Job = TypeVar("Job")


@dataclass(frozen=True)
class Sample:
    """One sample to write: RGB image, mask 0..255, relative inverse depth 0..255 if any, and its sources."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    depth: UInt8[np.ndarray, "h w"] | None
    background: str
    foreground: str
    split: str = ""
    kind: str = ""  # name of the foreground, where each one is drawn anew


@dataclass(frozen=True)
class SampleFiles:
    """Folder and formats of samples; small, because it is sent to worker processes."""

    folder: Path
    label_suffix: str = ".jpg"  # of masks and depth; ".png" if exact values matter, as for depth with a missing value

    def store(self, draw: Callable[[Job], Iterable[tuple[int, Sample]]], job: tuple[int, Job]) -> list[Row]:
        """Draw and store the samples of a numbered job, and return their rows of manifest.csv."""
        return [self.write(number, sample) for number, sample in draw(job[1])]

    def write(self, number: int, sample: Sample) -> Row:
        """Encode and store a sample under a number from 1, and return its row of manifest.csv."""
        names = {
            "image": f"images/fgbg{number:06d}.jpg",
            "mask": f"masks/mask{number:06d}{self.label_suffix}",
            "depth": f"depth/fgbg{number:06d}{self.label_suffix}" if sample.depth is not None else "",
        }
        for role, encoded in self.encode(sample).items():
            (self.folder / names[role]).write_bytes(encoded.data)
        groups = {"background": sample.background, "foreground": sample.foreground}
        return names | groups | {"split": sample.split, "kind": sample.kind}

    def encode(self, sample: Sample) -> dict[str, UInt8[np.ndarray, " n"]]:
        """Return the bytes of a sample's files, by role."""
        found = {"image": _encode(cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR), ".jpg", "image")}
        for role, array in (("mask", sample.mask), ("depth", sample.depth)):
            if array is not None:
                found[role] = _encode(array, self.label_suffix, role)
        return found

    def compute_disk_bytes(self, sample: Sample) -> int:
        """Return the disk space that a sample occupies."""
        return sum(-(-len(encoded) // BLOCK) * BLOCK for encoded in self.encode(sample).values())


def _encode(array: np.ndarray, suffix: str, role: str) -> UInt8[np.ndarray, " n"]:
    options = PNG_OPTIONS if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[role]]
    return cv2.imencode(suffix, array, options)[1]


class DatasetWriter:
    """Context that fills a `StagingDir` and renames it to `root`, which is absent or empty, on success."""

    def __init__(self, root: Path, spec: DatasetSpec, *, label_suffix: str = ".jpg", origin: str | None = None) -> None:
        self.root, self.spec, self._origin, self._label_suffix = Path(root), spec, origin, label_suffix
        check_free(self.root)

    def __enter__(self) -> "DatasetWriter":
        self._staging = StagingDir(self.root, self._origin)
        self.files = SampleFiles(self._staging.folder, self._label_suffix)
        for role in ("images", "masks", "depth"):
            (self.files.folder / role).mkdir(exist_ok=True)
        self.stored = self._staging.complete_jobs()  # by an interrupted process; `fill` skips them
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with explain_write_errors(self.root, "free some space or choose another --out"):
                if isinstance(value, OSError):
                    raise value
                if kind is None:
                    self._finish()
        finally:
            self._staging.close()

    def fill(
        self,
        draw: Callable[[Job], Iterable[tuple[int, Sample]]],
        jobs: Sequence[Job],
        *,
        workers: Workers = None,
        progress: Progress = no_progress,
    ) -> None:
        """Draw and store the samples of all jobs that are not stored yet; `draw` depends on the job alone."""
        pending = [(index, job) for index, job in enumerate(jobs) if index not in self.stored]
        before = len(jobs) - len(pending)
        if before:
            progress(before, len(jobs))
        results = parallel_map(partial(self.files.store, draw), pending, workers, folder=self.files.folder)
        for done, ((index, _), rows) in enumerate(results, start=before + 1):
            self._staging.record_job(index, rows)
            progress(done, len(jobs))

    def _finish(self) -> None:
        folder = self.files.folder
        rows = {row["image"]: row for _, job_rows in self._staging.read_jobs() for row in job_rows}
        absent = {"split", "kind"} - {name for row in rows.values() for name in row if row[name]}
        columns = [name for name in COLUMNS if name not in absent]
        write_table(folder / "manifest.csv", columns, (rows[image] for image in sorted(rows)))
        if not any(row["depth"] for row in rows.values()):
            (folder / "depth").rmdir()
        (folder / "dataset.json").write_text(json.dumps(self.spec.to_dict(), indent=2) + "\n")
        self._staging.publish()


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write the named columns of rows, which may have more columns, as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        table.writeheader()
        table.writerows(rows)


def check_free(root: Path) -> None:
    """Raise DataError if `root` is a file, or a folder that is not empty or cannot be replaced."""
    if root.is_file():
        raise DataError(f"{root}: is a file; choose another folder for --out")
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root}: folder is in use; choose another for --out or empty it")
    if root.is_mount():
        raise DataError(f"{root}: is a mount point; name a new folder in it, such as {root / 'set'}")


def check_room(root: Path, needed: float) -> None:
    """Raise DataError if a folder of `needed` bytes does not fit on the disk."""
    existing = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if needed * SPARE > free:
        problem = f"about {needed / 1e9:,.2f} GB are needed, {free / 1e9:,.2f} GB are free"
        raise DataError(f"{root}: {problem}; make fewer or smaller images, or choose another --out")
