"""Copy a run folder to an object storage during the run, and fetch the copy to resume on another machine.

Checkpoints are not copied, because workers write them directly to the storage.
"""

import json
import platform
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data.runtime.cli import parse_path, to_printable
from data.runtime.storage import Place, is_uri, join, name_storage, open_place, split
from search.records.run_dir import RunDirError, is_claimed, is_running

Action = Callable[[], None]

CHECKPOINTS = "ray"  # folder of a run
SYNC_S = 10.0  # seconds between two copies
LOST_S = 60.0  # seconds without a new copy after which the process that wrote it counts as lost
# Each of these files refers to trials or epochs in the next one. They are read in this order and written in reverse, so
# that the copy never refers to missing entries, even if the machine is lost in between.
ORDERED = ("run.json", "trials.jsonl", "reports.jsonl")


def claim_storage(storage: str, out: Path) -> str:
    """Return the URI of the copy of a new run; raise RunDirError or StorageError if there can be none."""
    uri, mark = join(storage, out.name), _name_mark()
    with name_storage(storage):
        place = open_place(storage)
        _check_apart(uri, out)
        if place.has(f"{out.name}/run.json"):
            raise RunDirError(f"{uri} is in use; name another folder with --out")
        place.write(mark, b"")
        place.delete(mark)
    return uri


def _check_apart(uri: str, folder: Path) -> None:
    """Raise RunDirError if a run folder would be copied to itself, which loses lines written during the copy."""
    place = open_place(uri)
    if place.filesystem.type_name == "local" and Path(place.path).resolve() == folder.resolve():
        raise RunDirError(f"{uri} is also the run folder {folder}; use another --out or working directory")


@contextmanager
def mirror_run(folder: Path, uri: str | None) -> Iterator[Callable[[Action], None]]:
    """Copy a run to a storage, if one is named, until it ends.

    Yields a function that takes deletions of checkpoints and calls them once the records that no longer need the
    checkpoints are copied; without a storage, at once.
    """
    if uri is None:
        yield lambda action: action()
        return
    with RunMirror(folder, uri) as mirror:
        yield mirror.defer


class RunMirror:
    """Copies the changed files of a run folder to a storage, from a thread, every SYNC_S and at most half of the time.

    The last copy is made in the thread too: a signal would interrupt the main thread and leave an incomplete file.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self._place, self._own = open_place(uri), open_place(folder)
        self._stored: dict[str, tuple[int, int]] = {}  # size and time of each file when it was copied
        self._owner: dict[str, Any] | None = None  # this process, once it has copied run.json
        self._waiting: deque[Action] = deque()
        self._failing = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> "RunMirror":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def defer(self, action: Action) -> None:
        """Call `action`, which deletes checkpoints, once the records that no longer need them have been copied."""
        self._waiting.append(action)

    def sync(self) -> None:
        """Copy changed files, and delete those that are gone; raise RunDirError if another process copies the run."""
        if not is_claimed(self.folder):
            return
        if self._owner and (other := _get_owner(self._place.read("run.json"))) != self._owner:
            raise RunDirError(f"{self.uri}: {_describe(other)} continues this run, so this process no longer copies it")
        ready = len(self._waiting)
        found = {name: state for name, state in self._own.list_files().items() if _is_record(name)}
        ordered = self._read_ordered(found)
        for name, state in found.items():
            if name not in ordered and self._stored.get(name) != state:
                with suppress(FileNotFoundError):  # deleted since
                    self._place.upload(self.folder / name, name)
        for name, content in reversed(ordered.items()):
            self._place.write(name, content)
        self._owner = _get_owner(ordered["run.json"]) if "run.json" in ordered else self._owner
        for name in self._stored.keys() - found.keys():
            self._place.delete(name)
        self._stored = found
        for _ in range(ready):
            self._waiting.popleft()()

    def _read_ordered(self, found: dict[str, tuple[int, int]]) -> dict[str, bytes]:
        """Return the ORDERED files that have changed, and update their sizes and times in `found`."""
        contents = {}
        for name in filter(found.__contains__, ORDERED):  # a file is checked after those that refer to it are read
            stat = (self.folder / name).stat()
            found[name] = stat.st_size, stat.st_mtime_ns
            if self._stored.get(name) != found[name]:
                contents[name] = self._own.read(name)
        return contents

    def _repeat(self) -> None:
        pause_s = SYNC_S
        while not self._ended.wait(pause_s):
            began = time.monotonic()
            self._try_sync("tries again")
            pause_s = max(SYNC_S, time.monotonic() - began)
        self._try_sync("continue with the run folder, which is complete")

    def _try_sync(self, what_now: str) -> None:
        try:
            with name_storage(self.uri):
                self.sync()
            self._failing = False
        except Exception as error:  # later copies must still be tried
            if self._ended.is_set() or not self._failing:  # a failure of the last copy is always reported
                print(to_printable(f"warning: {error}; {what_now}"), file=sys.stderr)
            self._failing = True


def _is_record(name: str) -> bool:
    """Return whether a file of a run folder is copied; names with a leading dot are locks and half-written files."""
    return not name.startswith(f"{CHECKPOINTS}/") and not any(part.startswith(".") for part in name.split("/"))


def fetch_run(location: Path | str) -> tuple[Path, str | None]:
    """Return the folder of a run and the URI of its copy, if it has one; update the folder if the copy is newer.

    `location` is the folder, or the URI. Raise RunDirError if there is no run, another process continues it, or the
    folder contains another run.
    """
    folder = parse_path("runs") / split(str(location))[1] if is_uri(location) else Path(location)
    here = _parse((folder / "run.json").read_bytes()) if (folder / "run.json").is_file() else {}
    uri = str(location) if is_uri(location) else here.get("options", {}).get("storage")
    if uri is None:
        return folder, None
    with name_storage(uri):
        place = open_place(uri)
        _check_apart(uri, folder)
        content = place.read("run.json") if place.has("run.json") else b""
        there = _parse(content)
        if is_uri(location) and not there:
            raise RunDirError(f"--resume {uri}: there is no run.json of a run; name the folder of a run")
        if here and there and _get_first_process(here) != _get_first_process(there):
            other = f"{folder} contains another run; resume from another working directory"
            raise RunDirError(f"--resume {uri}: {other}")
        _check_inactive(place, uri, there)
        if there.get("wall_s", 0.0) > here.get("wall_s", -1.0):
            place.download(
                {name: None for name in place.list_files() if _is_record(name) and name != "run.json"}, folder
            )
            open_place(folder).write("run.json", content)  # last, so that an interrupted download is repeated
    return folder, uri


def _check_inactive(place: Place, uri: str, there: dict[str, Any]) -> None:
    """Raise RunDirError if the process that wrote the copy may still run: it is recent by the clock of the storage."""
    ended = there.get("host") == platform.node() and not is_running(there["pid"])
    if there.get("state") != "running" or ended:
        return
    place.write(mark := _name_mark(), b"")
    copied, now = place.filesystem.get_file_info([f"{place.path}/{name}" for name in ("run.json", mark)])
    place.delete(mark)
    age_s = (now.mtime_ns - copied.mtime_ns) / 1e9
    if age_s < LOST_S:
        seen = f"{_describe(there)} copied this run {age_s:.0f} s ago"
        raise RunDirError(f"--resume {uri}: {seen}; end it, or try again in {LOST_S - age_s:.0f} s")


def _name_mark() -> str:
    """Return a unique file name."""
    return f".one-look-{uuid.uuid4().hex}"


def _parse(content: bytes) -> dict[str, Any]:
    """Return the content of a run.json, {} if it is damaged."""
    with suppress(ValueError, TypeError):
        return dict(json.loads(content))
    return {}


def _get_owner(content: bytes) -> dict[str, Any]:
    """Return the fields of a run.json that identify the process that wrote it."""
    return {name: value for name, value in _parse(content).items() if name in ("host", "pid", "time")}


def _describe(process: dict[str, Any]) -> str:
    return f"process {process.get('pid', '?')} of {process.get('host', 'another machine')}"


def _get_first_process(content: dict[str, Any]) -> tuple[Any, Any]:
    """Return time and command of the process that began a run, which identify the run."""
    first = [*content.get("earlier", []), content][0]
    return first.get("time"), first.get("command")
