"""List the image files of a data set folder with their sizes and times."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from data.reading.matching import assign_roles, is_image_name


class Listing:
    """Image files of the sub-folders of `root`; each sub-folder is scanned once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, dict[str, tuple[int, int]]] = {}

    def files(self, folder: str) -> dict[str, tuple[int, int]]:
        """Return image name -> (bytes, mtime in ns) for a folder relative to the root; {} if there is none."""
        if folder not in self._folders:
            self._folders[folder] = dict(self._scan(self.root / folder))
        return self._folders[folder]

    def _scan(self, folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
        if not folder.is_dir():
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_image_name(entry.name) and entry.is_file():
                    stat = entry.stat()
                    yield entry.name, (stat.st_size, stat.st_mtime_ns)

    def stat(self, path: str) -> tuple[int, int] | None:
        """Return (bytes, mtime in ns) of an image relative to the root; None if there is no such image."""
        folder, _, name = path.rpartition("/")
        return self.files(folder).get(name)

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """Sub-folders by role, see `assign_roles`."""
        return assign_roles(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
