"""The greedy choice of a portfolio, and the command that measures and writes it."""

import json
import time

import numpy as np
import pytest

from models.losses.loss import build_loss
from search.config.recipes import PORTFOLIO, PORTFOLIO_FILE, build_recipe
from search.study import portfolio
from search.study.portfolio import choose, main
from tests.waiting import HANG_S


def test_choice_covers_every_data_set_and_begins_with_the_best_on_average():
    scores = np.array([[0.9, 0.1, 0.1], [0.8, 0.8, 0.7], [0.1, 0.9, 0.2], [0.2, 0.2, 0.9], [0.7, 0.7, 0.6]])
    archs = ["unet"] * 5
    assert choose(scores, archs)[0] == 1 and set(choose(scores, archs, size=4)) == {0, 1, 2, 3}
    assert choose(scores, archs, size=9)[-1] == 4 and choose(scores[:1], archs[:1]) == [0]


def test_choice_has_every_architecture():
    scores = np.array([[0.9], [0.8], [0.7], [0.3], [0.2], [0.1]])
    archs = ["unet", "unet", "unet", "residual", "atrous", "atrous"]
    assert choose(scores, archs, size=4) == [0, 1, 3, 4] and choose(scores, archs, size=2) == [0, 3]


def test_scale_of_a_data_set_does_not_matter():
    scores = np.random.default_rng(0).random((12, 3))
    archs = ["unet", "residual"] * 6
    assert choose(scores, archs) == choose(scores * [1.0, 0.01, 100.0], archs)


def test_command_trains_continues_and_writes_what_it_was_run_with(tiny_dataset, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(portfolio, "train", lambda config, data, seconds: asked.append(config) or len(asked) / 100)
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", str(tiny_dataset), "--px", "32", "--draws", "2", "--out", "new.json"]
    assert main([*arguments, "--minutes", "0"]) == 2 and "no candidate was trained" in capsys.readouterr().err
    assert main(arguments) == 0
    written = json.loads((tmp_path / "new.json").read_text())
    assert len(asked) == len(PORTFOLIO) + 2 == written["about"]["candidates"] and len(written["configurations"]) == 8
    assert written["configurations"][next(iter(written["configurations"]))] == asked[-1].to_dict()
    assert main(arguments) == 0 and len(asked) == len(PORTFOLIO) + 2  # nothing is trained twice


def test_scores_of_other_trainings_are_not_mixed_in(tiny_dataset, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(portfolio, "train", lambda config, data, seconds: asked.append(seconds) or len(asked) / 100)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2000").symlink_to(tiny_dataset)  # a name that a table may read as a number
    arguments = ["--data", "2000", "--draws", "0", "--out", "new.json"]
    for seconds, px in (("20", "32"), ("20", "32"), ("24", "32"), ("20", "48")):
        assert main([*arguments, "--seconds", seconds, "--px", px]) == 0
    assert [asked.count(seconds) for seconds in (20, 24)] == [2 * len(PORTFOLIO), len(PORTFOLIO)]
    assert json.loads((tmp_path / "new.json").read_text())["about"]["candidates"] == len(PORTFOLIO)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "new.json", "--data", "tiny", "more/tiny"], "--data: two folders have the same name"),
        (["--data", "tiny", "--out", "no/new.json"], "--out no/new.json: give a file in a folder that exists"),
        (["--out", "new.json", "--data", "tiny", "--px", "16"], "not 16"),
        (["--out", "new.json", "--data", "tiny", "--scores", "old.csv"], "old.csv: has no column 'seconds'"),
        (["--out", "new.json", "--data", "tiny", "--scores", "more"], "--scores more: cannot be read"),
        (["--out", "new.json", "--data", "tiny", "--scores", "empty.csv"], "--scores empty.csv: cannot be read"),
    ],
)
def test_wrong_input_is_reported_in_one_line(arguments, message, tiny_dataset, tmp_path, monkeypatch, capsys):
    loss = build_recipe("unet").loss  # MS-SSIM, which small images do not have
    monkeypatch.setattr(portfolio, "train", lambda config, data, seconds: build_loss(loss, data.train.px) and 0.1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "old.csv").write_text("data,name,px,score,config\n")
    (tmp_path / "empty.csv").touch()
    for link in ("tiny", "more/tiny"):
        (tmp_path / link).symlink_to(tiny_dataset)
    assert main([*arguments, "--draws", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


@pytest.mark.slow
def test_candidate_is_trained_for_its_time(tiny_dataset):
    data = portfolio.DataModule(tiny_dataset, seed=0).load_stage_data(fraction=1.0, px=32)
    config = next(iter(portfolio.list_candidates(0, 0).values()))
    began = time.monotonic()
    assert 0 <= portfolio.train(config, data, 3.0) <= 1 and 1 < time.monotonic() - began < HANG_S


def test_portfolio_in_use_has_six_to_eight_configurations_with_a_pretrained_one_first():
    assert 6 <= len(PORTFOLIO) <= 8
    assert next(iter(PORTFOLIO.values()))["model"]["arch"] == "efficientnet_lite"
    assert {sections["model"]["arch"] for sections in PORTFOLIO.values()} >= {"residual", "unet", "resnet18_ed"}
    assert "about" in json.loads(PORTFOLIO_FILE.read_text())
