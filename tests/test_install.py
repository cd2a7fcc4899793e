"""A wheel holds every file that the packages read, and its command works in a fresh environment in another folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("setuptools")
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("search", "models", "data", "analysis")
NOT_READ = {".py", ".md", ".jpg", ".png"}  # code, and what READMEs show


def list_requirements():
    """Return the requirements of setup.cfg, each with the line above it."""
    lines = (ROOT / "setup.cfg").read_text(encoding="utf-8").partition("[tool:pytest]")[0].splitlines()
    return [(above, line.strip()) for above, line in pairwise(lines) if re.match(r"    [A-Za-z][\w\[\],-]*[<>=]", line)]


def test_every_pin_has_its_reason_beside_it():
    found = list_requirements()
    pinned = [(above, line) for above, line in found if "<" in line or "==" in line]
    alone = [line for above, line in pinned if not above.strip().startswith("#")]
    assert len(found) > 30 and len(pinned) > 8 and alone == ["mypy==2.4.1"]  # the reason of ruff is its own


def test_newer_torch_is_not_downgraded_and_jsonschema_bounds_notebooks_alone():
    requirements = dict(re.match(r"([\w-]+)[^<>=]*(.*)", line).groups() for _, line in list_requirements())
    assert "<" not in requirements["torch"] and "<" in requirements["opencv-python-headless"]
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert text.index("\nnotebooks =\n") < text.index("jsonschema<") < text.index("\ndemo =\n")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", source, "-w", out]
    subprocess.run(command, check=True)
    return next(out.glob("one_look-*.whl"))


@pytest.fixture(scope="module")
def bin_dir(wheel, tmp_path_factory):
    """The programs of a new virtual environment with the wheel, which borrows the dependencies of this one."""
    venv = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel], check=True)
    site = next(venv.glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin"


@pytest.mark.slow
def test_wheel_holds_every_file_that_the_packages_read(wheel):
    read = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix not in NOT_READ and "__pycache__" not in path.parts
    }
    assert len(read) > 15 and read - set(zipfile.ZipFile(wheel).namelist()) == set()


@pytest.mark.slow
def test_command_of_the_wheel_works_in_another_folder(bin_dir, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"state": "done"}))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for words in (["one-look", "report", "run"], ["python", "-m", "data.scenes", "--out", "set", "--count", "8"]):
        ended = subprocess.run([bin_dir / words[0], *words[1:]], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
    assert "Tabulator" in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert len(list((tmp_path / "set" / "images").iterdir())) == 8
