"""The trials that TPE is fitted to."""

import random

import optuna
import pytest
from optuna.trial import TrialState

from search.study import sampler
from search.study.journal import open_journal
from search.study.sampler import build_sampler, select_fitted


@pytest.fixture
def storage(tmp_path):
    return open_journal(tmp_path / "study.journal")


def ended(storage, count, *, sampler="random"):
    """Return a study of so many trials, a third of them pruned, the first one still running."""
    study = optuna.create_study(storage=storage, sampler=build_sampler(sampler, 0), direction="maximize")
    draw = random.Random(0)
    for number in range(count):
        trial = study.ask()
        value = 1 - abs(trial.suggest_float("x", 0, 1) - 0.3) + draw.random() / 10
        if number % 3 == 1:
            trial.report(value, 4)
            study.tell(trial, state=TrialState.PRUNED)
        elif number:
            study.tell(trial, value)
    return study


def test_tpe_is_fitted_to_the_best_to_the_most_recent_and_to_those_that_run(storage, monkeypatch):
    monkeypatch.setattr(sampler, "MAX_RECENT", 20)
    monkeypatch.setattr(sampler, "MAX_GOOD", 5)
    study = ended(storage, 60)
    trials = study.get_trials()
    storage.select = select_fitted
    fitted = [trial.number for trial in study.get_trials()]
    assert fitted == sorted(fitted) and len(fitted) == 26
    assert {0, *range(40, 60)} <= set(fitted)
    best = sorted((t for t in trials if t.state == TrialState.COMPLETE), key=lambda t: -t.value)[:5]
    assert {trial.number for trial in best} <= set(fitted)


def test_selection_is_made_again_when_a_trial_begins_or_ends(storage):
    study = ended(storage, 3)
    counted = []
    storage.select = lambda trials: counted.append(len(trials)) or list(trials)
    for _ in range(3):
        assert [trial.state.name for trial in study.get_trials(deepcopy=False)] == ["RUNNING", "PRUNED", "COMPLETE"]
    trial = study.ask()
    assert study.get_trials()[-1].state == TrialState.RUNNING
    assert len(study.get_trials(states=(TrialState.RUNNING,))) == 2
    study.tell(trial, 0.5)
    assert study.get_trials()[-1].value == 0.5 and len(study.get_trials(states=(TrialState.RUNNING,))) == 1
    assert counted[0] == 3 and len(counted) <= 7


def test_trials_that_wait_are_looked_for_only_after_one_was_added_or_has_begun(storage, monkeypatch):
    study, searched = ended(storage, 3), []
    storage.select = list
    read = type(storage).__mro__[1].get_all_trials

    def watched(self, study_id, deepcopy=True, states=None):
        searched.append(states)
        return read(self, study_id, deepcopy, states)

    monkeypatch.setattr(type(storage).__mro__[1], "get_all_trials", watched)
    for _ in range(20):
        study.tell(study.ask(), 0.5)
    assert searched.count((TrialState.WAITING,)) == 1
    study.enqueue_trial({"x": 0.75})
    study.enqueue_trial({"x": 0.25})
    assert [study.ask().suggest_float("x", 0, 1) for _ in range(2)] == [0.75, 0.25]
    assert study.ask().number == 25


def test_as_long_as_there_are_few_trials_all_are_fitted(storage):
    study = ended(storage, 30)
    trials = study.get_trials()
    storage.select = select_fitted
    assert study.get_trials() == trials


def test_tpe_fitted_to_some_of_the_trials_still_finds_the_optimum(storage, monkeypatch):
    monkeypatch.setattr(sampler, "MAX_RECENT", 40)
    storage.select = select_fitted
    study = ended(storage, 150, sampler="tpe")
    storage.select = None
    found = [trial.params["x"] for trial in study.get_trials()[-30:]]
    assert sum(abs(x - 0.3) < 0.1 for x in found) > 20  # 6 of them at random


def test_several_suggestions_are_drawn_from_one_fit(storage, monkeypatch):
    fits = []
    monkeypatch.setattr(optuna.samplers.TPESampler, "_sample", counted(optuna.samplers.TPESampler._sample, fits))
    study = ended(storage, 60, sampler="tpe")
    assert len(fits) == 60 - sampler.STARTUP_TRIALS - 1  # one for each suggestion
    study.sampler.batch, before = 10, len(fits)
    drawn = [study.ask().suggest_float("x", 0, 1) for _ in range(40)]
    assert len(fits) - before <= 5 and len(set(drawn)) == 40
    assert sum(abs(x - 0.3) < 0.2 for x in drawn) > 25  # 16 at random


def counted(function, calls):
    def count(*args, **options):
        calls.append(args)
        return function(*args, **options)

    return count
