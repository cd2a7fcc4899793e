"""The cores that a process may use, by affinity and control group."""

import os
import subprocess
import sys

import pytest

from data.runtime import process
from data.runtime.process import count_cores


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """Return a function that puts this process in a control group with these files."""
    monkeypatch.setattr(process, "CGROUPS", tmp_path)
    monkeypatch.setattr(process, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    def put(line, files):
        (tmp_path / "own").write_text(line)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return put


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/job/step\n", {"job/cpu.max": "200000 100000", "job/step/cpu.max": "max 100000"}, 2),
        ("0::/job/step\n", {"job/cpu.max": "600000 100000", "job/step/cpu.max": "50000 100000"}, 1),
        ("3:cpu:/job\n", {"cpu/job/cpu.cfs_quota_us": "400000", "cpu/job/cpu.cfs_period_us": "100000"}, 4),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("0::/\n", {"cpu.max": "damaged"}, 8),
    ],
)
def test_control_group_limits_the_cores(line, files, expected, cgroup):
    cgroup(line, files)
    assert count_cores() == expected


def test_affinity_limits_the_cores():
    code = "from data.runtime.process import count_cores; print(count_cores())"
    first = min(os.sched_getaffinity(0))
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {first}),
    )
    assert process.stdout.strip() == "1", process.stderr
