from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search.study.journal import open_journal


def studied(storage):
    """Leave a study of three trials, one of them pruned with a constraint, one still running."""
    study = optuna.create_study(study_name="explore", storage=storage, direction="maximize")
    study.enqueue_trial({"x": 0.25})
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.suggest_categorical("kind", ("a", "b"))
    trial.set_user_attr("trial_id", "e0001")
    study.tell(trial, 0.5)
    broken = study.ask()
    broken.set_constraint("params", 2.5)
    study.tell(broken, state=TrialState.PRUNED)
    study.ask()
    return study


@pytest.mark.parametrize("reopen", [open_journal, lambda path: JournalStorage(JournalFileBackend(str(path)))])
def test_studies_are_read_back_by_optunas_own_backend_and_by_this_one(reopen, tmp_path):
    path = tmp_path / "study.journal"
    written = studied(open_journal(path)).trials
    read = optuna.load_study(study_name="explore", storage=reopen(path)).trials
    assert read == written and [trial.state.name for trial in read] == ["COMPLETE", "PRUNED", "RUNNING"]
    assert read[0].params["x"] == 0.25 and read[0].user_attrs == {"trial_id": "e0001"}
    assert read[1].constraints == {"params": 2.5}


def test_file_that_optuna_began_is_continued(tmp_path):
    path = tmp_path / "study.journal"
    studied(JournalStorage(JournalFileBackend(str(path))))
    study = optuna.load_study(study_name="explore", storage=open_journal(path))
    study.tell(study.ask(), 0.1)
    assert len(optuna.load_study(study_name="explore", storage=open_journal(path)).trials) == 4


def test_nothing_but_the_file_is_left_and_every_line_ends(tmp_path):
    studied(open_journal(tmp_path / "study.journal"))
    assert [path.name for path in tmp_path.iterdir()] == ["study.journal"]
    assert (tmp_path / "study.journal").read_bytes().endswith(b"}\n")


def test_lock_that_a_killed_process_left_is_not_waited_for(tmp_path):
    path = tmp_path / "study.journal"
    Path(f"{path}.lock").symlink_to(path)  # as Optuna's own backend would leave it
    assert len(studied(open_journal(path)).trials) == 3


def test_half_a_line_at_the_end_does_not_stop_a_search_that_goes_on(tmp_path):
    path = tmp_path / "study.journal"
    studied(open_journal(path))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"worker_id"')  # a process was killed while it wrote
    study = optuna.load_study(study_name="explore", storage=open_journal(path))
    study.tell(study.ask(), 0.3)
    assert len(optuna.load_study(study_name="explore", storage=open_journal(path)).trials) == 4


def test_two_objects_of_a_journal_see_what_each_other_writes(tmp_path):
    studies = [
        optuna.create_study(study_name="explore", storage=open_journal(tmp_path / "j"), load_if_exists=True)
        for _ in range(2)
    ]
    for value in range(4):
        studies[value % 2].ask()
        studies[value % 2].tell(value, float(value))
    for study in studies:
        assert [trial.value for trial in study.trials] == [0.0, 1.0, 2.0, 3.0]
