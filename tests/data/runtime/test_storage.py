"""Folders of a storage, here of file:// URIs; `tests/search/test_storage_run.py` has an S3 server."""

import argparse
import io
import time
from pathlib import Path
from threading import Thread

import pytest

from data.runtime.storage import (
    OUTAGE_S,
    Place,
    StorageError,
    fetch_cached,
    fetch_folder,
    is_uri,
    join,
    open_place,
    parse_location,
    parse_storage,
    publish_cached,
    split,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def there(tmp_path):
    """A folder of a storage with two files, and its URI."""
    (tmp_path / "there" / "sub").mkdir(parents=True)
    (tmp_path / "there" / "a.txt").write_bytes(b"one")
    (tmp_path / "there" / "sub" / "b.txt").write_bytes(b"two")
    return tmp_path / "there", f"file://{tmp_path}/there"


def run_in_thread(call):
    thread = Thread(target=call)
    thread.start()
    thread.join()


def read(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_options_of_a_uri_stay_behind_the_path_that_is_joined_or_split():
    uri = "s3://bucket/prefix/?endpoint_override=localhost:9000&scheme=http"
    joined = join(uri, "run 1", "ray")
    assert joined == "s3://bucket/prefix/run%201/ray?endpoint_override=localhost:9000&scheme=http"
    assert split(split(joined)[0]) == ("s3://bucket/prefix?endpoint_override=localhost:9000&scheme=http", "run 1")


@pytest.mark.parametrize("text", ["ftp://host/folder", "s3:/bucket", "bucket/prefix"])
def test_what_is_no_uri_of_a_storage_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not s3://BUCKET/PREFIX"):
        parse_storage(text)


def test_password_is_refused_and_not_repeated():
    with pytest.raises(argparse.ArgumentTypeError, match="AWS_SECRET_ACCESS_KEY") as caught:
        parse_storage("s3://AKIA123:verysecret@bucket/prefix")
    assert "verysecret" not in str(caught.value)


def test_location_is_a_uri_as_it_is_or_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_location("s3://bucket/set") == "s3://bucket/set" and parse_location("set") == tmp_path / "set"
    assert is_uri("gs://bucket") and not is_uri(Path("s3://bucket"))


def test_folder_is_downloaded_once_and_follows_changes(there):
    folder, uri = there
    copy = fetch_folder(uri)
    assert copy.name == "there" and read(copy) == read(folder)
    before = {path: path.stat().st_ino for path in copy.rglob("*.txt")}
    assert fetch_folder(uri) == copy and {path: path.stat().st_ino for path in copy.rglob("*.txt")} == before
    (folder / "a.txt").write_bytes(b"1st")  # of the same size
    (folder / "sub" / "b.txt").rename(folder / "c.txt")
    assert read(fetch_folder(uri)) == {"a.txt": b"1st", "c.txt": b"two"}


def test_folder_without_files_or_of_an_unknown_bucket_is_named(tmp_path):
    with pytest.raises(StorageError, match="there are no files"):
        fetch_folder(f"file://{tmp_path}/nowhere")
    with pytest.raises(StorageError, match=r"s3:///x cannot be used"):
        open_place("s3:///x")


def test_name_that_leads_out_of_the_folder_is_refused(there, tmp_path):
    _, uri = there
    (tmp_path / "outside.txt").write_bytes(b"taken")
    with pytest.raises(StorageError, match="leads out of the folder"):
        open_place(uri).download({"../outside.txt": None}, tmp_path / "own" / "folder")
    assert not (tmp_path / "own" / "outside.txt").exists()


def test_file_that_arrives_incomplete_is_an_error_and_does_not_stay(there, tmp_path):
    with pytest.raises(StorageError, match=r"a\.txt: arrived incomplete"):
        open_place(there[1]).download({"a.txt": (4, 0)}, tmp_path / "own")
    assert not (tmp_path / "own" / "a.txt").exists()


def test_file_that_cannot_be_written_leaves_the_one_before(there, tmp_path):
    folder, uri = there
    open_place(uri).write("a.txt", b"new")
    assert read(folder) == {"a.txt": b"new", "sub/b.txt": b"two"}
    with pytest.raises(FileNotFoundError):
        open_place(uri).upload(tmp_path / "gone", "a.txt")
    assert read(folder) == {"a.txt": b"new", "sub/b.txt": b"two"}


@pytest.mark.parametrize("failures", [1, len(OUTAGE_S), len(OUTAGE_S) + 1])
def test_files_are_fetched_after_an_outage_unless_it_takes_too_long(failures, tmp_path, cache, there, monkeypatch):
    waits, download = [], Place.download

    def fail(place, files, folder):
        if len(waits) < failures:
            raise OSError("connection refused")
        download(place, files, folder)

    monkeypatch.setattr(Place, "download", fail)
    monkeypatch.setattr(time, "sleep", waits.append)
    if failures > len(OUTAGE_S):
        with pytest.raises(StorageError, match=r"file://.*/there cannot be used: connection refused"):
            fetch_cached(there[1], ["a.txt"])
    else:
        assert fetch_cached(there[1], ["a.txt"]) and (cache / "a.txt").read_bytes() == b"one"
    assert waits == list(OUTAGE_S[:failures])


class Interrupted(io.BytesIO):
    """Content during whose reading something else happens."""

    def __init__(self, meanwhile):
        super().__init__(b"mine")
        self.meanwhile = meanwhile

    def read(self, size=-1):
        self.meanwhile()
        return super().read(size)


def test_two_runs_that_write_the_same_file_at_the_same_time_do_not_disturb_each_other(there):
    folder, uri = there
    other = open_place(uri)
    open_place(uri).copy(Interrupted(lambda: run_in_thread(lambda: other.write("packs/a", b"theirs"))), "packs/a")
    assert read(folder / "packs") == {"a": b"mine"}


def test_write_that_fails_leaves_nothing_behind(there):
    folder, uri = there

    def fail():
        raise OSError("disk error")

    with pytest.raises(OSError, match="disk error"):
        open_place(uri).copy(Interrupted(fail), "a.txt")
    assert read(folder) == {"a.txt": b"one", "sub/b.txt": b"two"}


def test_files_of_the_cache_are_uploaded_once_and_fetched_by_another_machine_once(tmp_path, cache, monkeypatch):
    storage, names = f"file://{tmp_path}/storage", ["packs/a", "packs/b"]
    (cache / "packs").mkdir(parents=True)
    for name in names:
        (cache / name).write_bytes(name.encode())
    publish_cached(storage, names)
    first = (tmp_path / "storage" / "packs" / "a").stat().st_ino
    publish_cached(storage, names)
    assert (tmp_path / "storage" / "packs" / "a").stat().st_ino == first
    assert not fetch_cached(storage, names)
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "other"))
    assert fetch_cached(storage, names) and not fetch_cached(storage, names)
    assert {name: (tmp_path / "other" / name).read_bytes() for name in names} == {n: n.encode() for n in names}
