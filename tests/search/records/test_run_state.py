"""run.json: stages, the run's own clock, and what a run that goes on is told."""

import json
import threading
import time
from datetime import datetime

import pytest

from search.records.run_dir import RunDirError, claim, hold
from search.records.run_state import FORMAT_VERSION, RunState, read_run_json, resume_run_state
from tests.waiting import wait_until

OPTIONS = {"budget": {"text": "5m"}}


@pytest.fixture(autouse=True)
def claimed(tmp_path, clock):
    """The run folder, made its own by a run, while the clock stands still."""
    with claim(tmp_path):
        pass


def content(folder):
    return json.loads((folder / "run.json").read_text())


def test_stage_that_was_cut_off_is_open_and_keeps_its_plan(tmp_path):
    run_state = RunState(folder=tmp_path, options={"budget": {}}, began=time.monotonic())
    run_state.begin_stage("explore", {"train_images": 160, "limit_s": 4.0})
    later = resume_run_state(tmp_path, content(tmp_path), now=time.monotonic(), options=OPTIONS, extended=False)
    assert later.open_stage["train_images"] == 160 and not later.is_closed("explore")
    assert (
        later.get_recorded_sizes("explore") == {"train_images": 160, "limit_s": 4.0}
        and later.get_recorded_sizes("confirm") == {}
    )
    later.begin_stage("explore", {"train_images": 99, "limit_s": 1.0})
    later.end_stage({"trials": 3})
    assert later.get_recorded_sizes("explore") == {
        "train_images": 160
    }  # another round has another time, and the same images
    assert later.is_closed("explore") and later.open_stage is None
    assert [(s["train_images"], s["trials"]) for s in content(tmp_path)["stages"]] == [(160, 3)]


def test_clock_counts_what_earlier_processes_used_and_not_the_time_between(tmp_path):
    RunState(folder=tmp_path, options={}, began=time.monotonic() - 100).write()
    later = resume_run_state(tmp_path, content(tmp_path), now=time.monotonic() + 5000, options=OPTIONS, extended=False)
    assert later.began == pytest.approx(time.monotonic() + 5000 - 100)
    assert later.processes == 2 and later.earlier[0]["wall_s"] == 100


def test_recorded_time_is_the_begin_of_the_process_not_of_the_file(tmp_path):
    state = RunState(folder=tmp_path, options={}, began=time.monotonic() - 100)
    state.write()
    later = resume_run_state(tmp_path, content(tmp_path), now=time.monotonic() - 7, options=OPTIONS, extended=False)
    for each, ago_s in ((state, 100), (later, 7)):
        began = datetime.strptime(each.process["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
        assert time.time() - began == pytest.approx(ago_s, abs=3)


def test_clock_is_written_while_a_run_goes_on_and_no_more_when_it_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("search.records.run_state.BEAT_S", 0.01)
    run_state = RunState(folder=tmp_path, options={}, began=time.monotonic())
    run_state.write()
    run_state.start_clock()
    run_state.began -= 60
    run_state.best = "a change that is not written yet"
    wait_until(lambda: content(tmp_path)["wall_s"])
    assert content(tmp_path)["wall_s"] == 60 and "best" not in content(tmp_path)
    run_state.end("done")
    ended = (tmp_path / "run.json").read_text()
    for thread in threading.enumerate():
        if thread.name.endswith("(_keep_clock)"):
            thread.join()
    assert (tmp_path / "run.json").read_text() == ended and content(tmp_path)["state"] == "done"


def test_device_seconds_are_what_each_process_held_for_as_long_as_it_ran(tmp_path):
    first = RunState(folder=tmp_path, options={}, began=time.monotonic() - 100)
    first.devices = {"cpu": 2, "gpu": 1}
    first.write()
    assert content(tmp_path)["device_s"] == pytest.approx({"cpu": 200, "gpu": 100})
    later = resume_run_state(tmp_path, content(tmp_path), now=time.monotonic() - 10, options=OPTIONS, extended=False)
    later.devices = {"cpu": 8, "gpu": 0}
    later.write()
    assert content(tmp_path)["device_s"] == pytest.approx({"cpu": 200 + 80, "gpu": 100})
    third = resume_run_state(tmp_path, content(tmp_path), now=time.monotonic(), options=OPTIONS, extended=False)
    third.write()  # it was stopped before it held anything
    assert content(tmp_path)["device_s"] == pytest.approx({"cpu": 200 + 80, "gpu": 100})
    assert third.earlier_s == 110


def done(folder):
    """Leave a run that has done one stage."""
    run_state = RunState(folder=folder, options={}, began=time.monotonic())
    run_state.begin_stage("explore", {})
    run_state.end_stage({})
    run_state.end("done")


def test_more_budget_opens_all_stages_again(tmp_path):
    done(tmp_path)
    later = resume_run_state(tmp_path, content(tmp_path), now=time.monotonic(), options=OPTIONS, extended=True)
    assert later.round == 2 and not later.is_closed("explore")
    assert later.options == OPTIONS


def test_more_budget_for_a_stage_that_is_open_closes_it_and_opens_all_of_the_next_round(tmp_path):
    run_state = RunState(folder=tmp_path, options={}, began=time.monotonic() - 20)
    run_state.begin_stage("confirm", {"train_images": 9})
    later = resume_run_state(tmp_path, content(tmp_path), now=time.monotonic(), options=OPTIONS, extended=True)
    assert later.round == 2 and later.open_stage is None and not later.is_closed("confirm")
    assert later.stages[0]["wall_s"] >= 0 and later.get_recorded_sizes("confirm") == {"train_images": 9}


def test_notes_are_not_written_where_the_folder_is_not_the_runs_own_yet(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        RunState(folder=folder, options={}, began=0.0).end("failed")
    assert not (tmp_path / "none").exists() and not any((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (None, "no run there"),
        ("{", "is damaged"),
        ('{"state": "done"}', "has another format"),
        ('{"state": "stopped", "asked": {}}', "has another format"),
        ("[]", "has another format"),
        (f'{{"format_version": {FORMAT_VERSION}, "options": {{}}}}', "ended before its first stage"),
        (f'{{"format_version": {FORMAT_VERSION}, "state": "done", "options": {{}}, "data": {{}}}}', "extend it"),
    ],
)
def test_what_cannot_go_on_is_refused_in_one_line(written, says, tmp_path):
    if written is not None:
        (tmp_path / "run.json").write_text(written)
    (tmp_path / "report.html").touch()
    with pytest.raises(RunDirError) as caught:
        read_run_json(tmp_path, extended=False)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_folder_is_held_by_one_process_at_a_time(tmp_path):
    with claim(tmp_path / "run"), pytest.raises(RunDirError, match="another process"):
        hold(tmp_path / "run")
    with hold(tmp_path / "run"):
        pass
