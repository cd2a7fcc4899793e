"""What the command line prints: commands that can be pasted, whatever the folder is called."""

import os
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.runtime.storage import StorageError
from search.config.budget import parse_budget
from search.config.options import RunOptions
from search.experiment import RunInterruptedError
from search.records.run_dir import claim, format_resume_command, hold
from search.records.run_state import RunState
from search.records.trials import TrialTable
from search.run import _run, _write_report, build_parser, main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def out(tmp_path):
    """A run folder whose name has to be quoted."""
    folder = tmp_path / "my runs [1]" / "it's one"
    with claim(folder):
        pass
    return folder


def command_in(said, begin):
    """Return the words of the command that begins so, to the end of its line or to the quote that closes it."""
    return shlex.split(said[said.index(begin) :].splitlines()[0].partition("`")[0])


def test_interrupted_run_prints_the_command_that_goes_on(out, monkeypatch, capsys):
    def study(*_):
        raise RunInterruptedError

    monkeypatch.setattr("search.tuning.ray.session.start", lambda address: None)
    monkeypatch.setattr("search.experiment.Experiment", study)
    options = RunOptions(budget=parse_budget("60s"))
    run_state = RunState(folder=out, options=options.to_dict(), began=0.0)
    assert _run(None, options, None, run_state, TrialTable(out)) == 130
    words = command_in(capsys.readouterr().out, "python ")
    assert words == ["python", str(ROOT / "search" / "run.py"), "--resume", str(out)]


def test_storage_that_fails_for_good_ends_the_run_with_the_command_that_goes_on(out, monkeypatch, capsys):
    def prepare(*_):
        try:
            raise StorageError("s3://bucket cannot be used: time-out")
        except StorageError:
            raise RuntimeError("Traceback") from None  # as Ray Tune does

    monkeypatch.setattr("search.tuning.ray.session.start", lambda address, workers: None)
    monkeypatch.setattr("search.tuning.interrupt.Interrupt.listen", lambda self: None)
    monkeypatch.setattr("search.experiment.Experiment._prepare", prepare)
    monkeypatch.setattr("search.run._write_report", lambda folder: None)
    options = RunOptions(budget=parse_budget("60s"))
    run_state = RunState(folder=out, options=options.to_dict(), began=0.0)
    assert _run(None, options, SimpleNamespace(), run_state, TrialTable(out)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: s3://bucket cannot be used: time-out; continue with: ") and said.count("\n") == 1
    assert command_in(said, "python ") == ["python", str(ROOT / "search" / "run.py"), "--resume", str(out)]
    assert run_state.state == "stopped"


def test_run_whose_report_fails_prints_the_command_that_tries_again(out, capsys):
    (out / "run.json").write_text("{")
    _write_report(out)
    said = capsys.readouterr().err
    assert said.startswith("warning: there is no report (AnalysisError: ") and said.count("\n") == 1
    assert command_in(said, "one-look report") == ["one-look", "report", str(out)]


def test_every_path_is_absolute_once_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    args = build_parser().parse_args(["--out", "one", "--data", "a", "~/b", "--grid", "../grid.json"])
    assert args.out == tmp_path / "one" and args.data == [tmp_path / "a", tmp_path / "home" / "b"]
    assert args.grid == tmp_path.parent / "grid.json"
    assert build_parser().parse_args(["--resume", "one"]).resume == tmp_path / "one"


def test_relative_run_folder_is_resumed_by_the_absolute_one(out, monkeypatch):
    monkeypatch.chdir(out.parent)
    assert shlex.split(format_resume_command(Path(out.name)))[1:] == [str(ROOT / "search/run.py"), "--resume", str(out)]


def test_run_that_is_done_but_for_its_report_gets_it(out, monkeypatch, capsys):
    options = RunOptions(budget=parse_budget("60s")).to_dict()
    run_state = RunState(folder=out, options=options, began=0.0)
    run_state.seed, run_state.data = 0, {}
    run_state.end("done")
    monkeypatch.setattr("search.run._write_report", lambda folder: (folder / "report.html").write_text("page"))
    assert main(["--resume", str(out)]) == 0 and (out / "report.html").exists()
    assert str(out / "report.html") in capsys.readouterr().out
    assert main(["--resume", str(out)]) == 2 and "the run is done" in capsys.readouterr().err


def test_run_that_another_process_ends_meanwhile_is_not_continued(out, monkeypatch, capsys):
    run_state = RunState(folder=out, options=RunOptions(budget=parse_budget("60s")).to_dict(), began=0.0)
    run_state.seed, run_state.data = 0, {}
    run_state.write()

    def wait(folder):
        run_state.end("done")
        (folder / "report.html").touch()
        return hold(folder)

    monkeypatch.setattr("search.run.hold", wait)
    assert main(["--resume", str(out)]) == 2 and "the run is done" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--out", "--data", "--resume"])
def test_folder_whose_name_is_not_utf8_is_refused(flag, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--budget", "60s", flag, os.fsdecode(b"runs\xff")])
    assert ended.value.code == 2 and "is not UTF-8" in capsys.readouterr().err.splitlines()[-1]
