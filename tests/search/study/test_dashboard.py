"""Studies of the stages after the search, read back with Optuna's own classes."""

import dataclasses

import cv2
import numpy as np
import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from data.pack.pack import RawBatch
from search.records.trials import TrialTable
from search.study.dashboard import StageStudies
from search.study.journal import open_journal
from tests.trials import make_record

METRICS = {"epochs": 2, "score": 0.6, "iou": 0.5, "params": 1234}
RAW = RawBatch(
    np.full((3, 16, 16, 3), 200, np.uint8),
    np.zeros((3, 16, 16), np.uint8),
    np.full((3, 16, 16), 9000, np.uint16),
    np.ones(3, bool),
)
PREDICTED = np.full((3, 16, 16, 2), 255, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A run folder whose search has ended after two trials."""
    study = optuna.create_study(study_name="explore", storage=open_journal(tmp_path / "study.journal"))
    for number, score in ((1, 0.3), (2, 0.4)):
        trial = study.ask()
        trial.suggest_categorical("model/arch", ("unet", "residual"))
        trial.suggest_float("adamw/lr", 1e-3, 1e-2, log=True)
        trial.set_user_attr("trial_id", f"e000{number}")
        study.tell(trial, score)
    return tmp_path


@pytest.fixture
def table(folder):
    table = TrialTable(folder)
    for number, score in ((1, 0.3), (2, 0.4)):
        one = make_record(f"e000{number}", status="completed", metrics={"score": score})
        table.records[one.trial_id] = one
    return table


def begin(studies, one, raw=RAW):
    studies.table.records[one.trial_id] = one
    studies.start(one, raw)


def go_through(studies, one, *, scores=(0.5, 0.6), status="completed"):
    """Let a trial start, report and end."""
    begin(studies, one)
    for epoch, score in enumerate(scores, start=1):
        one.metrics.update(METRICS | {"epochs": epoch, "score": score})
        studies.report(one, one.metrics, rates=[(1, 0.1)], predictions=PREDICTED)
    one.status = status
    studies.finish(one)


def study(folder, name):
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
    return optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))


def pictures(folder, of, name):
    """Return the artifacts of a trial or a study as pictures, by their file names."""
    metas = get_all_artifact_meta(of, storage=study(folder, name)._storage)
    return {meta.filename: cv2.imread(str(folder / "artifacts" / meta.artifact_id)) for meta in metas}


def test_stage_has_a_study_with_curve_metrics_and_earlier_scores(folder, table):
    studies = StageStudies(folder, table)
    go_through(studies, make_record("c0001", parent_id="e0002"))
    go_through(studies, make_record("f0001", parent_id="c0001"), scores=(0.7,))
    (confirm,), (final,) = study(folder, "confirm").trials, study(folder, "final").trials
    assert (confirm.state.name, confirm.value, confirm.intermediate_values) == ("COMPLETE", 0.6, {1: 0.5, 2: 0.6})
    assert confirm.user_attrs == {
        "trial_id": "c0001", "stage": "confirm", "parent_id": "e0002", "score of explore": 0.4,
        "status": "completed", "iou": 0.5, "params": 1234,
    }  # fmt: skip
    assert final.user_attrs["score of explore"] == 0.4 and final.user_attrs["score of confirm"] == 0.6
    assert final.params == confirm.params == study(folder, "explore").trials[1].params


def test_study_of_the_search_has_the_outcomes_of_promotions(folder, table):
    studies = StageStudies(folder, table)
    go_through(studies, make_record("c0001", parent_id="e0002"))
    go_through(studies, make_record("c0002", parent_id="e0001"), scores=(), status="failed")
    assert study(folder, "explore").user_attrs == {"e0002": "confirm c0001 0.600", "e0001": "confirm c0002 failed"}
    go_through(studies, make_record("f0001", parent_id="c0001"), scores=(0.7,))
    assert study(folder, "explore").user_attrs["e0002"] == "confirm c0001 0.600, final f0001 0.700"
    assert [trial.value for trial in study(folder, "explore").trials] == [0.3, 0.4]


def test_promoted_trial_has_one_picture_of_truth_and_last_prediction(folder, table):
    go_through(StageStudies(folder, table), make_record("c0001", parent_id="e0002"))
    (trial,) = study(folder, "confirm").trials
    ((name, picture),) = pictures(folder, trial, "confirm").items()
    assert name == "c0001.jpg" and picture.shape == (3 * 16, 5 * 16, 3)
    columns = [picture[:, i * 16 : (i + 1) * 16].mean() for i in range(5)]
    assert columns[0] == pytest.approx(200, abs=3) and columns[1] < 3 and columns[3] > 252
    assert len(list((folder / "artifacts").iterdir())) == 1  # not one for each epoch


def test_best_samples_are_attached_to_the_search(folder, table):
    picture = folder / "samples.png"
    cv2.imwrite(str(picture), np.zeros((8, 8, 3), np.uint8))
    StageStudies(folder, table).attach_image(picture)
    assert pictures(folder, study(folder, "explore"), "explore").keys() == {"samples.png"}


def test_failed_trial_has_its_reason_and_no_value(folder, table):
    one = make_record("c0001", parent_id="e0002", reason="loss is nan")
    go_through(StageStudies(folder, table), one, scores=(), status="failed")
    (trial,) = study(folder, "confirm").trials
    assert (trial.state.name, trial.user_attrs["reason"], trial.values) == ("FAIL", "loss is nan", None)


def test_trial_that_goes_on_is_the_one_that_was_left_running(folder, table):
    first = make_record("c0001", parent_id="e0002")
    begin(StageStudies(folder, table), first)
    go_through(StageStudies(folder, table), dataclasses.replace(first))
    assert [t.state.name for t in study(folder, "confirm").trials] == ["COMPLETE"]


def test_trial_whose_end_is_only_on_record_is_settled_and_one_unknown_fails(folder, table):
    for trial_id in ("c0001", "c0002"):
        begin(StageStudies(folder, table), make_record(trial_id, parent_id="e0002"))
    del table.records["c0002"]
    table.records["c0001"].status, table.records["c0001"].metrics = "ended_by_budget", dict(METRICS)
    go_through(StageStudies(folder, table), make_record("c0003", parent_id="e0001"))
    states = {t.user_attrs["trial_id"]: (t.state.name, t.value) for t in study(folder, "confirm").trials}
    assert states == {"c0001": ("COMPLETE", 0.6), "c0002": ("FAIL", None), "c0003": ("COMPLETE", 0.6)}


def test_trials_of_the_search_itself_are_left_to_it(folder, table):
    go_through(StageStudies(folder, table), make_record("e0003"))
    assert len(study(folder, "explore").trials) == 2
    assert [s.study_name for s in study(folder, "explore")._storage.get_all_studies()] == ["explore"]


def test_parent_that_a_changed_space_has_dropped_leaves_a_trial_without_parameters(folder, table):
    table.records["e0009"] = make_record("e0009", status="completed", metrics={"score": 0.2})
    go_through(StageStudies(folder, table), make_record("c0001", parent_id="e0009"))
    (trial,) = study(folder, "confirm").trials
    assert trial.params == {} and trial.user_attrs["score of explore"] == 0.2


def test_run_that_does_not_search_has_no_journal(tmp_path):
    studies = StageStudies(tmp_path, TrialTable(tmp_path))
    studies.table.records["e0001"] = make_record("e0001", status="completed", metrics={"score": 0.2})
    go_through(studies, make_record("c0001", parent_id="e0001"))
    studies.attach_image(tmp_path / "samples.png")
    assert list(tmp_path.iterdir()) == []
