"""Run folders: claim and lock one, find the latest, and read and write their JSON and JSON-lines files."""

import argparse
import errno
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from data.runtime.cli import parse_path, to_printable
from data.runtime.files import find_cache_folder, sync, write_atomically
from data.runtime.storage import is_uri, parse_storage

RECORDS = "trials.jsonl"
COMMAND = Path(__file__).resolve().parents[1] / "run.py"
LATEST = "latest"
MAX_REMEMBERED = 100  # largest number of remembered run folders


class RunDirError(ValueError):
    """A run folder cannot be used; the message gives the reason and a remedy."""


def check_free(out: Path) -> None:
    """Raise RunDirError if `out` exists and is not an empty folder."""
    try:
        is_used = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise RunDirError(f"--out {out} cannot be read ({error.strerror}); name another folder") from error
    if is_used:
        raise RunDirError(f"--out {out} is in use; name a folder that does not exist yet")


def claim(out: Path) -> AbstractContextManager[object]:
    """Create and lock the run folder; raise RunDirError if it is not empty or cannot be created."""
    check_free(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirError(f"--out {out} cannot be created ({error.strerror}); name another folder") from error
    return hold(out)


def hold(out: Path) -> AbstractContextManager[object]:
    """Lock a run folder until the returned context or this process ends; raise RunDirError if another one holds it."""
    from filelock import FileLock, Timeout

    try:
        (out / RECORDS).touch()
        held = FileLock(out / ".lock", timeout=0).acquire()
    except Timeout as error:
        raise RunDirError(f"{out} is being written by another process; wait for it, or end it") from error
    except OSError as error:
        raise RunDirError(f"{out} cannot be written to ({error.strerror}); name another folder") from error
    _remember(out.absolute())
    return held


def find_run(name: str | Path, *, needs: str = "run.json") -> Path:
    """Return the run folder of that name; `latest` is the run that this user started or resumed last.

    If it lacks the file `needs`, the last run with it is returned, and named on stderr.
    """
    if str(name) != LATEST:
        return Path(name)
    if runs := list_runs():
        found = next((run for run in runs if (run / needs).is_file()), runs[0])
        if found != runs[0]:
            print(to_printable(f"{LATEST} is {found}; the run {runs[0]} has no {needs}"), file=sys.stderr)
        return found
    raise RunDirError(f"{LATEST}: no run is known yet; name a run folder, or start a run")


def list_runs() -> list[Path]:
    """Return the runs that this user has started or resumed, the latest first, then any other runs in runs/."""
    folders = [*map(Path, reversed(_read_remembered())), *sorted(Path("runs").absolute().glob("*"), reverse=True)]
    return [folder for folder in dict.fromkeys(folders) if os.access(folder / "run.json", os.R_OK)]


def parse_run(text: str) -> Path | str:
    """Return the absolute path of the run that --resume names, or the URI of its copy in a storage."""
    return parse_storage(text) if is_uri(text) else parse_path(str(parse_run_argument(text)))


def parse_run_argument(text: str, *, needs: str = "run.json") -> Path:
    """Return the run folder that an argument of a command line names; see `find_run`."""
    try:
        run = find_run(text, needs=needs)
        run.exists()  # raises OSError if the path cannot be looked up
        return run
    except (RunDirError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _read_remembered() -> list[str]:
    """Return the folders of runs in the order in which they were started or resumed."""
    with suppress(OSError, ValueError):
        return list(map(str, json.loads((find_cache_folder() / "runs.json").read_text(encoding="utf-8"))))
    return []


def _remember(out: Path) -> None:
    """Add a run to the list for `latest`; ignore a list that cannot be written."""
    others = [folder for folder in _read_remembered() if folder != str(out)]
    folders = [*others[1 - MAX_REMEMBERED :], str(out)]
    with suppress(OSError):
        find_cache_folder().mkdir(parents=True, exist_ok=True)
        write_atomically(find_cache_folder() / "runs.json", lambda file: file.write(json.dumps(folders).encode()))


def is_one_look() -> bool:
    """Return whether this process was started by the command `one-look`."""
    return Path(sys.argv[0]).stem == "one-look"


def format_resume_command(out: Path) -> str:
    """Return the command that resumes a run from any working directory."""
    search = ["one-look", "search"] if is_one_look() else ["python", str(COMMAND)]
    return shlex.join([*search, "--resume", str(out.absolute())])


def shorten(path: Path) -> Path:
    """Return a path relative to the working directory if it is below it, so that it fits a terminal's line."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def is_claimed(out: Path) -> bool:
    """Return whether a run has claimed the folder."""
    return (out / RECORDS).exists()


def is_running(process: int) -> bool:
    """Return whether this machine has a process with that id."""
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def describe_stop(out: Path) -> str:
    """Return the lines for a stopped run: its folder, and the commands that report and resume it."""
    if not is_claimed(out):
        return "stopped before the run began"
    report = f"report    {shlex.join(['one-look', 'report', str(shorten(out))])}"
    return f"stopped   all results so far are in {shorten(out)}\n{report}\nresume    {format_resume_command(out)}"


RESTORE = "restore it from a copy, or start a new run"


def append_line(path: Path, content: Mapping[str, Any], *, durable: bool = False) -> None:
    """Append one line of JSON; start a new line first if a crash left an incomplete one.

    With `durable` the file is on the disk before the function returns.
    """
    with path.open("ab+") as file:
        torn = False
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write(b"\n" * torn + json.dumps(content).encode() + b"\n")
        if durable:
            sync(file)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write lines of JSON atomically and durably."""
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines), durable=True)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file, if it exists, without the incomplete lines that a crash may leave.

    Raise RunDirError if the file cannot be read or a line is no object.
    """
    if not path.exists():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunDirError(f"{path}: cannot be read ({error}); {RESTORE}") from error
    for line in lines:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if not isinstance(content, dict):
            raise RunDirError(f"{path}: a line is not a JSON object; {RESTORE}")
        yield content


def require_fields(line: Mapping[str, Any], kinds: Mapping[str, Any], path: Path) -> None:
    """Raise RunDirError unless an object that was read from a file has fields of these types."""
    wrong = [name for name, kind in kinds.items() if not isinstance(line.get(name), kind)]
    if wrong:
        raise RunDirError(f"{path}: damaged or of another version ({', '.join(wrong)} missing); {RESTORE}")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON atomically and durably."""
    write_text(path, json.dumps(content, indent=2) + "\n", durable=True)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a UTF-8 text file atomically; see `write_atomically`."""
    write_atomically(path, lambda file: file.write(text.encode()), durable=durable)
