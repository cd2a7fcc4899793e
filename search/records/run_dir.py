"""The run folder: claimed before anything is written, so that no run overwrites another."""

import fcntl
from pathlib import Path
from typing import BinaryIO

RECORDS = "trials.jsonl"


class RunDirError(ValueError):
    """A run folder that cannot be used; the message says why and what to do."""


def check_free(out: Path) -> None:
    """Raise RunDirError if `out` exists and holds anything."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunDirError(f"--out {out} is in use; name a folder that does not exist yet")


def claim(out: Path) -> BinaryIO:
    """Make the run folder and hold it.

    Returns:
        What to keep as long as it is held.

    Raises:
        RunDirError: It holds something already, or cannot be made.
    """
    check_free(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirError(f"--out {out} cannot be made ({error.strerror}); name another folder") from error
    return hold(out)


def hold(out: Path) -> BinaryIO:
    """Keep other processes from writing into a run folder, until what is returned is closed or this process ends.

    Raises:
        RunDirError: Another process holds it, or it cannot be written to.
    """
    try:
        file = (out / RECORDS).open("ab")
    except OSError as error:
        raise RunDirError(f"{out} cannot be written to ({error.strerror}); name another folder") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise RunDirError(f"{out} is being written by another process; wait for it, or end it") from error
    return file


def is_claimed(out: Path) -> bool:
    """Return whether a run, this one or one before it, has made the folder its own."""
    return (out / RECORDS).exists()
