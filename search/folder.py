"""The run folder: claimed before anything is written, so that no run overwrites another."""

from pathlib import Path


class FolderError(ValueError):
    """A run folder that cannot be used; the message says why and what to do."""


def check_free(out: Path) -> None:
    """Raise FolderError if `out` exists and holds anything."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FolderError(f"--out {out} is in use; name a folder that does not exist yet")


def claim(out: Path) -> None:
    """Make the run folder.

    Raises:
        FolderError: It holds something already, or cannot be made.
    """
    check_free(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"--out {out} cannot be made ({error.strerror}); name another folder") from error
