"""Read the JSON files of a run folder, and write output files atomically."""

import argparse
import json
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from data.runtime.files import write_atomically
from search.records import run_dir

WEIGHTS = "model.safetensors"
MODEL_FILES = ("run.json", "best", WEIGHTS)  # a folder with one of them is a run, or has a model
MODEL_ARGUMENT: dict[str, Any] = {
    "type": run_dir.run_path,
    "nargs": "?",
    "default": run_dir.LATEST,
    "metavar": "RUN_OR_MODEL",
    "help": "run folder, its best/ or a .safetensors file (default: %(default)s, the newest run)",
}


def default_to_latest(args: argparse.Namespace, others: str) -> None:
    """Let the model of a command line be the newest run, if the first argument names none but belongs to `others`.

    So `one-look predict a.jpg b.jpg` works like `one-look predict a.jpg`.
    """
    first: Path = args.model
    is_model = first.suffix == Path(WEIGHTS).suffix or any((first / name).exists() for name in MODEL_FILES)
    if first.exists() and not is_model:
        args.model = find_run(run_dir.LATEST)
        setattr(args, others, [first, *getattr(args, others)])


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


def find_run(name: str | Path) -> Path:
    """Return a run folder, for `latest` the user's newest; raise AnalysisError if there is none."""
    try:
        return run_dir.find_run(name)
    except run_dir.RunDirError as error:
        raise AnalysisError(str(error)) from error


def check_folder(out: Path) -> None:
    """Raise AnalysisError if `out` exists and is not a folder."""
    if out.exists() and not out.is_dir():
        raise AnalysisError(f"{out}: is a file; name a folder with --out")


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically and create its folder; raise AnalysisError if that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be written ({error.strerror}); name another folder with --out") from error
