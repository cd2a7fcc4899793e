"""The benchmark of a GPU, on the CPU."""

import json
import subprocess
import sys

import pytest
import torch

from tests.benchmarks.gpu_step import DrawnPack, compare_losses, measure_copies, measure_rates
from tests.waiting import HANG_S

WITHOUT_RAY = """
import sys
sys.modules |= {"ray": None, "optuna": None, "albumentations": None}  # their import fails
from tests.benchmarks import gpu_step
gpu_step.PARITY_STEPS = 2
sys.argv = ["gpu_step", "--seconds", "0.01", "--out", sys.argv[1]]
gpu_step.main()
"""


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_it_runs_where_there_is_no_ray_and_writes_what_the_time_allowed(tmp_path):
    command = [sys.executable, "-c", WITHOUT_RAY, str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "out.json").read_text())
    assert [line["measured"] for line in lines[:3]] == ["device", "parity", "throughput"]
    assert len(done.stdout.splitlines()) == len(lines)


def test_losses_on_the_same_device_are_equal():
    found = compare_losses("quick_residual", torch.device("cpu"), steps=3)
    assert found["first"] == found["largest"] == 0.0 and found["loss_cpu"] > 0


def test_rates_are_of_steps_that_were_made():
    found = measure_rates("quick_residual", 32, 2, 0.0)
    assert found["bare"] > 0 and found["fit"] > 0 and found["peak_mib"] > 0


@pytest.mark.slow
def test_copies_run_at_the_same_time():
    found = measure_copies("quick_residual", 2, 4, 0.2)
    assert found["copies"] == 2 and found["bare"] > 0


def test_drawn_images_have_foreground_and_depth():
    raw = DrawnPack(32, 20).gather(torch.arange(20).numpy())
    assert 0 < (raw.mask > 0).mean() < 0.3 and (raw.depth > 0).all() and len({*raw.depth.ravel()}) > 10
