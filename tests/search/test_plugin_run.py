"""A run with the plugins of CONTRIBUTING.md and a settings file, and what reads its folder afterwards."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"```python (\S+)\n(.*?)```", re.S)
SETTINGS = """
budget = "2trials"
workers = 1
px = 96
data = "../scènes"
stage.explore.epochs = 1
stage.confirm.epochs = 1
stage.final.epochs = 1
[space]
model.arch = "tiny"
"tiny.width" = 4
loss.depth_structural = "slopes"
"""

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def typed(*words, cwd, cache):
    """Run a command as a user types it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "ONE_LOOK_CACHE": str(cache)}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=HANG_S)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_dataset):
    """A folder with a data set, plugins and a settings file, and the run that they give."""
    place = tmp_path_factory.mktemp("chez moi é")
    shutil.copytree(tiny_dataset, place / "scènes")
    (place / "mine").mkdir()
    for name, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        (place / "mine" / Path(name).name).write_text(text, encoding="utf-8")
    (place / "mine" / "search.toml").write_text(SETTINGS, encoding="utf-8")
    words = ["--config", "mine/search.toml", "--plugin", "mine/tiny.py", "--plugin", "mine/slopes.py", "--out", "run"]
    done = typed(ROOT / "search" / "run.py", *words, cwd=place, cache=place / "cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("your code runs in every process: ") == 2
    return place


def test_run_trains_what_the_plugins_and_the_settings_say(place):
    with (place / "run" / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(r["model/arch"], r["model/width"], r["loss/depth_structural"]) for r in rows} == {("tiny", "4", "slopes")}
    assert {r["status"] for r in rows} <= {"completed", "stopped"} and {r["px"] for r in rows} >= {"48", "96"}
    recorded = json.loads((place / "run" / "run.json").read_text(encoding="utf-8"))["options"]["plugins"]
    assert recorded.keys() == {"tiny.py", "slopes.py"}
    assert (place / "run" / "plugins" / "tiny.py").read_bytes() == (place / "mine" / "tiny.py").read_bytes()


def test_run_s_settings_give_the_same_options_again(place):
    words = ["--config", "run/settings.toml", "--plugin", "mine/tiny.py", "--plugin", "mine/slopes.py"]
    done = typed(ROOT / "search" / "run.py", *words, "--print-config", cwd=place, cache=place / "cache")
    assert done.stdout == (place / "run" / "settings.toml").read_text(encoding="utf-8"), done.stderr


def test_folder_s_code_runs_only_where_it_was_named(place):
    photo = next((place / "scènes" / "images").iterdir())
    predict = ["-m", "analysis.predict", "run", photo, "--out", "predictions"]
    assert typed(*predict, cwd=place, cache=place / "cache").returncode == 0
    refused = typed(*predict[:-1], "elsewhere", cwd=place, cache=place / "another cache")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "read its code, then add --plugin run/plugins/tiny.py" in refused.stderr
    named = ["--plugin", "run/plugins/tiny.py", "--plugin", "run/plugins/slopes.py"]
    done = typed(*predict[:-1], "elsewhere", *named, cwd=place, cache=place / "another cache")
    assert done.returncode == 0, done.stderr


def test_trial_of_a_plugin_repeats_bit_by_bit(place):
    done = typed("-m", "search.reproduce", "run", "e0001", cwd=place, cache=place / "cache")
    assert done.returncode == 0 and "the same, bit for bit" in done.stdout, done.stderr


def test_run_with_a_plugin_is_given_more(place):
    more = ["--resume", "run", "--budget", "1trials"]
    done = typed(ROOT / "search" / "run.py", *more, cwd=place, cache=place / "cache")
    assert done.returncode == 0, done.stderr
    assert len((place / "run" / "trials.csv").read_text(encoding="utf-8").splitlines()) > 3
