"""Write output files atomically."""

from pathlib import Path

from analysis.exceptions import AnalysisError
from data.runtime.files import write_atomically


def check_folder(out: Path) -> None:
    """Raise AnalysisError if `out` exists and is not a folder."""
    if out.exists() and not out.is_dir():
        raise AnalysisError(f"{out}: is a file; name a folder with --out")


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically, create its folder, and replace an earlier file.

    Raises:
        AnalysisError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be written ({error.strerror}); name another folder with --out") from error
