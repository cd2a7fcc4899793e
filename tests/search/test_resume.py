"""A run is killed, goes on, and is given more: as a user would, from the command line."""

import csv
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest

from search.config.budget import parse_budget
from search.config.options import RunOptions
from search.records.run_dir import claim
from search.records.run_state import FORMAT_VERSION, RunState
from search.run import main
from tests.waiting import HANG_S, list_left_behind, list_ray_processes, wait_for_report

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, str(ROOT / "search" / "run.py")]
SHORT = ["--px", "96", "--max-macs", "15M", "--set", "stage.confirm.epochs=1", "--set", "stage.final.epochs=1"]


def rows(out):
    path = out / "trials.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def run_state(out):
    return json.loads((out / "run.json").read_text())


def start(out, options, *, trials=0):
    """Start a run, or resume it; return its process as soon as it has reported and so many trials have ended.

    The run is started with relative paths, and resumed by the command that it printed, in another folder.
    """
    printed = out.parent / "printed.txt"
    command, folder = [*RUN, *options, "--out", out.name], out.parent
    if out.exists():
        command, folder = printed_command(printed), elsewhere(out)
    with printed.open("w") as file, (out.parent / "errors.txt").open("w") as errors:
        process = subprocess.Popen(command, stdout=file, stderr=errors, cwd=folder)
    wait_for_report(out, process, also=lambda: len(rows(out)) >= trials)
    return process


def end(process, name):
    """End a run by a signal to nothing but its driver; return the exit code."""
    process.send_signal(name)
    return process.wait(timeout=HANG_S)


def printed_command(printed):
    """Return the words of the command with which a run said it is resumed, for the Python of the tests."""
    line = next(line for line in printed.read_text().splitlines() if line.startswith("resume"))
    return [sys.executable, *shlex.split(line.removeprefix("resume"))[1:]]


def elsewhere(out):
    """Return a folder from which no relative path of the run leads anywhere."""
    folder = out.parent / "else" / "where"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def resume(out):
    """Resume a run by the command that it printed, to its end."""
    command = printed_command(out.parent / "printed.txt")
    process = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, cwd=elsewhere(out))
    assert process.returncode == 0, process.stderr


@dataclass
class Ended:
    """How a process of a run was ended, and what was there afterwards."""

    signal: signal.Signals
    exit_code: int
    printed: str
    errors: str
    rows: list[dict[str, str]]
    state: str
    journal_bytes: int
    left_behind: set[int]


def run_until(out, options, name, *, trials):
    """Start or resume a run, and end it by a signal as soon as so many trials have ended."""
    before = list_ray_processes()
    exit_code = end(start(out, options, trials=trials), name)
    return Ended(
        signal=name,
        exit_code=exit_code,
        printed=(out.parent / "printed.txt").read_text(),
        errors=(out.parent / "errors.txt").read_text(),
        rows=rows(out),
        state=run_state(out)["state"],
        journal_bytes=(out / "study.journal").stat().st_size,
        left_behind=set() if name == signal.SIGKILL else list_left_behind(before),
    )


@pytest.fixture(scope="module")
def resumed(tiny_dataset, tmp_path_factory):
    """Folder of a run that was ended four times and went on to its end, and how it was ended."""
    out = tmp_path_factory.mktemp("resume") / "out"
    (out.parent / "scenes").symlink_to(tiny_dataset)
    options = ["--budget", "6trials", *SHORT, "--data", "scenes"]
    names = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)
    ended = [run_until(out, options, name, trials=trials) for trials, name in enumerate(names, start=2)]
    resume(out)
    return out, ended


@pytest.mark.slow
@pytest.mark.ray
class TestResume:
    def test_signal_stops_the_run_in_order_and_leaves_no_process_behind(self, resumed):
        stopped = [ended for ended in resumed[1] if ended.signal != signal.SIGKILL]
        assert len(stopped) == 2
        for ended in stopped:
            assert (ended.exit_code, ended.state, ended.errors) == (130, "stopped", "")
            assert "stopped   all results so far are in" in ended.printed
            assert len(ended.rows) >= 2 and ended.journal_bytes > 0 and not ended.left_behind

    def test_no_trial_that_had_ended_is_lost_or_run_again(self, resumed):
        last = {row["trial_id"]: row for row in rows(resumed[0])}
        assert len(last) == len(rows(resumed[0]))
        for row in [row for ended in resumed[1] for row in ended.rows]:
            assert {name: last[row["trial_id"]][name] for name in row} == row

    def test_no_trial_failed_and_the_last_stage_has_the_best(self, resumed):
        assert not [row["reason"] for row in rows(resumed[0]) if row["status"] == "failed"]
        assert run_state(resumed[0])["best"][0] in "fr"

    def test_reports_of_a_trial_follow_each_other(self, resumed):
        epochs = {}
        for line in map(json.loads, (resumed[0] / "reports.jsonl").read_text().splitlines()):
            epochs.setdefault(line["trial_id"], []).append(line["epochs"])
        assert all(seen == list(range(1, len(seen) + 1)) for seen in epochs.values())

    def test_every_stage_is_run_once(self, resumed):
        names = [stage["name"] for stage in run_state(resumed[0])["stages"]]
        assert names == ["explore", "confirm", "final", "repeat"]
        assert len(run_state(resumed[0])["test_read"]) == 1
        assert (resumed[0] / "best" / "model.safetensors").exists()

    def test_optuna_knows_every_trial_and_none_is_left_running(self, resumed):
        backend = optuna.storages.journal.JournalFileBackend(str(resumed[0] / "study.journal"))
        study = optuna.load_study(study_name="explore", storage=optuna.storages.JournalStorage(backend))
        states = {t.user_attrs.get("trial_id"): t.state.name for t in study.trials}
        told = {"stopped": "PRUNED", "completed": "COMPLETE", "ended_by_budget": "COMPLETE", "failed": "FAIL"}
        assert "RUNNING" not in states.values()
        for row in rows(resumed[0]):
            if row["stage"] == "explore":
                assert states[row["trial_id"]] == told[row["status"]]

    def test_run_that_is_done_is_given_more(self, resumed):
        out, before = resumed[0], rows(resumed[0])
        refused = subprocess.run([*RUN, "--resume", str(out)], capture_output=True, text=True)
        assert refused.returncode == 2 and "extend it with --budget" in refused.stderr
        command = [*RUN, "--resume", str(out), "--budget", "2trials"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
        assert process.returncode == 0, process.stderr
        ended = {row["trial_id"]: row for row in rows(out)}
        assert all(ended[row["trial_id"]] | row == ended[row["trial_id"]] for row in before)
        assert len({i for i in ended if i[0] == "e"}) > len([row for row in before if row["stage"] == "explore"])
        newcomers = [row for row in rows(out)[len(before) :] if row["stage"] == "final"]
        assert newcomers and not {row["parent_id"] for row in newcomers} & {row["parent_id"] for row in before}


@pytest.mark.slow
@pytest.mark.ray
def test_budget_is_spent_once(tiny_dataset, tmp_path, stretch):
    out, budget_s = tmp_path / "out", stretch(90)
    (tmp_path / "scenes").symlink_to(tiny_dataset)
    for _ in range(2):
        end(start(out, ["--budget", f"{budget_s}s", "--data", "scenes", "--max-params", "60k"]), signal.SIGKILL)
    resume(out)
    content = run_state(out)
    assert content["state"] == "done" and content["wall_s"] < 1.1 * budget_s
    assert len(content["earlier"]) == 2 and content["earlier"][0]["wall_s"] < content["earlier"][1]["wall_s"]


@pytest.mark.slow
@pytest.mark.ray
def test_run_continues_after_a_power_failure_with_data_that_have_moved(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    out, data, moved = tmp_path / "out", tmp_path / "data", tmp_path / "moved here"
    shutil.copytree(tiny_dataset, data)
    end(start(out, ["--budget", "3trials", *SHORT, "--data", str(data)], trials=2), signal.SIGKILL)
    lines = (out / "trials.jsonl").read_bytes().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if b'"config"' not in line)  # the end of the second trial is lost
    (out / "trials.jsonl").write_bytes(b"".join(lines[:last]) + bytes(512))
    with (out / "reports.jsonl").open("ab") as file:
        file.write(b'{"trial_id": "e0099", "stage": "explore", "epochs": 1, "score": 0.5}\n' + bytes(512))
    journal = (out / "study.journal").read_bytes().splitlines(keepends=True)
    journal[len(journal) // 2] = bytes(512) + b"\n"
    (out / "study.journal").write_bytes(b"".join(journal))
    shard = next((tmp_path / "cache").glob("packs/*-48px/0000000.npy"))
    shard.write_bytes(bytes(shard.stat().st_size))
    shutil.copytree(data, moved, copy_function=shutil.copyfile)
    shutil.rmtree(data)
    command = [*RUN, "--resume", "../out", "--data", "."]
    process = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, cwd=moved)
    assert process.returncode == 0, process.stderr
    assert f"{shard}: damaged; packed again" in process.stderr
    assert "ignored 1 lines of trials missing from trials.jsonl" in process.stdout
    assert "study.journal is damaged" in process.stdout
    assert sum(row["stage"] == "explore" for row in rows(out)) == 3
    assert run_state(out)["state"] == "done" and run_state(out)["data"]["folder"] == str(moved)
    backend = optuna.storages.journal.JournalFileBackend(str(out / "study.journal"))
    study = optuna.load_study(study_name="explore", storage=optuna.storages.JournalStorage(backend))
    states = {t.user_attrs["trial_id"]: t.state.name for t in study.trials if "trial_id" in t.user_attrs}
    assert states.keys() == {row["trial_id"] for row in rows(out) if row["stage"] == "explore"}
    assert "RUNNING" not in states.values()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--seed", "3"), "--seed applies only to a new run"),
        (("--recipe", "study"), "--recipe applies only to a new run"),
        (("--max-params", "1M"), "--max-params applies only to a new run"),
        (("--keep", "2"), "--keep applies only to a new run"),
        ((), "no run there"),
    ],
)
def test_wrong_resume_is_refused_in_one_line(options, says, tmp_path):
    process = subprocess.run([*RUN, "--resume", str(tmp_path), *options], capture_output=True, text=True)
    assert process.returncode == 2 and says in process.stderr and process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("trials.jsonl", b"\x89PNG\xff", "trials.jsonl: cannot be read"),
        ("trials.jsonl", b'{"trial_id": "e0001", "config": {}}\n', "(parent_id, stage, seed missing)"),
        ("trials.jsonl", b'{"trial_id": "e0001", "status": "failed"}\n', "trials.jsonl: damaged or of another version"),
        ("reports.jsonl", b"\x89PNG\xff", "reports.jsonl: cannot be read"),
        ("run.json", b'{"state": "stopped", "asked": {}, "data": {}}', "run.json has another format"),
        (
            "run.json",
            b'{"format_version": %d, "state": "stopped", "options": {}, "data": {}}' % FORMAT_VERSION,
            "run.json: damaged or of another version",
        ),
    ],
)
@pytest.mark.parametrize("more", [(), ("--budget", "60s")])
def test_records_that_nothing_goes_on_from_are_left_as_they_are(file, content, says, more, tmp_path, capsys):
    options = RunOptions(budget=parse_budget("60s")).to_dict()
    with claim(tmp_path):
        pass
    run_state = RunState(folder=tmp_path, options=options, began=time.monotonic())
    run_state.seed, run_state.data = 0, {}
    run_state.end("stopped")
    (tmp_path / file).write_bytes(content)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with warnings.catch_warnings():
        assert main(["--resume", str(tmp_path), *more]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_run_needs_a_budget():
    process = subprocess.run(RUN, capture_output=True, text=True)
    assert process.returncode == 2 and "--budget is missing" in process.stderr
