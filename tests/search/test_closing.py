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
build = stage_runner.build_continued_specs
gone = Checkpoint.from_directory("/nowhere")
stage_runner.build_continued_specs = lambda *a, **m: [dataclasses.replace(s, parent=gone) for s in build(*a, **m)]
"""


def run(folder, patch, *arguments):
    """Run the command line in a folder, in a process that does something else in one place."""
    command = [sys.executable, "-c", STUB.format(root=str(ROOT), patch=patch), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANG_S, env=os.environ)


def trials(folder):
    return list(csv.DictReader((folder / "out" / "trials.csv").read_text().splitlines()))


def run_json(folder):
    return json.loads((folder / "out" / "run.json").read_text())


@pytest.fixture(scope="module")
def failed(tiny_dataset, tmp_path_factory):
    """Place of a run whose promoted trials have all failed, and its process; the tests below follow each other."""
    place = tmp_path_factory.mktemp("closing")
    options = ["--budget", "1trials", "--data", str(tiny_dataset), "--out", "out", "--keep", "1", "--px", "96"]
    options += ["--recipe", "quick_residual", "--width", "4"]
    options += [word for stage in ("explore", "confirm", "final") for word in ("--set", f"stage.{stage}.epochs=1")]
    return place, run(place, LOST_WEIGHTS, *options)


@pytest.mark.slow
@pytest.mark.ray
def test_stage_that_failed_as_a_whole_ends_the_run_before_the_test_part_is_read(failed):
    place, process = failed
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("error: every trial of the ")
    assert f"--resume {place / 'out'}" in process.stderr.splitlines()[-1]
    assert run_json(place)["state"] == "failed" and "test_read" not in run_json(place)
    assert not (place / "out" / "best").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_run_that_failed_and_is_ended_at_every_step_of_its_closing_is_finished_from_its_checkpoints(failed):
    place, resume = failed[0], ["--resume", "../out"]
    (place / "else").mkdir()
    assert run(place / "else", KILL.format(where="select_best", name="SIGKILL"), *resume).returncode == -9
    before = trials(place)
    assert [row["status"] == "failed" for row in before][:3] == [False, True, False]
    assert before[1]["stage"] == before[2]["stage"] != "explore"
    assert run_json(place)["state"] == "running" and not (place / "out" / "best").exists()
    stopped = run(place / "else", KILL.format(where="write_model_folder", name="SIGINT"), *resume)
    assert stopped.returncode == 130 and "Traceback" not in stopped.stderr and run_json(place)["state"] == "stopped"
    assert run(place / "else", KILL.format(where="list_pareto_front", name="SIGKILL"), *resume).returncode == -9
    best = (place / "out" / "best" / "model.safetensors").stat().st_mtime_ns
    assert run(place / "else", REPORT, *resume).returncode == -9
    assert run_json(place)["state"] == "done" and not (place / "out" / "report.html").exists()
    ended = run(place / "else", "", *resume)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr and (place / "out" / "report.html").exists()
    assert trials(place) == before and run_json(place)["best"][0] in "fr"
    assert (place / "out" / "best" / "model.safetensors").stat().st_mtime_ns == best
    assert run(place / "else", "", *resume).returncode == 2
