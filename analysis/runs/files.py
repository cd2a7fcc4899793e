"""Find runs and their weights, read the JSON files of a run folder, and write output files atomically."""

import json
import os
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from data.runtime.files import write_atomically
from search.records import run_dir

WEIGHTS = "model.safetensors"
RUN_WEIGHTS = f"best/{WEIGHTS}"  # in a run folder
MODELS = (WEIGHTS, RUN_WEIGHTS)  # weights in a model folder and in a run folder


def find_run(name: str | Path, *, needs: str = "run.json") -> Path:
    """Return a run folder; `latest` is the last run with the file `needs`. Raise AnalysisError if there is no run."""
    try:
        return run_dir.find_run(name, needs=needs)
    except run_dir.RunDirError as error:
        raise AnalysisError(str(error)) from error


def find_weights(path: Path) -> Path:
    """Return the weights file of a run folder, a model folder or a file; raise AnalysisError if there is none."""
    places = [path] if path.suffix == Path(WEIGHTS).suffix else [path / name for name in MODELS]
    if found := next((place for place in places if place.is_file()), None):
        return found
    if not path.exists():
        raise AnalysisError(f"{path}: no such file or folder; name a run folder, its best/ or a .safetensors file")
    if not is_run_or_model(path):
        raise AnalysisError(f"{path}: not a run folder or .safetensors file; it has neither best/ nor {WEIGHTS}")
    state = read_json(path / "run.json").get("state", "unknown")
    raise AnalysisError(f"{path}: this run has no model (its state is {state!r}); best/ appears when a run ends")


def is_run_or_model(path: Path) -> bool:
    """Return whether a path is a run folder, a model folder or a weights file."""
    return path.suffix == Path(WEIGHTS).suffix or any((path / name).is_file() for name in ("run.json", *MODELS))


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, {} if there is no such file; raise AnalysisError if the file is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: cannot be read ({error}); restore it from the run") from error
    if not isinstance(content, dict):
        raise AnalysisError(f"{path}: not a JSON object; restore it from the run")
    return content


def read_lines(path: Path) -> list[Any]:
    """Return the lines of a JSON-lines file, [] if there is no such file; a line that is being written is left out.

    Raise AnalysisError if a line is damaged.
    """
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: a line is damaged ({error}); restore the file from the run") from error


def check_file(out: Path | None) -> None:
    """Raise AnalysisError, before the work, if the file to write is a folder."""
    if out and os.access(out, os.F_OK) and out.is_dir():
        raise AnalysisError(f"{out}: is a folder; name a file")


def check_folder(out: Path) -> None:
    """Raise AnalysisError if `out` exists and is not a folder."""
    if os.access(out, os.F_OK) and not out.is_dir():
        raise AnalysisError(f"{out}: is a file; name a folder with --out")


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically and create its folder; raise AnalysisError if that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
