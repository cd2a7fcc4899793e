"""Plugins: the files of CONTRIBUTING.md, named, registered in a process of their own, and never run from a download."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.config import ConfigError
from search.config.budget import parse_budget
from search.config.options import RunOptions
from search.config.plugins import PluginError, find_copy, load_plugins, name_plugin
from search.run import build_parser, main

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ("tiny.py", "slopes.py")
BLOCK = re.compile(r"```python (\S+)\n(.*?)```", re.S)


@pytest.fixture
def plugins(tmp_path):
    """The examples of CONTRIBUTING.md as files in a folder with an accent."""
    folder = tmp_path / "greffons é"
    folder.mkdir()
    for name, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        (folder / Path(name).name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def own_names(tmp_path, monkeypatch):
    """A cache in which no plugin is named."""
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))


def run(code, *arguments, **environment):
    """Run code in a process of its own, which registers what it likes."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=False, timeout=120
    )


SEARCHED = """
import pickle, subprocess, sys, optuna
from search.config.plugins import load_plugins, name_plugin
load_plugins(dict(name_plugin(path) for path in sys.argv[1:]))
from search.study.search_space import build_space, list_smallest_networks, suggest
from search.study.space_settings import read_space
from models.architectures.registry import build_model
from models.losses.loss import build_loss
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
configs = [suggest(study.ask(), build_space()) for _ in range(300)]
chosen = next(c for c in configs if c.model.arch == "tiny" and c.loss.depth_structural == "slopes")
assert "tiny" in {c.model.arch for c in list_smallest_networks(build_space())}
assert read_space({"tiny.width": [8]})["tiny/width"] == (8,)
build_model(chosen.model), build_loss(chosen.loss, 64)
read = "import pickle, sys; c = pickle.load(sys.stdin.buffer); print(c.model)"
subprocess.run([sys.executable, "-c", read], input=pickle.dumps(chosen), check=True)
"""


def test_examples_of_contributing_are_plugins_that_other_processes_inherit(plugins, own_names):
    done = run(SEARCHED, str(plugins / "tiny.py"), str(plugins / "slopes.py"))
    assert done.returncode == 0 and done.stdout.startswith("TinyConfig(arch='tiny'"), done.stderr


def test_code_that_came_with_a_run_is_not_run_before_it_is_named(plugins, own_names):
    marked = plugins / "mark.py"
    marked.write_text("raise SystemExit('the code ran')")
    plugin = name_plugin(str(marked))
    find_copy(*plugin).unlink()
    with pytest.raises(
        PluginError, match="is not allowed on this machine yet; read its code, then add --plugin runs/x/plugins"
    ):
        load_plugins({plugin.name: plugin.sha256}, Path("runs/x"))
    with pytest.raises(SystemExit, match="the code ran"):
        load_plugins({name_plugin(str(marked)).name: plugin.sha256})


INHERITED = """
import sys
from models.architectures.registry import ARCHITECTURES
from search.config.plugins import PluginError, load_plugins
try:
    load_plugins({"tiny.py": sys.argv[1]})
except PluginError:
    print("not named here", end=", ")
import search.config.trial
print("tiny" in ARCHITECTURES)
"""


def test_plugin_that_ray_has_shipped_is_run_by_the_workers_of_the_process_that_named_it(plugins, own_names, tmp_path):
    content = (plugins / "tiny.py").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    for folder, text in (("shipped", content), ("changed", content + b"#")):
        (tmp_path / folder / sha256).mkdir(parents=True)
        (tmp_path / folder / sha256 / "tiny.py").write_bytes(text)
    named = {"ONE_LOOK_PLUGINS": json.dumps({"tiny.py": sha256})}
    worker, fooled = (
        run(INHERITED, sha256, PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path / folder)]), **named)
        for folder in ("shipped", "changed")
    )
    assert worker.stdout == "not named here, True\n", worker.stderr
    assert fooled.returncode == 1 and "is not allowed on this machine yet" in fooled.stderr


def test_changed_copy_is_not_run(plugins, own_names):
    plugin = name_plugin(str(plugins / "tiny.py"))
    find_copy(*plugin).write_text("raise SystemExit('the code ran')")
    with pytest.raises(PluginError, match="is not allowed on this machine yet"):
        load_plugins(dict([plugin]))
    with pytest.raises(PluginError, match="is not allowed on this machine yet"):
        load_plugins({f"../{plugin.sha256}/tiny.py": plugin.sha256})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "wrong.py: defines neither an Architecture nor a Term"),
        ("import torch\n1 / 0", "wrong.py line 2: ZeroDivisionError: division by zero"),
        ("def f(:", "wrong.py: SyntaxError"),
        (
            "from models.losses.terms import Term\ndef dice(p, t, v):\n    return p\nD = Term(dice, 'pixel')",
            "there is already a loss term 'dice'",
        ),
        (
            "from models.losses.terms import Term\ndef sharp(p, t, v):\n    return p\nD = Term(sharp)",
            "wrong.py line 4: TypeError: ",
        ),
        (
            "from models.losses.terms import Term\ndef sharp(p, t, v):\n    return p\nD = Term(sharp, 'pixels')",
            "kind of the loss term sharp='pixels' is not one of pixel, structural",
        ),
        (
            "from models.architectures.unet import UNET\nimport dataclasses\nMINE = dataclasses.replace(UNET)",
            "there is already an architecture 'unet'",
        ),
    ],
)
def test_wrong_plugin_is_one_clear_line(text, said, tmp_path, own_names, capsys):
    (tmp_path / "wrong.py").write_text(text)
    assert main(["--budget", "5m", "--plugin", str(tmp_path / "wrong.py")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "said"), [("none.py", "cannot be read"), ("a.txt", "must end in .py"), (".", "cannot be")]
)
def test_file_that_is_no_plugin_is_refused(name, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(SystemExit, match="2"):
        build_parser().parse_args(["--plugin", name])
    assert said in capsys.readouterr().err


def test_hashes_of_plugins_are_recorded_and_read_back(plugins, own_names):
    args = build_parser().parse_args(["--plugin", str(plugins / "tiny.py"), "--plugin", str(plugins / "slopes.py")])
    options = RunOptions.from_args(args, budget=parse_budget("5m"), configs=())
    assert options.plugins == {name: hashlib.sha256((plugins / name).read_bytes()).hexdigest() for name in EXAMPLES}
    assert RunOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_cache_that_cannot_be_written_is_one_line(plugins, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "file"))
    with pytest.raises(SystemExit, match="2"):
        build_parser().parse_args(["--plugin", str(plugins / "tiny.py")])
    assert "cannot be written (Not a directory); free some space or set ONE_LOOK_CACHE" in capsys.readouterr().err


def test_two_plugins_of_one_name_are_refused(tmp_path, own_names, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"# {folder}")
    named = [word for folder in ("a", "b") for word in ("--plugin", str(tmp_path / folder / "mine.py"))]
    assert main(["--budget", "5m", *named]) == 2
    assert "--plugin mine.py: two files have this name; rename one" in capsys.readouterr().err


def test_settings_file_names_no_plugin(tmp_path, capsys):
    (tmp_path / "a.toml").write_text('plugin = "x.py"')
    assert main(["--config", str(tmp_path / "a.toml")]) == 2
    assert "--plugin is given on the command line" in capsys.readouterr().err


def test_model_of_a_plugin_that_is_not_named_says_what_to_do(tmp_path, own_names, monkeypatch):
    from analysis import AnalysisError, load_model

    for folder in (tmp_path / "run" / "best", tmp_path / "run" / "front" / "c0001"):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"")
        (folder / "config.json").write_text(json.dumps({"plugins": {"mine.py": "0" * 64}}))
        with pytest.raises(AnalysisError, match=re.escape(f"--plugin {tmp_path / 'run' / 'plugins' / 'mine.py'}")):
            load_model(folder)
        monkeypatch.chdir(folder)
        with pytest.raises(AnalysisError, match=re.escape(f"--plugin {tmp_path / 'run' / 'plugins' / 'mine.py'}")):
            load_model("model.safetensors")


def test_error_of_a_plugin_is_one_of_the_configs():
    assert issubclass(PluginError, ConfigError)
