"""The copy of a run folder in a storage, here of file:// URIs."""

import json
import os
import platform
import threading

import pytest

from data.runtime import storage
from data.runtime.storage import Place, StorageError
from search.records.mirror import RunMirror, claim_storage, fetch_run, mirror_run
from search.records.run_dir import RunDirError

ENDED = 2**22 + 1  # no process has this id


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run folder, and the working directory of another machine."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = tmp_path / "one"
    for name in ("trials.jsonl", "reports.jsonl", "best/model.safetensors", "ray/1/e0001_x/state.pt", ".lock"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    write_state(run, 10.0, uri(tmp_path))
    return run


def uri(tmp_path):
    return f"file://{tmp_path}/storage/one"


def write_state(run, wall_s, storage=None, **more):
    (run / "run.json").write_text(json.dumps({"wall_s": wall_s, "options": {"storage": storage}} | more))


def copied(tmp_path):
    root = tmp_path / "storage" / "one"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_records_are_copied_when_they_change_and_deleted_when_they_are_gone(folder, tmp_path, monkeypatch):
    mirror, written = RunMirror(folder, uri(tmp_path)), []
    mirror.sync()
    assert copied(tmp_path).keys() == {"run.json", "trials.jsonl", "reports.jsonl", "best/model.safetensors"}
    monkeypatch.setattr(Place, "write", lambda place, name, content: written.append(name))
    monkeypatch.setattr(Place, "upload", lambda place, file, name: written.append(name))
    mirror.sync()
    assert written == []
    (folder / "best" / "model.safetensors").unlink()
    (folder / "trials.csv").write_text("rows")
    for name in ("run.json", "trials.jsonl", "reports.jsonl"):
        (folder / name).write_text("more of it")
    mirror.sync()
    assert written == ["trials.csv", "reports.jsonl", "trials.jsonl", "run.json"]  # what refers to others comes last
    assert "best/model.safetensors" not in copied(tmp_path)


def test_trial_that_ends_while_files_are_looked_for_is_not_copied_without_its_last_report(
    folder, tmp_path, monkeypatch
):
    mirror, list_files = RunMirror(folder, uri(tmp_path)), Place.list_files
    mirror.sync()
    (folder / "trials.jsonl").write_text("more of it")

    def list_and_go_on(place):
        found = list_files(place)
        for name in ("reports.jsonl", "trials.jsonl"):
            (folder / name).write_text("the end of a trial")
        return found

    monkeypatch.setattr(Place, "list_files", list_and_go_on)
    mirror.sync()
    assert copied(tmp_path)["reports.jsonl"] == copied(tmp_path)["trials.jsonl"] == b"the end of a trial"


def test_checkpoints_are_deleted_once_the_records_without_them_are_copied(folder, tmp_path, monkeypatch, capsys):
    deleted, write = [], Place.write
    with mirror_run(folder, None) as discard:
        discard(lambda: deleted.append("at once"))
    assert deleted == ["at once"]
    with mirror_run(folder, uri(tmp_path)) as discard:
        discard(lambda: deleted.append("in the end" * (threading.current_thread() != threading.main_thread())))
        assert deleted == ["at once"]
    assert deleted == ["at once", "in the end"]
    mirror = RunMirror(folder, uri(tmp_path))
    mirror.defer(lambda: deleted.append("never"))

    def fail(place, name, content):
        raise OSError("connection refused")

    monkeypatch.setattr(Place, "write", fail)
    with pytest.raises(OSError, match="refused"):
        mirror.sync()
    mirror._try_sync("tries again")
    mirror._try_sync("tries again")
    assert deleted == ["at once", "in the end"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].endswith("tries again") and "connection refused" in lines[0]
    monkeypatch.setattr(Place, "write", write)
    mirror.sync()
    assert deleted[-1] == "never"


def test_storage_that_is_lost_until_the_end_is_named_again_at_the_end(folder, tmp_path, capsys):
    mirror = RunMirror(folder, uri(tmp_path))
    (tmp_path / "storage").touch()
    mirror._try_sync("tries again")
    with mirror:
        pass
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[1].endswith("continue with the run folder, which is complete")


def test_run_is_fetched_where_it_is_missing_or_older(folder, tmp_path):
    with mirror_run(folder, uri(tmp_path)):
        pass
    fetched, copy = fetch_run(uri(tmp_path))
    assert fetched == tmp_path / "elsewhere" / "runs" / "one" and copy == uri(tmp_path)
    assert (fetched / "best" / "model.safetensors").exists() and not (fetched / "ray").exists()
    write_state(fetched, 12.0, copy)  # it went on there
    (fetched / "trials.jsonl").write_text("later")
    assert fetch_run(uri(tmp_path)) == fetch_run(fetched) == (fetched, copy)
    assert (fetched / "trials.jsonl").read_text() == "later"
    with mirror_run(fetched, copy):
        pass
    assert fetch_run(folder) == (folder, copy)
    assert (folder / "trials.jsonl").read_text() == "later"


def test_download_that_broke_off_is_begun_again(folder, tmp_path, monkeypatch):
    RunMirror(folder, uri(tmp_path)).sync()
    write_atomically = storage.write_atomically

    def fail(path, write):
        if path.name == "trials.jsonl":
            raise OSError("connection reset")
        write_atomically(path, write)

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="connection reset"):
        patch.setattr(storage, "write_atomically", fail)
        fetch_run(uri(tmp_path))
    fetched, _ = fetch_run(uri(tmp_path))
    assert (fetched / "trials.jsonl").read_text() == "trials.jsonl"


def test_run_that_another_process_seems_to_go_on_with_is_not_fetched(folder, tmp_path, monkeypatch):
    running, there = {"state": "running", "pid": os.getpid(), "host": platform.node()}, tmp_path / "storage" / "one"
    write_state(folder, 10.0, uri(tmp_path), **running)
    RunMirror(folder, uri(tmp_path)).sync()
    with pytest.raises(RunDirError, match=r"process \d+ of .* copied this run \d s ago; end it, or try again in \d+ s"):
        fetch_run(uri(tmp_path))
    assert not (tmp_path / "elsewhere" / "runs").exists()
    for change in ({"state": "stopped"}, {"pid": ENDED}):
        write_state(there, 10.0, uri(tmp_path), **running | change)
        assert fetch_run(uri(tmp_path))[1] == uri(tmp_path)
    write_state(there, 10.0, uri(tmp_path), **running | {"pid": ENDED, "host": "another"})
    with pytest.raises(RunDirError, match="of another copied this run"):
        fetch_run(uri(tmp_path))
    monkeypatch.setattr("search.records.mirror.LOST_S", 0.0)  # after a minute
    fetch_run(uri(tmp_path))
    assert sorted(path.name for path in there.iterdir()) == ["best", "reports.jsonl", "run.json", "trials.jsonl"]


def test_process_copies_nothing_and_deletes_no_checkpoint_once_another_one_copies_the_run(folder, tmp_path):
    write_state(folder, 11.0, uri(tmp_path), host="this", pid=7)
    kept = RunMirror(folder, uri(tmp_path))
    kept.sync()
    write_state(folder, 12.0, uri(tmp_path), host="another", pid=7)
    RunMirror(folder, uri(tmp_path)).sync()
    (folder / "trials.jsonl").write_text("of the first process")
    kept.defer(lambda: pytest.fail("a checkpoint was deleted"))
    with pytest.raises(RunDirError, match="process 7 of another continues this run"):
        kept.sync()
    assert copied(tmp_path)["trials.jsonl"] == b"trials.jsonl"


def test_folder_of_another_run_of_that_name_is_left_as_it_is(folder, tmp_path):
    RunMirror(folder, uri(tmp_path)).sync()
    other = tmp_path / "elsewhere" / "runs" / "one"
    other.mkdir(parents=True)
    write_state(other, 1.0, time="another day")
    for wall_s in (1.0, 99.0):
        write_state(other, wall_s, time="another day")
        with pytest.raises(RunDirError, match=r"/runs/one contains another run; resume from another working"):
            fetch_run(uri(tmp_path))
    assert [path.name for path in other.iterdir()] == ["run.json"]


def test_run_without_a_storage_is_left_as_it_is(folder):
    write_state(folder, 1.0)
    assert fetch_run(folder) == (folder, None)
    (folder / "run.json").write_text("{damaged")
    assert fetch_run(folder) == (folder, None)  # what reads the run says so


def test_run_folder_is_not_copied_to_itself(folder, tmp_path, monkeypatch):
    with pytest.raises(RunDirError, match=r"file://.*/one is also the run folder .*/one; use another --out or working"):
        claim_storage(f"file://{tmp_path}", folder)
    (tmp_path / "runs").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunDirError, match="is also the run folder"):
        fetch_run(f"file://{tmp_path}/one")


def test_uri_without_a_run_is_named(tmp_path):
    with pytest.raises(RunDirError, match=r"--resume file://.*/nowhere: there is no run\.json"):
        fetch_run(f"file://{tmp_path}/nowhere")


def test_name_of_another_run_and_a_storage_that_cannot_be_written_are_refused(folder, tmp_path):
    assert claim_storage(f"file://{tmp_path}/storage", folder) == uri(tmp_path)
    RunMirror(folder, uri(tmp_path)).sync()
    with pytest.raises(RunDirError, match=r"storage/one is in use; name another folder with --out"):
        claim_storage(f"file://{tmp_path}/storage", folder)
    with pytest.raises(StorageError, match="cannot be used"):
        claim_storage(f"file://{folder}/run.json", folder)
