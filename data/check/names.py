"""Names of the files of a fixed copy: no two become one file, also where case or accents do not distinguish names."""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath

from data.reading.matching import normalise_unicode

MAX_LINES = 10  # on renamed files
REWRITTEN = (".png", ".tif")  # suffixes of files whose pixels are fixed, as these have integers or floats


@dataclass(frozen=True)
class Source:
    """A file that is copied, or rewritten for one triplet."""

    path: Path
    triplet: str = ""  # the id of the triplet for whose image the file is rewritten; "" if it is copied


@dataclass(frozen=True)
class CopyNames:
    """The names of a copy.

    Attributes:
        chosen: The path of each source in the copy; that of a rewritten one is without its suffix.
        renamed: The other source that has the name of a source which was given another.
    """

    chosen: dict[Source, PurePosixPath]
    renamed: dict[Source, Source]

    def describe_renamed(self) -> str:
        """Return a line for each source that has another name in the copy, for MAX_LINES of them at most."""
        lines = [
            f"\n  {source.path} is {self.chosen[source]} in the copy: {other.path} has its name"
            for source, other in list(self.renamed.items())[:MAX_LINES]
        ]
        more = len(self.renamed) - len(lines)
        return "".join(lines) + (f"\n  {more:,} more have another name, see manifest.csv" if more else "")


def choose_names(root: Path, sources: Iterable[Source]) -> CopyNames:
    """Choose the path of each source in a copy of `root`: its own below that folder, with a number if it is taken.

    Copied files choose before those that are rewritten.
    """
    names, taken = CopyNames({}, {}), dict[str, Source]()
    numbers: dict[str, count[int]] = defaultdict(lambda: count(2))
    for source in sorted(dict.fromkeys(sources), key=lambda source: source.triplet != ""):
        parts = Path(os.path.relpath(source.path, root)).parts
        own = PurePosixPath(*(part for part in parts if part != ".."))  # inside the copy
        name, suffixes = own.with_suffix(""), REWRITTEN if source.triplet else (own.suffix,)
        while clash := next((key for key in _list_keys(name, suffixes) if key in taken), ""):
            names.renamed.setdefault(source, taken[clash])
            name = own.with_name(f"{own.stem}_{next(numbers[clash])}")
        taken |= dict.fromkeys(_list_keys(name, suffixes), source)
        names.chosen[source] = name if source.triplet else name.with_name(name.name + own.suffix)
    return names


def _list_keys(name: PurePosixPath, suffixes: Iterable[str]) -> list[str]:
    """Return keys that are equal for names which some file system does not distinguish."""
    return [normalise_unicode(normalise_unicode(f"{name}{suffix}").casefold()) for suffix in suffixes]
