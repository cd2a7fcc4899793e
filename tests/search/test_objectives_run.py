"""A run with weights of its own and two objectives: every part of it ranks by them, also after it is extended."""

import csv
import json
import shutil

import optuna
import pytest

from models.score import Score
from search.study.journal import open_journal
from tests.search.test_plugin_run import ROOT, typed

SETTINGS = """
budget = "4trials"
px = 96
data = "scenes"
objectives = ["score", "params"]
score = {boundary_f = 0.75, depth = 0.25}
stage = {explore = {epochs = 1}, confirm = {epochs = 1, top_k = 2}, final = {epochs = 1}}
[space]
model.arch = ["unet", "residual"]
"""
WEIGHTS = {"boundary_f": 0.75, "rmse_depth": 0.25}

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_dataset):
    """A folder with a data set and the run that the settings give."""
    place = tmp_path_factory.mktemp("objectives")
    shutil.copytree(tiny_dataset, place / "scenes")
    (place / "search.toml").write_text(SETTINGS, encoding="utf-8")
    words = ["--config", "search.toml", "--out", "run"]
    done = typed(ROOT / "search" / "run.py", *words, cwd=place, cache=place / "cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "score = 0.25 · (1 - RMSE of the depth" in done.stdout or "score = 0.75 · boundary F" in done.stdout
    return place


def read_trials(place):
    with (place / "run" / "trials.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_study(place):
    """Compare the study of the search with the records."""
    study = optuna.load_study(study_name="explore", storage=open_journal(place / "run" / "study.journal"))
    assert study.metric_names == ["score", "params"] and len(study.directions) == 2
    rows = {row["trial_id"]: row for row in read_trials(place)}
    for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        row = rows[trial.user_attrs["trial_id"]]
        assert trial.values == pytest.approx([float(row["score"]), float(row["params"])])


def test_score_of_trials_and_of_the_model_has_the_weights(place):
    metrics = json.loads((place / "run" / "best" / "metrics.json").read_text())
    score = Score(sigma=metrics["sigma_depth"], weights=WEIGHTS)
    assert metrics["score_weights"] == WEIGHTS
    for part in ("val", "test"):
        assert metrics[part]["score"] == pytest.approx(score.compute({name: metrics[part][name] for name in WEIGHTS}))
    for row in read_trials(place):
        measured = {name: float(row[name]) for name in WEIGHTS}
        assert row["status"] == "completed" and float(row["score"]) == pytest.approx(score.compute(measured), abs=1e-6)
    shown = typed("-m", "analysis.predict.evaluate", "run", "scenes", cwd=place, cache=place / "cache")
    assert shown.returncode == 0 and " score" in shown.stdout
    page = (place / "run" / "report.html").read_text(encoding="utf-8")
    assert "0.75 · boundary F of the mask" in page and "The search minimised params beside the score" in page


def test_study_has_both_objectives_and_the_best_score_is_promoted(place):
    check_study(place)
    explored = [row for row in read_trials(place) if row["stage"] == "explore"]
    promoted = json.loads((place / "run" / "run.json").read_text())["stages"][1]["parents"]
    assert len(promoted) == 2 and max(explored, key=lambda row: float(row["score"]))["trial_id"] == promoted[0]


def test_extended_run_goes_on_with_the_same_score_and_objectives(place):
    words = ["--resume", "run", "--budget", "2trials"]
    done = typed(ROOT / "search" / "run.py", *words, cwd=place, cache=place / "cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(row["stage"] == "explore" for row in read_trials(place)) == 6
    check_study(place)
    test_score_of_trials_and_of_the_model_has_the_weights(place)
