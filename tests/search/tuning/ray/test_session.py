"""How Ray is started, and what it leaves on the machine."""

import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from search.tuning.ray.session import QUIET_S, _advise, _choose_temporary_folder, _protect_token, start
from tests.waiting import HANG_S


def test_cluster_that_does_not_answer_is_reported_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConnectionError, match=f"{place} does not answer"):
        start(place)


STARTED = """
import dataclasses, json, os, shutil, subprocess
from search.tuning.ray import session
def process():
    return os.getpid(), os.nice(0)
def addresses():
    if not shutil.which("ss"):
        return set()
    lines = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True).stdout.splitlines()
    return {line.split()[3] for line in lines}
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
before = addresses()
mine = session.start(None)
listening = sorted(addresses() - before)
pid, niceness = dataclasses.replace(mine, local=False).call(process)
session.stop()
print(json.dumps({
    "cores": [mine.cpus, mine.workers, mine.count_threads(1)],
    "listening": listening,
    "remote": pid != os.getpid(),
    "niceness": niceness - os.nice(0),
    "dashboard": mine.dashboard,
}))
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """What a process with one core has found that starts Ray.

    The temporary folder has a long path; the environment's own path has a space and other characters of the shell.
    """
    folder = tmp_path_factory.mktemp("a_job_folder_of_a_user_with_a_long_name") / "1355700" / "scratch" / "temporary"
    folder.mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"} | {"TMPDIR": str(folder)}
    prefix = tmp_path_factory.mktemp("it's") / "my $HOME & venv"
    prefix.symlink_to(sys.prefix, target_is_directory=True)
    python = prefix / Path(sys.executable).relative_to(sys.prefix)
    process = subprocess.run([python, "-c", STARTED], capture_output=True, text=True, env=environment, timeout=HANG_S)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.ray
@pytest.mark.slow
def test_function_called_on_a_cluster_runs_on_a_worker_that_yields_a_little_to_other_programs(started):
    assert started["remote"] and started["niceness"] == 5


@pytest.mark.ray
@pytest.mark.slow
def test_ray_has_the_cores_that_the_process_may_use(started):
    assert started["cores"] == [1, 1, 1]


@pytest.mark.ray
@pytest.mark.slow
def test_local_ray_listens_on_loopback_only(started):
    if not shutil.which("ss"):
        pytest.skip("ss is not installed, which lists what listens")
    assert started["listening"]
    assert all("127.0.0.1" in address for address in started["listening"]), started["listening"]


@pytest.mark.slow
@pytest.mark.ray
def test_ray_starts_with_its_dashboard_where_the_temporary_folder_has_a_long_path(started):
    assert started["dashboard"].startswith("http://127.0.0.1:")


NOT_UP = """
import sys, ray
def init(**_):
    raise Exception("The current node timed out during startup. This could happen because\\nof many things")
ray.init = init
from search.run import main
sys.exit(main(sys.argv[1:]))
"""


def test_ray_that_does_not_come_up_is_one_line_and_leaves_nothing(tiny_dataset, tmp_path):
    options = ["--budget", "60s", "--data", str(tiny_dataset), "--out", str(tmp_path / "out")]
    process = subprocess.run([sys.executable, "-c", NOT_UP, *options], capture_output=True, text=True, timeout=HANG_S)
    assert process.returncode == 2 and process.stderr.count("\n") <= 2  # one line may describe the data
    assert "Ray does not start: The current node timed out during startup" in process.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: /long"), "set RAY_TMPDIR to a short path"),
        (OSError(errno.EROFS, "Read-only file system", "/home/me/.ray"), "set HOME to a folder that can be written"),
        (
            OSError(errno.EACCES, "Permission denied", "{tmp}/ray"),
            "{tmp}/ray may belong to another user: set",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "free some space in {tmp}, or set RAY_TMPDIR"),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed"), "a folder whose name is UTF-8"),
        (Exception("The current node timed out during startup"), "try again when the machine is less busy"),
    ],
)
def test_advice_fits_the_reason_why_ray_does_not_start(error, advice, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(tmp=tmp_path)
    assert advice.format(tmp=tmp_path) in _advise(error)


def test_long_temporary_folder_is_left_for_a_short_one(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a_job_folder_of_a_user_with_a_long_name" / "1355700"))
    monkeypatch.setattr("os.environ", os.environ | {})
    _choose_temporary_folder()
    assert os.environ["RAY_TMPDIR"] == os.environ["TMPDIR"] == f"/tmp/one-look-{os.getuid()}"


@pytest.fixture
def temporary(monkeypatch):
    """A temporary folder for all users, which Ray may use."""
    monkeypatch.setattr("os.environ", {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"})
    with tempfile.TemporaryDirectory() as folder:  # pytest's own have too long a path
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


def test_ray_has_a_temporary_folder_that_no_other_user_can_enter(temporary):
    own = temporary / f"one-look-{os.getuid()}"
    for _ in range(2):
        _choose_temporary_folder()
        assert os.environ.pop("RAY_TMPDIR") == str(own) and stat.S_IMODE(own.stat().st_mode) == 0o700
        own.chmod(0o777)


def test_temporary_folder_that_somebody_else_has_made_is_not_used(temporary):
    (temporary / "theirs").mkdir()
    (temporary / f"one-look-{os.getuid()}").symlink_to(temporary / "theirs")
    with pytest.raises(ConnectionError, match=r"Ray does not start: .*one-look-.*; set RAY_TMPDIR to a folder of your"):
        _choose_temporary_folder()
    assert not list((temporary / "theirs").iterdir()) and "RAY_TMPDIR" not in os.environ


def test_logs_of_rays_that_have_ended_are_deleted(temporary):
    ended = [subprocess.Popen(["true"]) for _ in range(2)]
    for process in ended:
        process.wait()
    ray, now = temporary / f"one-look-{os.getuid()}" / "ray", time.time()
    for process, quiet_s in ((ended[0].pid, QUIET_S + 60), (ended[1].pid, 0), (os.getpid(), 9 * QUIET_S)):
        logs = ray / f"session_2026-11-29_10-23-00_123456_{process}" / "logs"
        logs.mkdir(parents=True)
        (logs / "raylet.out").touch()
        os.utime(logs / "raylet.out", (now - quiet_s, now - quiet_s))
    _choose_temporary_folder()
    left = {int(path.name.rpartition("_")[2]) for path in ray.iterdir()}
    assert left == {ended[1].pid, os.getpid()}  # a process of another container is not found


def test_logs_that_another_process_deletes_meanwhile_do_not_end_the_start(temporary):
    logs = temporary / f"one-look-{os.getuid()}" / "ray" / "session_2026-11-29_10-23-00_123456_1" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").symlink_to(logs / "gone")
    _choose_temporary_folder()
    assert "RAY_TMPDIR" in os.environ


def test_only_this_user_reads_the_token_of_ray(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    _protect_token()  # before Ray has written it
    assert stat.S_IMODE((tmp_path / ".ray").stat().st_mode) == 0o700
    token = tmp_path / ".ray" / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    _protect_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_temporary_folder_without_space_is_named_before_ray_starts(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("search.tuning.ray.session.count_free_bytes", lambda path: 10**6)
    with pytest.raises(ConnectionError, match=f"{tmp_path} has 1 MB free and needs 20 MB; free some"):
        _choose_temporary_folder()
