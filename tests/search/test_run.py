"""What the command line prints: commands that can be pasted, whatever the folder is called."""

import shlex
from types import SimpleNamespace

import pytest

from search.experiment import RunInterruptedError
from search.records.run_dir import claim
from search.run import _report, _run


@pytest.fixture
def out(tmp_path):
    """A run folder whose name has to be quoted."""
    folder = tmp_path / "my runs [1]" / "it's one"
    claim(folder).close()
    return folder


def command_in(said, begin):
    """Return the words of the command that begins so, to the end of its line or to the quote that closes it."""
    return shlex.split(said[said.index(begin) :].splitlines()[0].partition("`")[0])


def test_interrupted_run_prints_the_command_that_goes_on(out, monkeypatch, capsys):
    def study(*_):
        raise RunInterruptedError

    monkeypatch.setattr("search.tuning.cluster.start", lambda address: None)
    monkeypatch.setattr("search.experiment.Experiment", study)
    options = {"out": out, "budget": None, "seed": 0, "began": 0.0, "stages": "default", "constraints": {}}
    assert _run(None, options, SimpleNamespace(split="background")) == 130
    words = command_in(capsys.readouterr().out, "python search/run.py")
    assert words == ["python", "search/run.py", "--resume", str(out)]


def test_run_whose_report_fails_prints_the_command_that_tries_again(out, capsys):
    (out / "run.json").write_text("{")
    _report(out)
    said = capsys.readouterr().err
    assert said.startswith("warning: there is no report (AnalysisError: ") and said.count("\n") == 1
    assert command_in(said, "python -m analysis.report") == ["python", "-m", "analysis.report", str(out)]
