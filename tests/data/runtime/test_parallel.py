"""Tests of data.runtime.parallel."""

import json
import operator
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.compose.__main__ import main
from data.dataset import DataError
from data.runtime.parallel import check_answer, parallel_map
from tests.waiting import HANG_S, list_left_behind, list_ray_processes, wait_until

ROOT = Path(__file__).resolve().parents[3]
PARENT = """
import os, sys, time
from pathlib import Path
from data.runtime.parallel import parallel_map, start_processes

def note_and_wait(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(3600)

if __name__ == "__main__":
    {}
"""
MAPPED = 'list(parallel_map(note_and_wait, [sys.argv[1] + "/1", sys.argv[1] + "/2"], 2))'
STARTED = 'list(start_processes(2, "json").map(note_and_wait, [sys.argv[1] + "/1", sys.argv[1] + "/2"]))'


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once(workers):
    assert sorted(parallel_map(operator.neg, range(30), workers)) == [(n, -n) for n in range(30)]


def test_nothing_to_do_is_done():
    assert list(parallel_map(operator.neg, [], 2)) == []


def test_worker_that_was_ended_is_one_line():
    with pytest.raises(DataError, match="fewer --workers"):
        list(parallel_map(signal.raise_signal, [signal.SIGKILL] * 4, 2))


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads /proc")
@pytest.mark.parametrize("use", [MAPPED, STARTED], ids=["parallel_map", "start_processes"])
def test_workers_end_with_a_parent_that_was_killed(use, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(use))
    places = tmp_path / "1", tmp_path / "2"
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=path) as parent:
        wait_until(lambda: all(place.is_file() and place.read_text() for place in places))
        parent.kill()
    workers = {int(place.read_text()) for place in places}
    assert len(workers) == 2 and parent.pid not in workers
    wait_until(lambda: all(map(ended, workers)))


ROOT = Path(__file__).resolve().parents[3]
PX = 48
HEAD = """
import ray
options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20, "log_to_driver": False}
print(ray.init(address="local", **options).address_info["gcs_address"], flush=True)
input()
"""
DRIVER = """
import json, operator, os, sys
from pathlib import Path
from data.dataset import DataError
from data.values.header import read_bytes
from data.runtime.parallel import open_workers
from data.runtime.parallel import parallel_map

def said(*arguments, **options):
    try:
        return sorted(parallel_map(*arguments, **options))
    except DataError as error:
        return [type(error).__name__, str(error)]

def die_once(path):
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), 9)
    return path

with open_workers(None, sys.argv[1]) as cluster:
    Path("here").mkdir()
    print(json.dumps({
        "unseen": said(operator.neg, [1], cluster, folder=Path("/proc/self/cwd/here")),
        "done": said(operator.neg, range(30), cluster),
        "broken": said(read_bytes, [Path("nowhere.jpg")], cluster),
        "again": said(die_once, ["once"], cluster, folder=Path("here")),
        "nothing": said(operator.neg, [], cluster),
    }))
"""


@pytest.fixture(scope="module")
def environment():
    """Of all that belongs to the cluster: its token, the program, and loopback instead of the whole network."""
    private = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(32).hex(), "RAY_USAGE_STATS_ENABLED": "0"}
    return os.environ | private | {"PYTHONPATH": str(ROOT), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@pytest.fixture(scope="module")
def address(environment):
    """A cluster of this machine; none of its processes outlives it."""
    before = list_ray_processes()
    command = [sys.executable, "-c", HEAD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, cwd="/", env=environment, **pipes) as head:
        yield head.stdout.readline().strip()
        head.communicate("\n")
    assert not list_left_behind(before)


@pytest.fixture
def sources(tmp_path):
    """Four photos and two cut-outs, named as from `tmp_path`."""
    for number in range(4):
        write(tmp_path / f"bg/photo{number}.jpg", np.full((60, 80, 3), 40 * number, np.uint8))
    for number in range(2):
        rgba = np.full((40, 40, 4), 120 * number, np.uint8)
        rgba[..., 3] = np.pad(np.full((30, 20), 255, np.uint8), ((5, 5), (10, 10)))
        write(tmp_path / f"fg/thing{number}.png", rgba)
    return ["--backgrounds", "bg", "--foregrounds", "fg", "--depth", "none", "--size", str(PX), "--count", "170"]


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def read_all(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.ray
def test_cluster_composes_the_same_as_this_process(address, environment, sources, tmp_path, monkeypatch):
    command = [sys.executable, "-m", "data.compose", *sources, "--out", "there", "--address", address]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANG_S)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    monkeypatch.chdir(tmp_path)
    assert main([*sources, "--out", "here", "--workers", "1"]) == 0
    assert read_all(tmp_path / "there") == read_all(tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bg", "fg", "here", "there"]


@pytest.mark.ray
def test_cluster_does_jobs_as_processes_do(address, environment, tmp_path):
    command = [sys.executable, "-c", DRIVER, address]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANG_S)
    assert process.returncode == 0, process.stderr
    said = json.loads(process.stdout.splitlines()[-1])  # before it Ray tells of the worker that was lost
    assert said["done"] == [[number, -number] for number in range(30)]
    assert said["again"] == [["once", "once"]]
    assert said["nothing"] == []
    assert said["broken"][0] == "DataError" and said["broken"][1].startswith("nowhere.jpg: cannot be read")
    assert said["unseen"][0] == "DataError" and "cannot see /proc/self/cwd/here" in said["unseen"][1]
    assert all("\n" not in said[name][1] for name in ("broken", "unseen"))


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_cluster_that_does_not_answer_is_one_line(sources, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = f"127.0.0.1:{closed_port()}"
    assert main([*sources, "--out", "out", "--address", place]) == 2
    error = capsys.readouterr().err
    assert f"{place} does not answer" in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bg", "fg"]


def test_only_a_place_that_can_be_asked_is_asked(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for place in ("auto", "local", "ray://head"):
        check_answer(place)
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_answer(f"127.0.0.1:{server.getsockname()[1]}")
        check_answer(f"ray://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port()}")
    with pytest.raises(ConnectionError, match="does not answer"):
        check_answer("auto")


def test_processes_and_a_cluster_at_once_are_refused(sources, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*sources, "--out", "out", "--workers", "2", "--address", "auto"])
    assert exit_.value.code == 2 and "not allowed with" in capsys.readouterr().err
