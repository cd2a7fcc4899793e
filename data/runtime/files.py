"""Write files atomically and locate the cache folder."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import platformdirs

from data.dataset import DataError


def find_cache_folder() -> Path:
    """Return the folder for packs and built-in data: ONE_LOOK_CACHE if set, else the user's cache folder."""
    configured = os.environ.get("ONE_LOOK_CACHE")
    return Path(configured).expanduser().resolve() if configured else platformdirs.user_cache_path("one-look")


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = False) -> None:
    """Write a file under a temporary name and rename it; on any exception nothing stays behind.

    With `durable`, which takes milliseconds, a power failure leaves the old file or the new one, not one of zeros.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with temporary.open("wb") as file:
            write(file)
            if durable:
                sync(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def explain_write_errors(path: Path, remedy: str) -> Iterator[None]:
    """Turn an OSError into a DataError that says what cannot be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); {remedy}") from error


def sync(file: BinaryIO) -> None:
    """Wait until the content of a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def hash_name(name: str) -> bytes:
    """Return 8 bytes that depend on the name alone, to order or draw names independently of their number."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
