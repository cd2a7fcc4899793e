"""What the README says is typed here, with smaller numbers."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def command(start):
    """Return the README's command that begins with `start`, as words."""
    line = next(line.strip() for line in README.splitlines() if line.strip().startswith(start))
    return shlex.split(line, comments=True)


def typed(words, **replaced):
    words = [sys.executable if word == "python" else replaced.get(word, word) for word in words]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_scenes_command_works(tmp_path):
    process = typed(command("python -m data.scenes"), DIR=str(tmp_path / "out"), **{"2000": "40"})
    assert process.returncode == 0, process.stderr
    assert len(list((tmp_path / "out" / "images").iterdir())) == 40


def test_compose_command_works(tmp_path, shared_data):
    places = {"PHOTOS": str(shared_data / "rgbd"), "CUTOUTS": str(shared_data / "foregrounds")}
    process = typed(command("python -m data.compose"), DIR=str(tmp_path / "out"), **{"2000": "40"}, **places)
    assert process.returncode == 0, process.stderr
    assert len(list((tmp_path / "out" / "depth").iterdir())) == 40


def test_quick_start_command_is_understood():
    from search.budget.budget import parse_budget
    from search.run import build_parser

    words = command("python search/run.py")
    assert parse_budget(build_parser().parse_args(words[2:]).budget).wall_s == 300


RUNS = [line.strip() for line in README.splitlines() if line.strip().startswith("python search/run.py")]


@pytest.mark.parametrize("line", RUNS)
def test_every_run_of_the_readme_is_understood(line):
    from search.budget.budget import parse_budget
    from search.run import build_parser

    args = build_parser().parse_args(shlex.split(line, comments=True)[2:])
    assert args.resume or parse_budget(args.budget)
    if args.recipe:
        from search.config.recipes import build_recipe

        build_recipe(args.recipe, width=args.width)


def test_grid_of_the_readme_is_read(tmp_path):
    from search.config.grid import read_grid

    (tmp_path / "grid.json").write_text(README.split("```json\n")[1].split("```")[0])
    assert len(read_grid(tmp_path / "grid.json")) == 5


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([\w.]+)", README))))
def test_every_module_of_the_readme_is_a_command(module):
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin and '__name__ == "__main__"' in Path(spec.origin).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("start", "module"),
    [
        ("python -m search.training.lr_finder", "search.training.lr_finder"),
        ("python -m analysis.predict", "analysis.predict.predict"),
        ("python -m analysis.plots", "analysis.plots.plots"),
        ("python -m analysis.compare", "analysis.compare.compare"),
    ],
)
def test_options_of_the_readme_exist(start, module):
    imported = importlib.import_module(module)
    build = getattr(imported, "build_parser", None) or imported.parser
    args = build().parse_args(command(start)[3:])
    assert str(args.out) == command(start)[command(start).index("--out") + 1]


def test_ci_runs_the_commands_of_the_readme():
    spec = importlib.util.spec_from_file_location("readme_commands", ROOT / ".ci" / "readme_commands.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.commands(README) == ["pip install -e .", 'pip install -e ".[test]" && pytest']
