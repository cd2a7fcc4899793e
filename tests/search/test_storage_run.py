"""A run whose data, checkpoints, records and packs are in an S3 server: killed here, continued on another machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from data.runtime.storage import join, open_place
from search.training.trainer import STATE_FILE
from tests.waiting import HANG_S, wait_until

RUN = """
import sys
from functools import partial
from search.records import mirror
from search.run import main
from search.tuning import stage_setup
mirror.SYNC_S = 1.0
stage_setup.StageContext = partial(stage_setup.StageContext, checkpoint_s=0.0)
sys.exit(main())
"""
EPOCHS = 12
KEYS = {"AWS_ACCESS_KEY_ID": "key-of-the-test", "AWS_SECRET_ACCESS_KEY": "secret-of-the-test"}


@pytest.fixture
def bucket(monkeypatch):
    """URI of a bucket of Moto's server, with which Ray tests its own use of S3."""
    pytest.importorskip("moto.server", reason="no S3 server: pip install -e '.[test]'")
    for name, value in (KEYS | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
        monkeypatch.setenv(name, value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        wait_until(lambda: _make_bucket(f"http://127.0.0.1:{port}/bucket"))
        yield f"s3://bucket?scheme=http&endpoint_override=127.0.0.1:{port}"
        server.kill()


def _make_bucket(url):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, method="PUT")).status == 200
    except OSError:
        return False


class Machine:
    """A machine with its own working directory, cache and temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def start(self, *options):
        environment = os.environ | {"ONE_LOOK_CACHE": str(self.folder / "cache")}
        command = [sys.executable, "-c", RUN, *options]
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


def read_lines(place, name):
    return [json.loads(line) for line in place.read(name).splitlines()] if place.has(name) else []


@pytest.mark.ray
@pytest.mark.slow
def test_run_that_was_killed_goes_on_on_a_machine_that_has_nothing_of_it(bucket, tiny_dataset, tmp_path):
    data, run = open_place(join(bucket, "set")), open_place(join(bucket, "runs", "one"))
    for path in tiny_dataset.rglob("*.*"):
        data.upload(path, str(path.relative_to(tiny_dataset)))
    first, second = Machine(tmp_path / "first"), Machine(tmp_path / "second")
    options = ["--budget", "1trials", "--recipe", "quick_residual", "--width", "4", "--stages", "single"]
    options += ["--set", f"stage.explore.epochs={EPOCHS}", "--px", "96"]
    process = first.start(*options, "--data", join(bucket, "set"), "--storage", join(bucket, "runs"), "--out", "one")

    def ended():
        return process.poll() is not None

    try:
        wait_until(
            lambda: {"reports.jsonl", STATE_FILE} <= {Path(name).name for name in run.list_files()}, or_until=ended
        )
    finally:
        process.send_signal(signal.SIGKILL)
        printed = process.communicate(timeout=HANG_S)[0]
    reported = len(read_lines(run, "reports.jsonl"))
    assert 0 < reported < EPOCHS, printed
    process = second.start("--resume", join(bucket, "runs", "one"))
    printed = process.communicate(timeout=HANG_S)[0]
    assert process.returncode == 0, printed
    folder = second.folder / "runs" / "one"
    assert "unfinished: 1" in printed and (folder / "best" / "model.safetensors").is_file()
    assert run.read("run.json") == (folder / "run.json").read_bytes() and run.has("report.html")
    content = json.loads(run.read("run.json"))
    assert content["state"] == "done" and len(content["earlier"]) == 1
    assert not any(key in path.read_text() for key in KEYS.values() for path in folder.glob("*.json*"))
    assert not (folder / "ray").exists() and not (first.folder / "one" / "ray").exists()
    packs = {Path(name).name for name in open_place(join(bucket, "runs", "packs")).list_files()}
    assert {"pack.json", "0000000.npy"} <= packs
