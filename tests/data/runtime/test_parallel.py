import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.dataset import DataError
from data.runtime.parallel import parallel_map

ROOT = Path(__file__).resolve().parents[3]
PARENT = """
import os, sys, time
from pathlib import Path
from data.runtime.parallel import parallel_map

def note_and_wait(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    list(parallel_map(note_and_wait, [sys.argv[1] + "/1", sys.argv[1] + "/2"], 2))
"""


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


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads /proc")
def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    places = tmp_path / "1", tmp_path / "2"
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=path) as parent:
        wait_for(lambda: all(place.is_file() and place.read_text() for place in places))
        parent.kill()
    workers = {int(place.read_text()) for place in places}
    assert len(workers) == 2 and parent.pid not in workers
    wait_for(lambda: all(map(ended, workers)))
    assert all(map(ended, workers))
