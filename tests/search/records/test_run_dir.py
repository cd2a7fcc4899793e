"""Lock of a run folder, and the latest run."""

import argparse
import json
import shlex
import shutil
from pathlib import Path

import pytest

from search.records.run_dir import (
    RunDirError,
    check_free,
    claim,
    describe_stop,
    find_run,
    format_resume_command,
    hold,
    list_runs,
    parse_run_argument,
)


def start_run(folder):
    with claim(folder):
        (folder / "run.json").write_text("{}")
    return folder.absolute()


def test_latest_run_is_the_one_started_or_resumed_last_that_exists(tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunDirError, match="start a run"):
        find_run("latest")
    with pytest.raises(argparse.ArgumentTypeError, match="start a run"):
        parse_run_argument("latest")
    first, second = start_run(Path("été 1")), start_run(tmp_path / "deep" / "2")
    with claim(tmp_path / "not begun"):
        pass
    monkeypatch.chdir("/")
    assert find_run("latest") == parse_run_argument("latest") == second
    with hold(first):
        assert find_run("latest") == first
    shutil.rmtree(first)
    assert find_run("latest") == second
    assert find_run("./latest") == Path("latest")


def test_latest_run_with_a_model_is_named_if_a_later_run_has_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    first, second = start_run(tmp_path / "1"), start_run(tmp_path / "2")
    assert parse_run_argument("latest", needs="best/model") == second and capsys.readouterr().err == ""  # none has one
    (first / "best").mkdir()
    (first / "best" / "model").touch()
    assert parse_run_argument("latest", needs="best/model") == first
    assert capsys.readouterr().err == f"latest is {first}; the run {second} has no best/model\n"
    assert find_run("latest") == second


def test_stopped_run_is_printed_with_the_commands_that_report_and_resume_it(tmp_path):
    out = start_run(tmp_path / "my run")
    stopped, report, resume = describe_stop(out).splitlines()
    assert stopped == f"stopped   all results so far are in {out}"
    assert shlex.split(report) == ["report", "one-look", "report", str(out)]
    assert shlex.split(resume)[-2:] == ["--resume", str(out)]


def test_latest_run_that_is_not_on_record_is_looked_for_in_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("20260101-000000", "20260102-000000", "20260103-000000"):
        start_run(Path("runs") / name)
    assert len(list_runs()) == 3
    shutil.rmtree(tmp_path / "cache")
    Path("runs/20260103-000000/run.json").unlink()
    assert find_run("latest") == tmp_path / "runs/20260102-000000"


def test_folder_that_cannot_be_looked_up_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    lost = tmp_path / ("a" * 300)
    with pytest.raises(argparse.ArgumentTypeError, match="too long"):
        parse_run_argument(str(lost))
    with pytest.raises(RunDirError, match=r"--out .* cannot be read \(File name too long\)"):
        check_free(lost)
    known = start_run(tmp_path / "known")
    (tmp_path / "cache" / "runs.json").write_text(json.dumps([str(known), str(lost)]))
    assert find_run("latest") == known


def test_run_of_a_user_without_a_writable_cache_begins(tmp_path, monkeypatch):
    (tmp_path / "cache").touch()
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    assert (start_run(tmp_path / "run") / "run.json").is_file() and not (tmp_path / "cache").is_dir()


def test_one_look_prints_its_own_resume_command(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/venv/bin/one-look", "search"])
    assert shlex.split(format_resume_command(tmp_path)) == ["one-look", "search", "--resume", str(tmp_path)]
