"""The command one-look: help comes at once, because packages that take seconds are imported after it."""

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from analysis import AnalysisError, load_model
from analysis.commands import COMMANDS, main
from analysis.runs.run import read_run
from search.records.run_dir import find_run, hold

HEAVY = ("torch", "pandas", "plotly", "matplotlib", "onnx", "ray", "optuna", "scipy", "rich", "gradio")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_imports_nothing_heavy(command):
    code = (
        f"import sys\nfrom analysis.commands import main\nsys.argv[0] = '/bin/one-look'\n"
        f"try: main([{command!r}, '--help'])\n"
        f"finally: print('imported', [name for name in {HEAVY} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and ended.stdout.startswith(f"usage: one-look {command} "), ended.stderr
    assert ended.stdout.endswith("imported []\n")


def test_every_command_is_listed_and_a_wrong_name_refused(capsys):
    with pytest.raises(SystemExit, match="0"):
        main([])
    listed = capsys.readouterr().out
    assert all(f"    {name}" in listed and description in listed for name, (_, description) in COMMANDS.items())
    with pytest.raises(SystemExit, match="2"):
        main(["serch"])
    assert "'search'" in capsys.readouterr().err


def test_arguments_and_exit_code_are_those_of_the_command(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err


@pytest.fixture
def latest(finished_run, tmp_path, monkeypatch):
    """The finished run as the latest of this user, who is in another folder."""
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    with hold(run):
        return run


def test_predict_without_a_run_uses_the_latest(latest, tmp_path):
    cv2.imwrite("photo.png", np.zeros((20, 30, 3), np.uint8))
    assert main(["predict", "photo.png", "--device", "cpu"]) == 0
    assert main(["predict", "latest", "photo.png", "--out", "again", "--device", "cpu"]) == 0
    masks = [(tmp_path / folder / "photo_mask.png").read_bytes() for folder in ("predictions", "again")]
    assert masks[0] == masks[1]


def test_predict_uses_the_last_run_that_has_a_model(latest, tmp_path, capsys):
    with hold(tmp_path):
        (tmp_path / "run.json").write_text("{}")
    cv2.imwrite("photo.png", np.zeros((20, 30, 3), np.uint8))
    for photos in (["photo.png"], ["photo.png", "photo.png"]):
        assert main(["predict", *photos, "--device", "cpu"]) == 0
        assert capsys.readouterr().err == f"latest is {latest}; the run {tmp_path} has no best/model.safetensors\n"
    assert load_model("latest", device="cpu").trial_id == "f0001" and find_run("latest") == tmp_path


def test_several_photos_or_data_sets_without_a_run_are_all_used(latest, tiny_dataset, capsys):
    cv2.imwrite("photo.png", np.zeros((20, 30, 3), np.uint8))
    shutil.copy("photo.png", "another.png")
    assert main(["predict", "photo.png", "another.png", "--out", "out", "--device", "cpu"]) == 0
    assert {path.name for path in Path("out").glob("*_mask.png")} == {"photo_mask.png", "another_mask.png"}
    Path("first").symlink_to(tiny_dataset)
    Path("second").symlink_to(tiny_dataset)
    assert main(["evaluate", "first", "second", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("40 images") == 2


def test_report_without_a_run_is_of_the_latest(latest, capsys):
    assert main(["report", "--out", "page.html"]) == 0
    assert capsys.readouterr().out == "report in page.html\n" and str(latest) in Path("page.html").read_text("utf-8")


def test_latest_run_is_known_to_python_too(latest):
    assert read_run("latest").folder == latest
    assert load_model("latest", device="cpu").trial_id == "f0001"


def test_no_latest_run_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["report"])
    assert capsys.readouterr().err.endswith("latest: no run is known yet; name a run folder, or start a run\n")
    with pytest.raises(AnalysisError, match="no run is known"):
        load_model("latest")
