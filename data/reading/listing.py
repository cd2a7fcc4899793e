"""List the image files of a data set folder with their sizes, and name the files that cannot be used."""

import os
import posixpath
import stat
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from data.dataset import DataError
from data.reading.matching import is_image_name, normalise_unicode

MAX_LEVELS = 3  # levels of sub-folders that are searched: JPEGImages/480p/bear, train/scene/rgb
MAX_FOLDERS = 20_000
MARKERS = ("manifest.csv", "dataset.json")  # a sub-folder with one of these files is a separate data set
SYSTEM_NAMES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_MAX_ENDINGS = 3


@dataclass(frozen=True)
class _Entries:
    """Names in a folder: image files, sub-folders, and how many other files have which ending."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)

    def add(self, entry: os.DirEntry[str]) -> None:
        try:
            is_dir = entry.is_dir()
        except OSError:  # a link to itself
            is_dir = False
        if is_dir:
            known = make_printable(entry.name) == entry.name and not is_system_name(entry.name)
            self.folders.extend([entry.name] if known else [])
        elif is_image_name(entry.name):
            self.images.append(entry.name)
        elif not is_system_name(entry.name):
            self.endings[make_printable(entry.name).rpartition(".")[2].lower()] += 1


class Listing:
    """Image files of `root` and its sub-folders; each folder is scanned once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data_sets: list[str] = []  # sub-folders that are separate data sets; they are not searched
        self.denied: dict[str, str] = {}  # sub-folder -> reason why it cannot be listed
        self.too_deep = ""  # a folder whose sub-folders are not searched
        self._entries: dict[str, _Entries] = {}
        self._files: dict[str, dict[str, int]] = {}
        self._broken: dict[str, dict[str, str]] = {}
        self._composed: dict[str, dict[str, str]] = {}

    def files(self, folder: str) -> dict[str, int]:
        """Return image name -> bytes for a folder relative to the root; {} if there is none."""
        if folder not in self._files:
            self._files[folder], self._broken[folder] = {}, {}
            for name in self._scan(folder).images:
                self._stat(folder, name)
        return self._files[folder]

    def broken(self, folder: str) -> dict[str, str]:
        """Return image name -> reason for the files of a folder that cannot be used whatever their content."""
        self.files(folder)
        return self._broken[folder]

    def _stat(self, folder: str, name: str) -> None:
        path = os.path.join(self.root, folder, name)  # noqa: PTH118 - a Path per file takes longer than all else
        try:
            name.encode()
            found = os.stat(path)  # noqa: PTH116
            if stat.S_ISREG(found.st_mode):
                self._files[folder][name] = found.st_size
        except UnicodeEncodeError:
            self._broken[folder][make_printable(name)] = "its name is not UTF-8"
        except OSError as error:
            link = "a link that leads nowhere" if os.path.islink(path) else "unreadable"  # noqa: PTH114
            self._broken[folder][name] = f"{link} ({error.strerror})"

    def _scan(self, folder: str) -> _Entries:
        if folder not in self._entries:
            self._entries[folder] = found = _Entries()
            path = self.root / folder
            try:
                if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises on names that are too long
                    with os.scandir(path) as entries:
                        for entry in entries:
                            found.add(entry)
            except OSError as error:
                if not folder:
                    raise DataError(f"{path}: cannot be listed ({error.strerror}); allow reading it") from error
                self.denied[folder] = error.strerror or str(error)
        return self._entries[folder]

    def size(self, path: str) -> int | None:
        """Return the bytes of an image relative to the root; None if there is no such image."""
        folder, _, name = path.rpartition("/")
        return self.files(folder).get(name)

    def find(self, path: str) -> str | None:
        """Return the path of an image in one spelling: accents may be composed or not, and backslashes are accepted."""
        for spelling in map(posixpath.normpath, (path, path.replace("\\", "/"))):
            folder, _, name = spelling.rpartition("/")
            files = self.files(folder)
            if name in files:
                return spelling
            if folder not in self._composed:
                self._composed[folder] = {normalise_unicode(name): name for name in files}
            if found := self._composed[folder].get(normalise_unicode(name)):
                return posixpath.join(folder, found)
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
            entries = self._scan(folder)
            if level and any((self.root / folder / marker).is_file() for marker in MARKERS) and not tops:
                self.data_sets.append(folder)
                continue
            if entries.images:
                found[folder] = sorted(entries.images)
            self.too_deep = self.too_deep or (folder if level == MAX_LEVELS and entries.folders else "")
            here = os.path.realpath(self.root / folder)
            if level < MAX_LEVELS and here not in above:  # following a link to a folder above would never end
                inner = sorted(entries.folders)
                queue += [(posixpath.join(folder, name), level + 1, (*above, here)) for name in inner]
        return found

    @property
    def scanned(self) -> list[str]:
        """The folders that were looked at."""
        return list(self._entries)

    @cached_property
    def folders(self) -> dict[str, list[str]]:
        """The tree of the root."""
        return self.tree()

    def describe_endings(self, folder: str) -> str:
        """Return how many files of a folder are no images by their endings; "" if there are none."""
        most = self._scan(folder).endings.most_common(_MAX_ENDINGS)
        return ", ".join(f"{count:,} .{ending}" for ending, count in most)


def is_system_name(name: str) -> bool:
    """Return True for hidden files and for files that file managers and network drives leave in folders."""
    return name[0] in ".@$" or name in SYSTEM_NAMES


def make_printable(name: str) -> str:
    """Return a file name whose bytes that are not UTF-8 are replaced, so that it can be printed."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
