"""A run that is ended in its closing, or by a stage that failed as a whole, is resumed and finished."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[2]
STUB = """
import os, signal, sys
sys.path.insert(0, {root!r})
from search.run import main
{patch}
sys.exit(main(sys.argv[1:]))
"""
KILL = """
import search.output.finalize as finalize
finalize.{where} = lambda *args, **more: os.kill(os.getpid(), signal.{name})
"""
REPORT = "import analysis.report.report as report; report.write_report = lambda *args: os.kill(os.getpid(), 9)"
LOST_WEIGHTS = """
import dataclasses
from ray.tune import Checkpoint
import search.tuning.stage_runner as stage_runner
build = stage_runner.build_promoted_specs
gone = Checkpoint.from_directory("/nowhere")
stage_runner.build_promoted_specs = lambda *a, **m: [dataclasses.replace(s, parent=gone) for s in build(*a, **m)]
"""


def run(folder, patch, *arguments):
    """Run the command line in a folder, in a process that does something else in one place."""
    command = [sys.executable, "-c", STUB.format(root=str(ROOT), patch=patch), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANG_S, env=os.environ)


def trials(folder):
    return list(csv.DictReader((folder / "out" / "trials.csv").read_text().splitlines()))


def run_json(folder):
    return json.loads((folder / "out" / "run.json").read_text())


def new(tiny_dataset, budget_s):
    recipe = ["--recipe", "quick_residual", "--width", "4", "--keep", "1"]
    return ["--budget", f"{budget_s}s", "--data", str(tiny_dataset), "--out", "out", *recipe]


@pytest.mark.slow
@pytest.mark.ray
def test_run_that_is_ended_at_every_step_of_its_closing_is_finished_from_its_checkpoints(
    tiny_dataset, tmp_path, stretch
):
    (tmp_path / "else").mkdir()
    resume = ["--resume", "../out"]
    assert (
        run(tmp_path, KILL.format(where="select_best", name="SIGKILL"), *new(tiny_dataset, stretch(45))).returncode
        == -9
    )
    before = trials(tmp_path)
    assert run_json(tmp_path)["state"] == "running" and not (tmp_path / "out" / "best").exists()
    stopped = run(tmp_path / "else", KILL.format(where="write_model_folder", name="SIGINT"), *resume)
    assert stopped.returncode == 130 and "Traceback" not in stopped.stderr and run_json(tmp_path)["state"] == "stopped"
    assert run(tmp_path / "else", KILL.format(where="list_pareto_front", name="SIGKILL"), *resume).returncode == -9
    best = (tmp_path / "out" / "best" / "model.safetensors").stat().st_mtime_ns
    assert run(tmp_path / "else", REPORT, *resume).returncode == -9
    assert run_json(tmp_path)["state"] == "done" and not (tmp_path / "out" / "report.html").exists()
    ended = run(tmp_path / "else", "", *resume)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr and (tmp_path / "out" / "report.html").exists()
    assert trials(tmp_path) == before
    assert (tmp_path / "out" / "best" / "model.safetensors").stat().st_mtime_ns == best
    assert run(tmp_path / "else", "", *resume).returncode == 2


@pytest.mark.slow
@pytest.mark.ray
def test_stage_that_failed_as_a_whole_ends_the_run_before_the_test_part_is_read(tiny_dataset, tmp_path, stretch):
    failed = run(tmp_path, LOST_WEIGHTS, *new(tiny_dataset, stretch(45)))
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: every trial of the ")
    assert f"--resume {tmp_path / 'out'}" in failed.stderr.splitlines()[-1]
    assert run_json(tmp_path)["state"] == "failed" and "test_read" not in run_json(tmp_path)
    assert not (tmp_path / "out" / "best").exists()
    resumed = run(tmp_path, "", "--resume", "out")
    assert resumed.returncode == 0, resumed.stderr
    assert [row["status"] == "failed" for row in trials(tmp_path)][:3] == [False, True, False]
    assert trials(tmp_path)[1]["stage"] == trials(tmp_path)[2]["stage"] != "explore"
    assert run_json(tmp_path)["best"][0] in "fr"
