"""The folder in which a data set is being made: hidden beside the one it will be, kept where it was cut off.

Owns its name, its lock and the list of what is stored in it. Knows nothing of pictures.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.dataset import DataError

STORED = "stored.jsonl"  # a line a job: its number and the rows of the manifest
ORIGIN = "origin.txt"  # what all samples depend on

Row = dict[str, str]


class StagingDir:
    """A hidden folder beside `root`.

    Args:
        root: The folder that it will be.
        origin: All that its samples depend on, as text. A draft of equal origin that was cut off is taken up again.
            Without it nothing is kept, and two processes may make the same at the same time.

    Raises:
        DataError: It cannot be made, is being written by another process, or was cut off with another origin.
    """

    def __init__(self, root: Path, origin: str | None = None) -> None:
        self.root, self.resumable = root, origin is not None
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            self.folder = self._make()
            self._stored = (self.folder / STORED).open("a+b")
        except OSError as error:
            raise DataError(f"{root}: cannot be made ({error.strerror}); choose another folder") from error
        self._hold()
        if origin is not None:
            self._check(origin)
        _end_at_last_line(self.folder / STORED)

    def _make(self) -> Path:
        if not self.resumable:
            return Path(tempfile.mkdtemp(prefix=f".{self.root.name}.", suffix=".partial", dir=self.root.parent))
        folder = self.root.parent / f".{self.root.name}.partial"
        folder.mkdir(exist_ok=True)
        return folder

    def _hold(self) -> None:
        try:
            fcntl.flock(self._stored, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._stored.close()
            raise DataError(f"{self.folder}: another process is making this set; wait for it, or end it") from error

    def _check(self, origin: str) -> None:
        path = self.folder / ORIGIN
        if path.is_file() and path.read_text() != origin:
            self._stored.close()
            raise DataError(
                f"{self.folder}: holds the beginning of another set; give the options and sources it was begun with, "
                "or remove it"
            )
        path.write_text(origin)

    def store(self, job: int, rows: Iterable[Row]) -> None:
        """Note that the files of a job are written."""
        self._stored.write(json.dumps([job, list(rows)]).encode() + b"\n")
        self._stored.flush()

    def stored(self) -> Iterator[tuple[int, list[Row]]]:
        """Jobs and their rows, in the order in which they were stored."""
        with (self.folder / STORED).open() as lines:
            for line in lines:
                job, rows = json.loads(line)
                yield job, rows

    def complete_jobs(self) -> set[int]:
        """Jobs of which every file is there and holds something, as none may be after a power failure."""
        return {job for job, rows in self.stored() if all(map(self._whole, rows))}

    def _whole(self, row: Row) -> bool:
        paths = [self.folder / row[role] for role in ("image", "mask", "depth") if row.get(role)]
        return all(path.is_file() and path.stat().st_size > 0 for path in paths)

    def publish(self) -> None:
        """Give the folder its name.

        Raises:
            DataError: `root` came into use meanwhile.
        """
        self.folder.chmod(0o755)
        try:
            self.folder.rename(self.root)
        except OSError as error:
            raise DataError(f"{self.root}: came into use meanwhile; choose another folder") from error
        for name in (STORED, ORIGIN):
            (self.root / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the folder; what is not published stays only if it can be taken up again and holds anything."""
        empty = (self.folder / STORED).is_file() and not any(self.stored())
        if empty or not self.resumable:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._stored.close()


def _end_at_last_line(path: Path) -> None:
    """Cut off a line that was not written to its end."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(content.rfind(b"\n") + 1)
