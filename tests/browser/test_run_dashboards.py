"""Optuna's dashboard and TensorBoard over a run folder: each shows the run's own metrics.

The run is written by the recorder and the searcher themselves; its trials are made up.
"""

import socket
import sys
import time
from collections import UserDict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from ray.tune.utils import flatten_dict

from analysis import AnalysisError
from data.data_module import DataModule
from search.config.constraints import Constraints, Feasibility
from search.config.stages import Stage
from search.records.run_state import RunState
from search.records.tensorboard import TensorBoard
from search.records.trials import TrialTable
from search.study.dashboard import StageStudies
from search.study.journal import open_journal
from search.study.search_space import build_space, suggest
from search.tuning.allocation import StopCriterion
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.searchers import FeasibleOptunaSearch, StageChain
from search.tuning.ray.trial_spec import StageContext, build_trial_spec
from search.tuning.ray.tune import RecordCallback
from tests.browser.screenshots import main, take

pytestmark = pytest.mark.browser
EXPLORE = Stage(name="explore", kind="search", fraction=1.0, px=32, epochs=3, early_stopping=True)
CONFIRM = Stage(name="confirm", kind="promote", fraction=1.0, px=32, epochs=3, top_k=1, samples=3)
SCORES = ([0.11, 0.21, 0.3125], [0.10], [0.12, 0.22, 0.4625])  # of the trials of the search, by epoch


def went_through(recorder, spec, scores, search=None, name=""):
    """Let a trial start, report and end, as Ray Tune would tell recorder and searcher of it."""
    trial = SimpleNamespace(config={"spec": spec}, checkpoint=None, last_result={})
    recorder.on_trial_start(0, [], trial)
    stage, rng = spec.context.stage, np.random.default_rng(0)
    for epoch, score in enumerate(scores, start=1):
        metrics = {"epoch": epoch, "score": score, "iou": score + 0.1, "rmse_depth": 0.125, "params": 58712}
        metrics |= {"train_total": 1 / epoch, "fit_s": 2.0 * epoch, "devices": 1.0, "out_of_time": False}
        shown = rng.integers(0, 256, (stage.samples, stage.px, stage.px, 2), dtype=np.uint8)
        result = {"score": score, "last": epoch == stage.epochs, "epoch": epoch}
        result["metrics"] = UserDict(metrics)  # as trials report them: Ray Tune flattens dicts alone
        expected = flatten_dict(result)
        if search is not None and epoch < len(scores):  # Ray Tune reports the last one by on_trial_complete alone
            search.on_trial_result(name, expected)
        predictions = shown if stage.samples else None
        recorder.on_trial_result(0, [], trial, {**result, "rates": [(epoch, 0.01)], "predictions": predictions})
        trial.last_result = result
    if search is not None:
        search.on_trial_complete(name, expected)
    recorder.on_trial_complete(0, [], trial)


@pytest.fixture(scope="module")
def run(tiny_dataset, tmp_path_factory) -> Path:
    """Folder of a run: three trials of the search, the best of them confirmed."""
    folder = tmp_path_factory.mktemp("run")
    table, data_module = TrialTable(folder), DataModule(tiny_dataset, seed=0)
    promotions = StageStudies(folder, table)
    loggers = (TensorBoard(folder / "tensorboard"), promotions)
    run_state = RunState(folder=folder, options={}, began=time.monotonic())
    recorder = RecordCallback(
        StageChain(iter([])), table, loggers, run_state, CheckpointStore(folder, seed=0), lambda record: None, print
    )
    explore, confirm = (
        StageContext(
            stage=stage,
            data=data_module.load_stage_data(fraction=stage.fraction, px=stage.px),
            deadline=None,
            limit_s=None,
            threads=1,
            device="cpu",
        )
        for stage in (EXPLORE, CONFIRM)
    )
    search = FeasibleOptunaSearch(
        partial(suggest, space=build_space()), explore, closed=StopCriterion(None, None),
        rules=Feasibility(px=80, constraints=Constraints(px=160)),
        storage=open_journal(folder / "study.journal"), points=[], seed=0,
    )  # fmt: skip
    for name, scores in zip("abc", SCORES, strict=True):
        spec = search.suggest(name)["spec"]
        went_through(recorder, spec, scores, search, name)
    went_through(recorder, build_trial_spec(confirm, 1, spec.config, seed=0, parent_id="e0003"), [0.5, 0.55, 0.6125])
    cv2.imwrite(str(folder / "samples.png"), np.full((40, 60, 3), 128, np.uint8))
    promotions.attach_image(folder / "samples.png")
    return folder


@pytest.fixture(scope="module")
def optuna_dashboard(run, serve):
    """Address of optuna-dashboard, as the run prints its command."""
    artifacts = ["--artifact-dir", str(run / "artifacts")]
    return serve([program("optuna-dashboard"), str(run / "study.journal"), *artifacts, "--port", "{port}"])


@pytest.fixture(scope="module")
def tensorboard(run, serve):
    """Address of TensorBoard, as the run prints its command."""
    return serve([program("tensorboard"), "--logdir", str(run / "tensorboard"), "--port", "{port}"])


def program(name):
    """Return the path of a program that was installed with this Python."""
    return str(Path(sys.executable).with_name(name))


def rows(page, selector="body"):
    """Return the text of a page, a row each."""
    return [line.strip() for line in page.locator(selector).inner_text().splitlines()]


def image_width(page, selector):
    """Return the natural width of an image once it is loaded."""
    picture = page.locator(selector).first
    picture.scroll_into_view_if_needed()
    picture.evaluate("picture => picture.decode()")
    return picture.evaluate("picture => picture.naturalWidth")


def test_optuna_dashboard_shows_what_trials_of_the_search_came_to(page, optuna_dashboard, elsewhere):
    page.goto(f"{optuna_dashboard}/dashboard/studies/0/trials?numbers=0")
    page.get_by_text("trial_id e0001").wait_for()
    assert {"stage explore", "status completed", "iou 0.4125", "params 58712", "0.3125"} <= set(rows(page))
    page.get_by_text("Trial 1", exact=True).click()
    page.get_by_text("trial_id e0002").wait_for()
    assert {"status stopped", "reason below the best third of its rung"} <= set(rows(page))
    assert elsewhere == []


def test_optuna_dashboard_shows_the_study_with_its_curves_and_how_far_its_trials_came(page, optuna_dashboard):
    page.goto(f"{optuna_dashboard}/dashboard/studies/0")
    page.get_by_text("confirm c0001 0.613").wait_for()
    page.get_by_text("Intermediate values", exact=True).wait_for()
    assert {"e0003\tconfirm c0001 0.613", "0.4625", "score"} <= set(rows(page))
    assert image_width(page, "img[src*='/artifacts/0/']") == 60


def test_optuna_dashboard_shows_a_promoted_trial_with_its_pictures_and_the_score_below(page, optuna_dashboard):
    page.goto(f"{optuna_dashboard}/dashboard/studies/1/trials")
    page.get_by_text("c0001.jpg").wait_for()
    expected = {"trial_id c0001", "parent_id e0003", "score of explore 0.4625", "0.6125", "3 0.6125"}
    assert expected <= set(rows(page))
    assert image_width(page, "img[src*='/artifacts/1/']") == 5 * CONFIRM.px


def test_tensorboard_shows_the_curve_of_the_score(page, tensorboard, elsewhere):
    page.goto(f"{tensorboard}/?tagFilter=metrics%2Fscore#timeseries")
    page.get_by_text("0.6125").first.wait_for()
    expected = rows(page)
    assert {"metrics", "c0001", "e0001", "e0002", "e0003", "0.6125", "0.4625"} <= set(expected)
    assert elsewhere == []


def test_tensorboard_shows_pictures_of_the_promoted(page, tensorboard):
    page.goto(f"{tensorboard}/#images")
    page.get_by_text("pictures/prediction").first.wait_for()
    widths = {image_width(page, f"tf-image-loader:has-text('{tag}') img") for tag in ("truth", "prediction")}
    assert widths == {3 * CONFIRM.px, 2 * CONFIRM.px}


def test_tensorboard_shows_hyperparameters_with_the_score(page, tensorboard):
    page.goto(f"{tensorboard}/#hparams")
    for text in ("c0001", "model/arch", "metrics/score", "0.61250"):
        page.get_by_text(text, exact=True).first.wait_for()
        assert page.get_by_text(text, exact=True).first.is_visible()


@pytest.mark.slow
def test_screenshots_are_small_pictures_of_every_page_that_a_run_has(run, browser, tmp_path):
    (run / "report.html").write_text("<h1>a report</h1>")
    paths = list(take(run, tmp_path / "out", browser))
    assert [path.name for path in paths] == ["report.jpg", "tensorboard.jpg", "optuna.jpg"]
    for path in paths:
        assert cv2.imread(str(path)).shape == (800, 1280, 3) and path.stat().st_size < 150_000


def test_screenshots_of_no_run_are_refused_in_one_line(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "not a run folder" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_photo_that_is_not_there_is_refused_in_one_line_before_anything_opens(run, tmp_path, capsys):
    photo = tmp_path / "none.jpg"
    assert main([str(run), "--photo", str(photo), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"error: {photo}: no such photo; name an image file\n"
    assert not (tmp_path / "out").exists()


def test_address_of_ray_that_does_not_answer_is_one_line(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.browser.screenshots.ray_token", lambda: "token")
    with socket.create_server(("127.0.0.1", 0)) as one:
        url = f"http://127.0.0.1:{one.getsockname()[1]}"
    with pytest.raises(AnalysisError, match=f"ray: the page does not load .*{url}.*; --ray takes") as caught:
        list(take(tmp_path, tmp_path / "out", browser, ray=url))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
