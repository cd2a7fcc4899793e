"""Read and write the JSON and JSON-lines files of a run folder."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from data.runtime.files import sync, write_atomically
from search.records.run_dir import RunDirError

RESTORE = "restore it from a copy, or start a new run"


def append_line(path: Path, content: Mapping[str, Any], *, durable: bool = False) -> None:
    """Append one line of JSON; start a new line first if a crash left an incomplete one.

    With `durable` the file is on the disk before the function returns.
    """
    with path.open("ab+") as file:
        torn = file.tell() > 0 and _last_byte(file) != b"\n"
        file.write(b"\n" * torn + json.dumps(content).encode() + b"\n")
        if durable:
            sync(file)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write lines of JSON atomically and durably."""
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines), durable=True)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file if it exists; skip incomplete lines, which a crash may leave.

    Raises:
        RunDirError: The file cannot be read, or a line is not a JSON object.
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


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
