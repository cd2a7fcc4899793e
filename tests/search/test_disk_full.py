"""Disks that are full: one line, a run that is stopped and can be resumed, and nothing half written."""

import errno
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from search.records.disk import DiskFullError, check_disk, find_full_disk, format_bytes
from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[2]
CAN_MOUNT = subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
mounts = pytest.mark.skipif(not CAN_MOUNT, reason="mounting a small disk needs root")


def run_on_small_disk(folder, size, mounted, *arguments, after="true", **environment):
    """Run the command line where `mounted` is a disk of `size`; then `after`, before the disk is gone."""
    command = shlex.join([sys.executable, str(ROOT / "search" / "run.py"), *map(str, arguments)])
    mounted.mkdir(parents=True, exist_ok=True)
    place = shlex.quote(str(mounted))
    script = f"mount -t tmpfs -o size={size} tmpfs {place} && {command}; code=$?; {after}; exit $code"
    return subprocess.run(
        ["unshare", "-m", "bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        cwd=folder,
        env=os.environ | environment,
    )


def last_line(process):
    """Return the last line on stderr, after one about the data at most."""
    assert process.stderr.count("\n") <= 2, process.stderr
    return process.stderr.splitlines()[-1]


def test_full_disk_is_found_in_what_caused_an_exception(tmp_path):
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ValueError("Ray gave up") from error
    except ValueError as error:
        assert "no space left in " in find_full_disk(error, tmp_path)
    assert find_full_disk(DiskFullError("no space left in x"), tmp_path) == "no space left in x"
    assert find_full_disk(OSError(errno.EACCES, "Permission denied"), tmp_path) == ""
    assert find_full_disk(RuntimeError("PytorchStreamWriter failed writing file data/0"), tmp_path)


def test_planned_disk_is_compared_with_the_free_one(tmp_path):
    assert check_disk(1.0, tmp_path / "not yet there") == ""
    warning = check_disk(1e18, tmp_path / "not yet there")
    assert "free" in warning and format_bytes(1e18) in warning and str(tmp_path) in warning


@mounts
@pytest.mark.slow
@pytest.mark.ray
def test_run_folder_that_is_full_stops_the_run_with_one_line(tiny_dataset, tmp_path):
    small = tmp_path / "small"
    new = ["--budget", "2trials", "--data", tiny_dataset, "--out", "small/run", "--max-params", "100k", "--px", "96"]
    new += ["--set", "stage.confirm.epochs=1", "--set", "stage.final.epochs=1"]
    after = f"cp -r {shlex.quote(str(small / 'run'))} {shlex.quote(str(tmp_path / 'kept'))}"
    process = run_on_small_disk(tmp_path, "1m", small, *new, after=after)
    assert process.returncode == 1
    line = last_line(process)
    assert line.startswith("error: no space left in the run folder") and f"--resume {small / 'run'}" in line
    assert "warning:" in process.stdout and "the run may need" in process.stdout
    content = json.loads((tmp_path / "kept" / "run.json").read_text())
    assert content["state"] == "stopped"
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.suffix in (".part", ".partial")]
    lines = [json.loads(line) for line in (tmp_path / "kept" / "trials.jsonl").read_text().splitlines() if line]
    assert not [line for line in lines if line.get("status") == "failed" and "config" not in line]
    resumed = subprocess.run(
        [sys.executable, str(ROOT / "search" / "run.py"), "--resume", "kept"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=HANG_S,
    )
    assert resumed.returncode == 0, resumed.stderr


@mounts
@pytest.mark.slow
@pytest.mark.ray
def test_cache_that_is_full_ends_the_run_before_it_begins(tiny_dataset, tmp_path):
    new = ["--budget", "60s", "--data", tiny_dataset, "--out", "run"]
    cache = tmp_path / "cache"
    after = f"find {shlex.quote(str(cache))} -name '*.part*'"
    process = run_on_small_disk(tmp_path, "100k", cache, *new, after=after, ONE_LOOK_CACHE=str(cache))
    assert process.returncode == 1 and process.stdout.count("\n") == 1
    line = last_line(process)
    assert line.startswith(f"error: no space left in the cache (ONE_LOOK_CACHE) {cache}")
    assert not (tmp_path / "run").exists()


@mounts
@pytest.mark.slow
def test_temporary_folder_that_is_full_is_named_at_once(tiny_dataset, tmp_path):
    new = ["--budget", "60s", "--data", tiny_dataset, "--out", "run"]
    with tempfile.TemporaryDirectory() as small:  # pytest's own have too long a path for Ray's sockets
        process = run_on_small_disk(tmp_path, "1m", Path(small), *new, RAY_TMPDIR=small)
    assert process.returncode == 2
    line = last_line(process)
    assert small in line and "RAY_TMPDIR" in line and "free" in line
