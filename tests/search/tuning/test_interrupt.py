"""A run whose whole process group gets a signal, whose terminal is closed, or whose Ray is lost: it stops in order."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.records.console import RunConsole
from search.records.run_dir import claim
from search.records.run_state import RunState
from search.tuning import interrupt
from search.tuning.interrupt import Interrupt, RunInterruptedError
from tests.waiting import HANG_S, read_reports, wait_for_report

RUN = [sys.executable, str(Path(__file__).resolve().parents[3] / "search" / "run.py")]
OPTIONS = ["--budget", "2trials", "--px", "96", "--max-macs", "15M", "--max-params", "60k"]
OPTIONS += ["--set", "stage.explore.epochs=40"]  # the search outlasts each process that is stopped
OPTIONS += ["--set", "stage.confirm.epochs=1", "--set", "stage.final.epochs=1"]


@pytest.fixture(autouse=True)
def hang_up():
    """Let the runs that a test starts get SIGHUP, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def reported(out, trial_id):
    return [line["epochs"] for line in read_lines(out / "reports.jsonl") if line["trial_id"] == trial_id]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Folder of the run that each of the following tests goes on with, ends in its own way, and leaves to the next."""
    return tmp_path_factory.mktemp("interrupted") / "out"


def start(out, data):
    """Start the run, or resume it, as the leader of a process group."""
    command = [*RUN, "--resume", str(out)] if out.exists() else [*RUN, *OPTIONS, "--data", str(data), "--out", str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, start_new_session=True, text=True, **pipes)


def read_records(out):
    path = out / "trials.jsonl"
    return path.read_text() if path.exists() else ""


@pytest.fixture
def training(out, tiny_dataset):
    """The process of the run once it trains, and what had been recorded before."""
    recorded = read_records(out)
    process = start(out, tiny_dataset)
    wait_for_report(out, process)
    assert read_records(out).startswith(recorded)
    yield process, read_records(out)
    process.kill()  # unless it has ended


def check_stopped(out, recorded):
    """Check that a run can be resumed, and still has what had been recorded."""
    assert json.loads((out / "run.json").read_text())["state"] == "stopped"
    assert read_records(out).startswith(recorded)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_run_whose_process_group_gets_a_signal_stops(name, out, training):
    process, recorded = training
    os.killpg(process.pid, name)
    stdout, stderr = process.communicate(
        timeout=HANG_S
    )  # without the watch, Ray ends it after 60 s, with another exit code
    assert process.returncode == 130 and stderr == ""
    stopped, _, resume = stdout.splitlines()[-3:]
    assert stopped == f"stopped   all results so far are in {out}" and resume.startswith("resume    python ")
    check_stopped(out, recorded)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_run_whose_ray_is_killed_ends_with_one_line(name, out, training):
    process, recorded = training
    os.kill(find_child(process, name), signal.SIGKILL)
    _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == 1 and stderr.count("\n") == 1, stderr
    assert stderr.startswith("error: Ray has ended (127.0.0.1:") and f"--resume {out}" in stderr
    check_stopped(out, recorded)


@pytest.mark.slow
@pytest.mark.ray
def test_run_that_was_stopped_in_every_way_is_resumed_and_trains_each_trial_once(out, tiny_dataset):
    recorded, process = read_records(out), start(out, tiny_dataset)
    _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, stderr
    assert read_records(out).startswith(recorded)
    trials = [line["trial_id"] for line in read_lines(out / "trials.jsonl") if "config" in line]
    assert len(trials) == len(set(trials)) and sum(trial[0] == "e" for trial in trials) == 2
    assert all(reported(out, trial) == list(range(1, len(reported(out, trial)) + 1)) for trial in trials)
    assert not [line for line in read_lines(out / "trials.jsonl") if line.get("status") == "failed"]
    assert json.loads((out / "run.json").read_text())["state"] == "done"


@pytest.mark.slow
@pytest.mark.ray
def test_run_whose_terminal_is_closed_stops(tiny_dataset, tmp_path):
    out, command = tmp_path / "out", [*RUN, *OPTIONS, "--data", str(tiny_dataset), "--out", str(tmp_path / "out")]
    pid, terminal = pty.fork()
    if not pid:
        os.execv(command[0], command)
    while not read_reports(out):
        assert os.read(terminal, 10**6)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert json.loads((out / "run.json").read_text())["state"] == "stopped"


def find_child(process, name):
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(process.pid)], capture_output=True, text=True)
    children = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    return next(int(pid) for pid, command in children if command == name)


class EndedError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def running(tmp_path, monkeypatch):
    """The interrupt of a run, whose watch raises EndedError instead of ending the process, with a clock of its own."""

    def end(code):
        raise EndedError(code)

    now = [100.0]
    with claim(tmp_path):
        own = Interrupt(RunState(folder=tmp_path, options={}, began=time.monotonic()), RunConsole())
    monkeypatch.setattr(interrupt.os, "_exit", end)
    monkeypatch.setattr(interrupt, "time", type("Clock", (), {"monotonic": lambda: now[0]}))
    monkeypatch.setattr(own._ended, "wait", lambda seconds: now.append(now.pop() + seconds))
    return own, now


def state(own):
    return json.loads((own.run_state.folder / "run.json").read_text())["state"]


def test_run_that_outlasts_its_budget_is_ended_with_the_command_that_resumes_it(running, capsys):
    own, now = running
    own.deadline = 200.0
    with pytest.raises(EndedError, match="1"):
        own._watch()
    assert 200.0 < now[0] <= 200.0 + interrupt.POLL_S
    said = capsys.readouterr().err
    assert "error: Ray has not ended 60 s after the budget; continue with: python " in said and "--resume" in said
    assert said.count("\n") == 1 and state(own) == "stopped"


def test_ray_that_does_not_stop_after_a_signal_is_left(running, capsys):
    own, now = running
    with pytest.raises(RunInterruptedError):
        own.request()
    with pytest.raises(EndedError, match="130"):
        own._watch()
    assert now[0] == pytest.approx(100.0 + interrupt.STOP_S, abs=2 * interrupt.POLL_S)
    assert "stopped   all results so far" in capsys.readouterr().out and state(own) == "stopped"


def test_ray_that_does_not_answer_once_is_not_lost(running, monkeypatch):
    own, now = running
    own.servers, own.deadline = ("127.0.0.1:1",), 150.0
    monkeypatch.setattr(interrupt, "check_answer", lambda address: refuse(now[0]))

    def refuse(at):
        if at == 102.0 or at > 120.0:
            raise ConnectionError("no answer")

    with pytest.raises(EndedError, match="1"):
        own._watch()
    assert now[0] == pytest.approx(120.0 + interrupt.LOST_S, abs=2 * interrupt.POLL_S)


def test_run_that_is_done_stays_done(running):
    own, _ = running
    own.deadline = 101.0
    own.run_state.end("done")
    with pytest.raises(EndedError):
        own._watch()
    assert state(own) == "done"


def test_signal_after_ray_tune_has_failed_ends_the_run_at_once(running):
    own, _ = running
    with pytest.raises(ZeroDivisionError), own.pass_to_ray_tune():
        raise ZeroDivisionError
    with pytest.raises(RunInterruptedError):
        own.request()
