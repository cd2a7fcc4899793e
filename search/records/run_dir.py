"""Claim and lock a run folder, so that no run overwrites another."""

import shlex
from contextlib import AbstractContextManager
from pathlib import Path

RECORDS = "trials.jsonl"
COMMAND = Path(__file__).resolve().parents[1] / "run.py"


class RunDirError(ValueError):
    """A run folder cannot be used; the message gives the reason and a remedy."""


def check_free(out: Path) -> None:
    """Raise RunDirError if `out` exists and is not an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunDirError(f"--out {out} is in use; name a folder that does not exist yet")


def claim(out: Path) -> AbstractContextManager[object]:
    """Create and lock the run folder.

    Returns:
        The lock, as a context that releases it.

    Raises:
        RunDirError: The folder is not empty or cannot be created.
    """
    check_free(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirError(f"--out {out} cannot be created ({error.strerror}); name another folder") from error
    return hold(out)


def hold(out: Path) -> AbstractContextManager[object]:
    """Lock a run folder until the returned context or this process ends.

    Raises:
        RunDirError: Another process has locked the folder, or it is not writable.
    """
    from filelock import FileLock, Timeout

    try:
        (out / RECORDS).touch()
        return FileLock(out / ".lock", timeout=0).acquire()
    except Timeout as error:
        raise RunDirError(f"{out} is being written by another process; wait for it, or end it") from error
    except OSError as error:
        raise RunDirError(f"{out} cannot be written to ({error.strerror}); name another folder") from error


def resume_command(out: Path) -> str:
    """Return the command that resumes a run from any working directory."""
    return shlex.join(["python", str(COMMAND), "--resume", str(out.absolute())])


def is_claimed(out: Path) -> bool:
    """Return whether a run has claimed the folder."""
    return (out / RECORDS).exists()
