"""List the image files of a data set folder with their sizes and times, and name the files that cannot be used."""

import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from data.dataset import DataError
from data.reading.matching import is_image_name

MAX_LEVELS = 3  # levels of sub-folders that are searched: JPEGImages/480p/bear, train/scene/rgb
MAX_FOLDERS = 20_000
MARKERS = ("manifest.csv", "dataset.json")  # a sub-folder with one of them is a data set of its own
_MAX_ENDINGS = 3


class Listing:
    """Image files of `root` and its sub-folders; each folder is scanned once.

    Attributes:
        data_sets: Sub-folders that are data sets of their own; they are not searched.
        denied: Sub-folder -> reason why it cannot be listed.
        endings: Folder -> how many files of which ending are no images.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data_sets: list[str] = []
        self.denied: dict[str, str] = {}
        self.endings: dict[str, Counter[str]] = {}
        self._files: dict[str, dict[str, tuple[int, int]]] = {}
        self._broken: dict[str, dict[str, str]] = {}
        self._composed: dict[str, dict[str, str]] = {}

    def files(self, folder: str) -> dict[str, tuple[int, int]]:
        """Return image name -> (bytes, mtime in ns) for a folder relative to the root; {} if there is none."""
        if folder not in self._files:
            self._files[folder], self._broken[folder] = {}, {}
            for entry in self._scan(folder):
                if is_image_name(entry.name):
                    self._stat(folder, entry)
        return self._files[folder]

    def broken(self, folder: str) -> dict[str, str]:
        """Return image name -> reason for the files of a folder that cannot be used whatever they hold."""
        self.files(folder)
        return self._broken[folder]

    def _stat(self, folder: str, entry: os.DirEntry[str]) -> None:
        try:
            entry.name.encode()
            stat = entry.stat()
            if entry.is_file():
                self._files[folder][entry.name] = (stat.st_size, stat.st_mtime_ns)
        except UnicodeEncodeError:
            self._broken[folder][printable(entry.name)] = "its name is not UTF-8"
        except OSError as error:
            link = "a link that leads nowhere" if entry.is_symlink() else "unreadable"
            self._broken[folder][entry.name] = f"{link} ({error.strerror})"

    def _scan(self, folder: str) -> Iterator[os.DirEntry[str]]:
        path = self.root / folder
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises on names that are too long
            return
        try:
            with os.scandir(path) as entries:
                yield from entries
        except OSError as error:
            if not folder:
                raise DataError(f"{path}: cannot be listed ({error.strerror}); allow reading it") from error
            self.denied[folder] = error.strerror or str(error)

    def stat(self, path: str) -> tuple[int, int] | None:
        """Return (bytes, mtime in ns) of an image relative to the root; None if there is no such image."""
        folder, _, name = path.rpartition("/")
        return self.files(folder).get(name)

    def find(self, path: str) -> str | None:
        """Return the path of an image as its files spell it: accents may be composed or not, slashes may lean back."""
        for spelling in (path, posixpath.normpath(path.replace("\\", "/"))):
            folder, _, name = spelling.rpartition("/")
            files = self.files(folder)
            if name in files:
                return spelling
            if folder not in self._composed:
                self._composed[folder] = {unicodedata.normalize("NFC", name): name for name in files}
            if found := self._composed[folder].get(unicodedata.normalize("NFC", name)):
                return f"{folder}/{found}" if folder else found
        return None

    def tree(self, *tops: str) -> dict[str, list[str]]:
        """Return the names of the image files of each folder that has some, at most MAX_LEVELS below `tops`."""
        found: dict[str, list[str]] = {}
        queue: list[tuple[str, int, tuple[str, ...]]] = [(top, 0, ()) for top in tops or ("",)]
        seen = 0
        while queue:
            folder, level, above = queue.pop(0)
            seen += 1
            if seen > MAX_FOLDERS:
                raise DataError(f"{self.root}: has more than {MAX_FOLDERS:,} folders; name the folder of the data set")
            names, folders = self._sort_entries(folder)
            if level and any((self.root / folder / marker).is_file() for marker in MARKERS) and not tops:
                self.data_sets.append(folder)
                continue
            if names:
                found[folder] = sorted(names)
            here = os.path.realpath(self.root / folder)
            if level < MAX_LEVELS and here not in above:  # a link to a folder above would be followed for ever
                inner = [f"{folder}/{name}" if folder else name for name in sorted(folders)]
                queue += [(name, level + 1, (*above, here)) for name in inner]
        return found

    def _sort_entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Return the names of image files and of sub-folders; count the endings of the other files."""
        names, folders = [], []
        endings: Counter[str] = Counter()
        for entry in self._scan(folder):
            try:
                is_dir = entry.is_dir()
            except OSError:  # a link to itself
                is_dir = False
            if is_dir:
                folders += [entry.name] if entry.name[0] != "." and printable(entry.name) == entry.name else []
            elif is_image_name(entry.name):
                names.append(entry.name)
            elif entry.name[0] != ".":
                endings[printable(entry.name).rpartition(".")[2].lower()] += 1
        self.endings[folder] = endings
        return names, folders

    @cached_property
    def folders(self) -> dict[str, list[str]]:
        """The tree of the root."""
        return self.tree()

    def describe_endings(self, folder: str) -> str:
        """Return how many files of a folder are no images by their endings; "" if there are none."""
        most = self.endings.get(folder, Counter()).most_common(_MAX_ENDINGS)
        return ", ".join(f"{count:,} .{ending}" for ending, count in most)


def printable(name: str) -> str:
    """Return a file name whose bytes that are not UTF-8 are replaced, so that it can be printed."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
