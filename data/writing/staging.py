"""Build a folder under a hidden name and publish it when it is complete; an interrupted build can be resumed."""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.dataset import DataError

STORED = "stored.jsonl"  # one line per job: its number and its rows of the manifest
ORIGIN = "origin.txt"  # everything that the samples depend on

Row = dict[str, str]


class StagingDir:
    """A hidden folder beside `root`, locked by this process.

    Args:
        root: The folder to publish.
        origin: Everything that the samples depend on, as text. An interrupted build of equal origin is resumed.
            Without it nothing is kept, and several processes may build the same folder at the same time.

    Raises:
        DataError: It cannot be made, is being written by another process, or was interrupted with another origin.
    """

    def __init__(self, root: Path, origin: str | None = None) -> None:
        self.root, self.resumable = root, origin is not None
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            self.folder = self._make()
            self._stored = (self.folder / STORED).open("a+b")
        except OSError as error:
            raise DataError(f"{root}: cannot be made ({error.strerror}); choose another folder") from error
        self._lock()
        if origin is not None:
            self._check(origin)
        _truncate_to_last_line(self.folder / STORED)

    def _make(self) -> Path:
        if not self.resumable:
            return Path(tempfile.mkdtemp(prefix=f".{self.root.name}.", suffix=".partial", dir=self.root.parent))
        folder = self.root.parent / f".{self.root.name}.partial"
        folder.mkdir(exist_ok=True)
        return folder

    def _lock(self) -> None:
        try:
            fcntl.flock(self._stored, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._stored.close()
            raise DataError(f"{self.folder}: another process is making this set; wait for it or end it") from error

    def _check(self, origin: str) -> None:
        path = self.folder / ORIGIN
        if path.is_file() and path.read_text() != origin:
            self._stored.close()
            raise DataError(
                f"{self.folder}: holds the beginning of another set; use the options and sources that it was started "
                "with, or remove it"
            )
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
        paths = [self.folder / row[role] for role in ("image", "mask", "depth") if row.get(role)]
        return all(path.is_file() and path.stat().st_size > 0 for path in paths)

    def publish(self) -> None:
        """Rename the folder to `root`.

        Raises:
            DataError: `root` has been created or filled meanwhile.
        """
        self.folder.chmod(0o755)
        try:
            self.folder.rename(self.root)
        except OSError as error:
            raise DataError(f"{self.root}: came into use meanwhile; choose another folder") from error
        for name in (STORED, ORIGIN):
            (self.root / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Release the folder; an unpublished one is kept only if it can be resumed and has recorded jobs."""
        empty = (self.folder / STORED).is_file() and not any(self.read_jobs())
        if empty or not self.resumable:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._stored.close()


def _truncate_to_last_line(path: Path) -> None:
    """Remove a line that was not written completely."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(content.rfind(b"\n") + 1)
