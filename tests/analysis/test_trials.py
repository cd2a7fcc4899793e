import pytest

from analysis.trials import leaderboard, load_reports, load_trials
from search.records import TrialRecord, TrialTable


@pytest.fixture
def run(tmp_path):
    table = TrialTable(tmp_path)
    for number, (status, score) in enumerate([("completed", 0.25), ("stopped", 0.5), ("failed", 0.75)], start=1):
        config = {"model/arch": "unet", "loss/mask_structural": "none"}
        table.start(TrialRecord(trial_id=f"e{number}", parent_id="", stage="explore", seed=0, config=config))
        table.report(f"e{number}", {"score": score, "epochs": 1})
        table.finish(f"e{number}", status)
    return tmp_path


def test_trial_table_comes_back_as_written(run):
    trials = load_trials(run, run)
    assert len(trials) == 6 and list(trials["trial_id"][:3]) == ["e1", "e2", "e3"]
    assert trials["score"].dtype == float and set(trials["loss/mask_structural"]) == {"none"}


def test_reports_come_back_as_written(run):
    assert list(load_reports(run)["score"]) == [0.25, 0.5, 0.75]


def test_leaderboard_is_best_first_without_the_failed(run):
    assert list(leaderboard(load_trials(run), "explore")["trial_id"]) == ["e2", "e1"]


def test_folder_without_trials_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_trials(tmp_path)
