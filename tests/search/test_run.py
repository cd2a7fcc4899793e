"""What the command line prints: commands that can be pasted, whatever the folder is called."""

import shlex

import pytest

from search.budget.budget import parse_budget
from search.experiment import RunInterruptedError
from search.options import RunOptions
from search.records.run_dir import claim
from search.records.run_state import create_run_state
from search.records.trials import TrialTable
from search.run import _run, _write_report


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
    options = RunOptions(budget=parse_budget("60s"))
    run_state = create_run_state(out, options.to_dict(), began=0.0)
    assert _run(None, options, None, run_state, TrialTable(out)) == 130
    words = command_in(capsys.readouterr().out, "python search/run.py")
    assert words == ["python", "search/run.py", "--resume", str(out)]


def test_run_whose_report_fails_prints_the_command_that_tries_again(out, capsys):
    (out / "run.json").write_text("{")
    _write_report(out)
    said = capsys.readouterr().err
    assert said.startswith("warning: there is no report (AnalysisError: ") and said.count("\n") == 1
    assert command_in(said, "python -m analysis.report") == ["python", "-m", "analysis.report", str(out)]
