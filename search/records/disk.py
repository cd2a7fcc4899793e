"""Full disks: compare needed and free space, and name the folder that has no space left in one line."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data.runtime.files import find_cache_folder

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TEXTS = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter failed writing")
_NEARLY_FULL = 2**20  # bytes
RESERVE = ".reserve"  # file of the run folder, deleted to record the end of a run whose disk is full
RESERVE_BYTES = 128 * 1024


class DiskFullError(RuntimeError):
    """A disk has no space left; the message names the folder."""


def find_full_disk(error: BaseException, folder: Path) -> str:
    """Return a message that names the full disk if one caused the exception, directly or not, else ""."""
    causes = list(list_causes(error))
    named = next((str(cause) for cause in causes if isinstance(cause, DiskFullError)), "")
    return named or (describe_full(folder) if any(map(_is_full, causes)) else "")


def describe_full(folder: Path) -> str:
    """Return a message that names the fullest of the run folder, the cache and the temporary folder."""
    places = {"the run folder": folder, "the cache (ONE_LOOK_CACHE)": find_cache_folder()}
    places["the temporary folder"] = find_temporary_folder()
    free = {name: count_free_bytes(path) for name, path in places.items()}
    name = min(free, key=lambda name: free[name])
    return f"no space left in {name} {places[name]} ({format_bytes(free[name])} free)"


def mentions_full_disk(text: str, folder: Path) -> bool:
    """Return whether a worker's error text or the free space shows that a disk is full."""
    places = (folder, find_cache_folder(), find_temporary_folder())
    return any(part in text for part in _TEXTS) or min(map(count_free_bytes, places)) < _NEARLY_FULL


def find_temporary_folder() -> Path:
    """Return the folder for Ray's temporary files."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())


def count_free_bytes(path: Path) -> int:
    """Return the free space of the disk on which `path` is or will be."""
    return shutil.disk_usage(find_existing_folder(path)).free


def find_existing_folder(path: Path) -> Path:
    """Return the path, made absolute, or the first path above it that is a folder."""
    absolute = path.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.is_dir())


def format_bytes(number: float) -> str:
    """Format a number of bytes in MB or GB."""
    return f"{number / 1e6:,.0f} MB" if number < 1e9 else f"{number / 1e9:,.1f} GB"


def check_disk(planned: float, folder: Path) -> str:
    """Return a warning if the disk of the run folder or of the cache has less than the planned bytes, else ""."""
    short = [place for place in (folder, find_cache_folder()) if count_free_bytes(place) < planned]
    if not short:
        return ""
    free = format_bytes(count_free_bytes(short[0]))
    return f"warning: {short[0]} has {free} free, and the run may need {format_bytes(planned)}; free some or move it"


def list_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that caused it or were being handled when it was raised."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    return (isinstance(error, OSError) and error.errno in _FULL) or any(text in str(error) for text in _TEXTS)
