"""The clock of a run: no change of the machine's date moves it, and start-up counts even if it is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import cloudpickle

from data.data_module import DataModule
from search.config.budget import parse_budget, plan_deadlines
from search.config.stages import Stage, build_stages
from search.experiment import Experiment
from search.records.run_dir import claim
from search.records.run_state import RunState, resume_run_state
from search.tuning.allocation import StopCriterion
from search.tuning.ray import trial_spec
from search.tuning.ray.trial_spec import StageContext
from tests.waiting import HANG_S, read_reports, wait_for_report

ROOT = Path(__file__).resolve().parents[2]
STAGE = Stage(name="explore", kind="search", fraction=1.0, px=32, epochs=1)
JUMPS = (3600.0, -3600.0)


def context(deadline):
    return StageContext(stage=STAGE, data=None, deadline=deadline, limit_s=None, threads=1, device="cpu")


@pytest.mark.parametrize("jump", JUMPS)
def test_jump_of_the_date_changes_no_time_of_a_run(jump, tmp_path, monkeypatch, fit_data, tiny_dataset, clock):
    run_state = RunState(folder=tmp_path, options={}, began=time.monotonic() - 10)
    deadlines = plan_deadlines(start=run_state.began, wall_s=100, shares={"explore": 1.0})
    end = run_state.began + 100
    inside, closed = context(end), StopCriterion(None, end)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert run_state.used_s == pytest.approx(10)
    assert inside.compute_limit_s() == pytest.approx(90)
    assert not closed(0)
    later = plan_deadlines(start=run_state.began, wall_s=100, shares={"explore": 1.0})
    assert later == deadlines
    data = DataModule(tiny_dataset, seed=0).load_stage_data(fraction=1.0, px=28, deadline=time.monotonic() + 60)
    assert len(data.train) == len(fit_data.train)


def test_deadlines_come_back_from_what_is_on_record(clock):
    run_state = SimpleNamespace(began=clock.now, deadlines=None)
    run, budget = SimpleNamespace(run_state=run_state, stages=build_stages()), parse_budget("5m")
    planned = Experiment._plan_deadlines(run, budget)
    assert set(run_state.deadlines) == {*planned, "end"} and run_state.deadlines["end"] == 300
    run_state.began += 5000  # it lay still
    clock.now += 5100
    moved = {name: end + 5000 for name, end in planned.items()}
    assert Experiment._plan_deadlines(run, budget) == pytest.approx(moved, abs=0.01)
    assert Experiment._plan_deadlines(run, parse_budget("20m"))["final"] > moved["final"]


def test_worker_on_this_machine_gets_the_moment_and_another_machine_the_seconds(monkeypatch, clock):
    deadline = clock.now + 50
    sent = cloudpickle.dumps(context(deadline))
    assert (
        cloudpickle.loads(sent).deadline == deadline
        and cloudpickle.loads(cloudpickle.dumps(context(None))).deadline is None
    )
    monkeypatch.setattr(trial_spec, "BOOT_ID", "another boot")
    monkeypatch.setattr(time, "monotonic", lambda: 7.0)
    assert cloudpickle.loads(sent).deadline == pytest.approx(57)
    assert cloudpickle.loads(sent).compute_limit_s() == pytest.approx(50)


def test_start_up_of_a_resumed_process_counts_from_its_first_moment_even_if_it_is_killed(tmp_path, clock):
    with claim(tmp_path):
        pass
    first = RunState(folder=tmp_path, options={}, began=time.monotonic() - 100)
    first.devices, first.data = {"cpu": 2, "gpu": 0}, {}
    first.write()
    content = json.loads((tmp_path / "run.json").read_text())
    killed = resume_run_state(tmp_path, content, now=time.monotonic() - 5, options={}, extended=False)
    killed.start_clock()  # and no word of it afterwards
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["wall_s"] == pytest.approx(105) and written["state"] == "running"
    assert written["device_s"]["cpu"] == pytest.approx(200 + 10) and len(written["earlier"]) == 1
    killed._ended.set()


def test_process_that_ends_before_it_begins_leaves_run_json_as_it_was(tmp_path):
    with claim(tmp_path):
        pass
    RunState(folder=tmp_path, options={}, began=time.monotonic() - 100).end("stopped")
    before = (tmp_path / "run.json").read_bytes()
    later = resume_run_state(tmp_path, json.loads(before), now=time.monotonic(), options={}, extended=False)
    later.start_clock()
    later.withdraw(before)
    assert (tmp_path / "run.json").read_bytes() == before


JUMPING = """
import os, time
real = time.time
time.time = lambda: real() + 3600.0 * os.path.exists({forward!r}) - 7200.0 * os.path.exists({back!r})
"""


@pytest.mark.slow
@pytest.mark.ray
def test_run_keeps_its_budget_when_the_date_jumps_forward_and_back(tiny_dataset, tmp_path, stretch):
    forward, back, out = tmp_path / "forward", tmp_path / "back", tmp_path / "out"
    (tmp_path / "sitecustomize.py").write_text(JUMPING.format(forward=str(forward), back=str(back)))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    budget_s, begin = stretch(60), time.monotonic()
    options = ["--budget", f"{budget_s}s", "--data", str(tiny_dataset), "--out", str(out), "--recipe", "quick_unet"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "search" / "run.py"), *options],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_report(out, process)
    forward.touch()  # an hour later, in all processes of the run
    wait_for_report(out, process, also=lambda: any('"stage": "final"' in line for line in read_reports(out)))
    back.touch()  # two hours earlier
    _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, stderr
    assert time.monotonic() - begin < budget_s + stretch(40)
    content = json.loads((out / "run.json").read_text())
    assert "final" in [stage["name"] for stage in content["stages"]]
    most_s = 1.1 * budget_s
    assert 0 < content["wall_s"] < most_s and 0 < content["device_s"]["cpu"] < most_s * content["devices"]["cpu"]
