"""The greedy choice of a portfolio, and the command that measures and writes it."""

import json

import numpy as np
import pytest

from search.config.recipes import NETWORKS, PORTFOLIO, PORTFOLIO_FILE
from search.study import portfolio
from search.study.portfolio import choose, main


def test_choice_covers_every_data_set_and_begins_with_the_best_on_average():
    scores = np.array([[0.9, 0.1, 0.1], [0.8, 0.8, 0.7], [0.1, 0.9, 0.2], [0.2, 0.2, 0.9], [0.7, 0.7, 0.6]])
    assert choose(scores)[0] == 1 and set(choose(scores, size=4)) == {0, 1, 2, 3}
    assert choose(scores, size=9)[-1] == 4 and choose(scores[:1]) == [0]


def test_scale_of_a_data_set_does_not_matter():
    scores = np.random.default_rng(0).random((12, 3))
    assert choose(scores) == choose(scores * [1.0, 0.01, 100.0])


def test_command_trains_continues_and_writes_what_it_was_run_with(tiny_dataset, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(portfolio, "train", lambda config, data, images: asked.append(config) or len(asked) / 100)
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", str(tiny_dataset), "--px", "32", "--images", "20", "--draws", "2", "--out", "new.json"]
    assert main([*arguments, "--minutes", "0"]) == 2 and "no candidate was trained" in capsys.readouterr().err
    assert main(arguments) == 0
    written = json.loads((tmp_path / "new.json").read_text())
    assert len(asked) == len(NETWORKS) + 2 == written["about"]["candidates"] and len(written["configurations"]) == 8
    assert written["configurations"][next(iter(written["configurations"]))] == asked[-1].to_dict()
    assert main(arguments) == 0 and len(asked) == len(NETWORKS) + 2  # nothing is trained twice


@pytest.mark.slow
def test_candidate_is_trained_until_it_has_seen_its_images(tiny_dataset, tmp_path):
    data = portfolio.DataModule(tiny_dataset, seed=0).stage_data(fraction=1.0, px=32)
    config = next(iter(portfolio.list_candidates(32, 0, 0).values()))
    assert 0 <= portfolio.train(config, data, 64) <= 1


def test_portfolio_in_use_has_six_to_eight_configurations_with_a_pretrained_one_first():
    assert 6 <= len(PORTFOLIO) <= 8
    assert next(iter(PORTFOLIO.values()))["model"]["arch"] == "efficientnet_lite"
    assert "about" in json.loads(PORTFOLIO_FILE.read_text())
