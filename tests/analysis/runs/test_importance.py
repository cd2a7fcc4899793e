import optuna
import pytest

from analysis.runs import importance
from analysis.runs.importance import compute_importances, load_study
from search.records.trials import TrialTable
from search.study.journal import open_journal
from search.study.trial_outcome import OPTUNA_STATES
from tests.trials import add_trial, make_record

ARCHS = ("unet", "residual")


def write_run(run, count, *, score, archs=ARCHS, stopped=lambda params: False):
    """Leave a study of random trials, one of them rejected, and their table."""
    study = optuna.create_study(study_name="explore", storage=open_journal(journal(run)), direction="maximize")
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    table = TrialTable(run)
    for number in range(count):
        trial = study.ask()
        arch = trial.suggest_categorical("model/arch", archs)
        trial.suggest_categorical(f"{arch}/width", (4, 8, 16))
        trial.suggest_float("adamw/lr", 1e-3, 1e-1, log=True)
        trial.suggest_float("noise", 0, 1)
        trial.set_user_attr("trial_id", f"e{number}")
        status = "stopped" if stopped(trial.params) else "completed"
        value = score(trial.params)
        study.tell(trial, None if status == "stopped" else value, state=OPTUNA_STATES[status])
        record = make_record(f"e{number}", config={"model/arch": arch})
        add_trial(table, record, status=status, score=value, epochs=1)
    table.write()
    rejected = study.ask()
    rejected.suggest_categorical("model/arch", archs)
    study.tell(rejected, state=optuna.trial.TrialState.PRUNED)


def journal(run):
    path = run / "study.journal"
    path.touch()
    return path


def compute(run):
    return compute_importances(run, load_study(run))


def most_important(run, architecture):
    found = compute(run)
    return found[found["architecture"] == architecture].iloc[0]["parameter"]


def test_parameter_that_decides_is_the_most_important(tmp_path):
    write_run(tmp_path, 60, score=lambda params: params["adamw/lr"])
    found = compute(tmp_path)
    assert list(found.columns) == ["architecture", "parameter", "importance", "chance"]
    assert set(found["architecture"]) == {"all", *ARCHS}
    assert all(most_important(tmp_path, name) == "adamw/lr" for name in ("all", *ARCHS))
    assert found.groupby("architecture")["importance"].sum().tolist() == pytest.approx([1, 1, 1])
    assert all(group["importance"].is_monotonic_decreasing for _, group in found.groupby("architecture"))


def test_of_many_trials_evenly_spaced_ones_count(tmp_path, monkeypatch):
    counted = []
    rank = importance._rank_parameters
    monkeypatch.setattr(importance, "MAX_TRIALS", 30)
    monkeypatch.setattr(importance, "_rank_parameters", lambda trials: counted.append(len(trials)) or rank(trials))
    write_run(tmp_path, 90, score=lambda params: params["adamw/lr"])
    assert most_important(tmp_path, "all") == "adamw/lr" and counted[0] == 30 and max(counted) <= 30


def test_conditional_parameters_count_for_their_architecture_only(tmp_path):
    write_run(tmp_path, 60, score=lambda params: params.get("unet/width", 0) == 4)
    assert most_important(tmp_path, "unet") == "unet/width"
    parameters = compute(tmp_path).groupby("architecture")["parameter"].agg(set)
    assert "unet/width" in parameters["all"] and "unet/width" not in parameters["residual"]


def test_stopped_trials_count_as_worse_than_all_others_whatever_they_scored(tmp_path):
    write_run(tmp_path, 30, score=lambda params: params["noise"], stopped=lambda params: params["adamw/lr"] > 0.01)
    assert most_important(tmp_path, "all") == "adamw/lr"


def test_chance_tells_what_decides_from_what_does_not(tmp_path):
    write_run(tmp_path, 60, archs=("unet",), score=lambda params: params["adamw/lr"])
    found = compute(tmp_path).set_index(["architecture", "parameter"]).loc["all"]
    above = found["importance"] > found["chance"]
    assert above["adamw/lr"] and not above["noise"]


def test_of_many_trials_the_parameters_of_some_are_read(tmp_path, monkeypatch):
    write_run(tmp_path, 60, score=lambda params: params["adamw/lr"])
    whole = load_study(tmp_path)
    monkeypatch.setattr(importance, "MAX_READ", 20)
    read = load_study(tmp_path)
    assert [trial.params for trial in read] == [t.params if t.number % 4 == 0 else {} for t in whole]
    assert [(trial.state, trial.user_attrs) for trial in read] == [(trial.state, trial.user_attrs) for trial in whole]
    assert most_important(tmp_path, "all") == "adamw/lr"


def test_equal_scores_make_nothing_important_and_no_warning(tmp_path):
    write_run(tmp_path, 12, archs=("unet",), score=lambda params: 0.5)
    assert compute(tmp_path)["importance"].notna().all()


def test_few_trials_say_nothing(tmp_path):
    write_run(tmp_path, 9, score=lambda params: params["noise"])
    assert compute(tmp_path).empty


def test_run_without_a_study_has_none(running_run):
    assert compute(running_run).empty


def test_journal_is_only_read_and_half_a_line_is_left_out(tmp_path):
    write_run(tmp_path, 20, score=lambda params: params["noise"])
    path = tmp_path / "study.journal"
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id"')
    before = path.read_bytes()
    assert len(compute(tmp_path)) > 0
    assert path.read_bytes() == before
