"""Folders of an object storage or of this machine, read and written alike through pyarrow's file systems.

A URI names a folder: s3://bucket/prefix, gs://bucket/prefix or file:///folder, with pyarrow's options after a question
mark (`?endpoint_override=localhost:9000&scheme=http`). Credentials come from the environment and are never part of a
URI.
"""

import argparse
import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from data.runtime.cli import first_line, parse_path
from data.runtime.files import find_cache_folder, write_atomically
from data.runtime.progress import Progress, no_progress

SCHEMES = ("s3", "gs", "file")
BLOCK_BYTES = 1 << 23
TRANSFERS = 16  # files that are downloaded at the same time
OUTAGE_S = (2.0, 5.0, 10.0, 20.0)  # seconds between attempts to use a storage, in addition to the retries of its client

Result = TypeVar("Result")


class StorageError(ConnectionError):
    """A storage cannot be used; the message names it and gives the reason."""


def parse_storage(text: str) -> str:
    """Return a URI unchanged; raise ArgumentTypeError if the text is not a URI or contains a password."""
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES or not is_uri(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or file:///FOLDER")
    if parts.password:
        raise argparse.ArgumentTypeError(
            f"{parts.scheme}://…@{parts.hostname}: leave out user and password, which run.json would show; set the "
            "variables of the cloud's own tools, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return text


def parse_location(text: str) -> Path | str:
    """Return a URI unchanged, and the path of a folder as an absolute path."""
    return parse_storage(text) if is_uri(text) else parse_path(text)


def is_uri(location: object) -> bool:
    """Return whether a location is a URI and not a path of this machine."""
    return isinstance(location, str) and "://" in location


def join(uri: str, *names: str) -> str:
    """Return the URI of an entry of a folder."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *map(quote, names)])))


def split(uri: str) -> tuple[str, str]:
    """Return the URI of the parent folder, and the name of the entry."""
    parts = urlsplit(uri)
    above, _, name = parts.path.rstrip("/").rpartition("/")
    return urlunsplit(parts._replace(path=above)), unquote(name)


@dataclass(frozen=True)
class Place:
    """A folder of a file system, which may not exist yet."""

    filesystem: Any  # pyarrow.fs.FileSystem
    path: str

    def list_entries(self) -> list[Any]:
        """Return pyarrow's description of everything below this folder."""
        from pyarrow.fs import FileSelector

        entries: list[Any] = self.filesystem.get_file_info(
            FileSelector(self.path, recursive=True, allow_not_found=True)
        )
        return entries

    def list_files(self) -> dict[str, tuple[int, int]]:
        """Return size and time of every file below this folder, by its path from here."""
        entries = [entry for entry in self.list_entries() if entry.is_file]
        return {entry.path.removeprefix(self.path).lstrip("/"): (entry.size, entry.mtime_ns) for entry in entries}

    def list_sizes(self, names: Sequence[str]) -> list[int | None]:
        """Return the size of each file, None if the file does not exist."""
        return [entry.size for entry in self.filesystem.get_file_info([f"{self.path}/{name}" for name in names])]

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        return bool(self.filesystem.get_file_info(f"{self.path}/{name}").is_file)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file as a whole."""
        self.copy(io.BytesIO(content), name)

    def upload(self, file: Path, name: str) -> None:
        """Write a file as a whole from a file of this machine."""
        with file.open("rb") as source:
            self.copy(source, name)

    def copy(self, source: Any, name: str) -> None:
        """Write a file from a stream: an object store shows only complete objects; a local file is renamed."""
        path = f"{self.path}/{name}"
        if self.filesystem.type_name == "local":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(Path(path), lambda file: shutil.copyfileobj(source, file, BLOCK_BYTES))
            return
        with self.filesystem.open_output_stream(path) as stream:
            shutil.copyfileobj(source, stream, BLOCK_BYTES)

    def download(
        self, files: Mapping[str, tuple[int, int] | None], folder: Path, progress: Progress = no_progress
    ) -> None:
        """Write files to a folder of this machine, with the given sizes and times."""

        def fetch(name: str, expected: tuple[int, int] | None) -> None:
            if ".." in PurePosixPath(name).parts:
                raise StorageError(f"{self.path}/{name}: its name leads out of the folder; rename it")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
                write_atomically(path, lambda file: shutil.copyfileobj(stream, file, BLOCK_BYTES))
            if expected and path.stat().st_size != expected[0]:
                path.unlink()
                raise StorageError(f"{self.path}/{name}: arrived incomplete; try again")
            if expected:
                os.utime(path, ns=(expected[1], expected[1]))

        with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="download") as pool:
            for done, _ in enumerate(pool.map(fetch, files.keys(), files.values()), start=1):
                progress(done, len(files))

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        if self.has(name):
            self.filesystem.delete_file(f"{self.path}/{name}")


def open_place(location: str | Path) -> Place:
    """Return the folder at a URI or a path; raise StorageError if its storage is not known here."""
    from pyarrow.fs import FileSystem, LocalFileSystem

    if not is_uri(location):
        return Place(LocalFileSystem(), str(Path(location).resolve()))
    with name_storage(str(location)):
        filesystem, path = FileSystem.from_uri(str(location))
    return Place(filesystem, path.rstrip("/"))


@contextmanager
def name_storage(uri: str) -> Iterator[None]:
    """Turn an error of a storage into a StorageError that names it."""
    from pyarrow import ArrowException

    try:
        yield
    except StorageError:
        raise
    except (OSError, ArrowException) as error:
        raise StorageError(f"{uri} cannot be used: {first_line(error)}; check its name and your credentials") from error


def call_with_retries(uri: str, function: Callable[[], Result]) -> Result:
    """Call a function that uses a storage; repeat it after each wait of OUTAGE_S, then raise StorageError."""
    for wait_s in OUTAGE_S:
        with suppress(OSError):
            return function()
        time.sleep(wait_s)
    with name_storage(uri):
        return function()


def fetch_folder(uri: str, progress: Progress = no_progress) -> Path:
    """Return a copy of a folder in the cache, whose files have the sizes and times of those in the storage."""
    from filelock import FileLock

    folder = (
        find_cache_folder() / "downloads" / hashlib.blake2b(uri.encode(), digest_size=6).hexdigest() / split(uri)[1]
    )
    folder.mkdir(parents=True, exist_ok=True)
    with name_storage(uri), FileLock(folder.with_name(".lock")):
        place = open_place(uri)
        files, own = place.list_files(), open_place(folder).list_files()
        if not files:
            raise StorageError(f"{uri}: there are no files; name the folder of a data set")
        for name in own.keys() - files.keys():
            (folder / name).unlink()
        place.download({name: about for name, about in files.items() if own.get(name) != about}, folder, progress)
    return folder


def publish_cached(storage: str, names: Sequence[str], progress: Progress = no_progress) -> None:
    """Upload files of the cache that a storage does not have in the same size, under the same names."""
    place = open_place(storage)
    sizes = call_with_retries(storage, lambda: place.list_sizes(names))
    for done, (name, size) in enumerate(zip(names, sizes, strict=True), start=1):
        file = find_cache_folder() / name
        if size != file.stat().st_size:
            call_with_retries(storage, partial(place.upload, file, name))
        progress(done, len(names))


def fetch_cached(storage: str, names: Sequence[str]) -> bool:
    """Download files missing from the cache, once for all processes of this machine; return whether any was missing."""
    from filelock import FileLock

    def list_missing() -> list[str]:
        return [name for name in names if not (find_cache_folder() / name).exists()]

    if not list_missing():
        return False
    find_cache_folder().mkdir(parents=True, exist_ok=True)
    place = open_place(storage)
    with FileLock(find_cache_folder() / ".fetch.lock"):
        call_with_retries(storage, lambda: place.download(dict.fromkeys(list_missing()), find_cache_folder()))
    return True
