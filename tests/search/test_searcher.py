"""The searcher and the climb, driven by hand: no Ray is started."""

from functools import partial

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.ladder import Stage
from search.limits import Closing
from search.recipes import recipe
from search.records import TrialRecord
from search.searcher import FINISHED, STUDY_NAME, Climb, Queue, StudySearch, settle
from search.space import SpaceLimits, first_points, suggest
from search.trainable import StageContext, new_entry

CONTEXT = StageContext(
    stage=Stage(name="explore", fraction=0.1, px=80, epochs=9),
    data=None,
    deadline=None,
    cap_s=None,
    threads=1,
    device="cpu",
)
LIMITS = SpaceLimits()


def searcher(storage=None, *, trials=100, fits=lambda config: True, points=(), past=(), unfinished=()):
    return StudySearch(
        partial(suggest, limits=LIMITS),
        CONTEXT,
        closed=Closing(trials, None),
        fits=fits,
        storage=storage or InMemoryStorage(),
        points=list(points),
        seed=0,
        past=past,
        unfinished=unfinished,
    )


def record(number, status, **figures):
    config = recipe("quick_unet").flat()
    trial_id = f"e{number:04d}"
    return TrialRecord(
        trial_id=trial_id, parent_id="", stage="explore", config=config, seed=0, status=status, figures=figures
    )


def study(storage):
    return optuna.load_study(study_name=STUDY_NAME, storage=storage)


@pytest.mark.parametrize(
    ("result", "error", "state", "value"),
    [
        ({"score": 0.5, "epoch": 9, "last": True}, False, "COMPLETE", 0.5),
        ({"score": 0.2, "epoch": 1, "last": False}, False, "PRUNED", None),
        ({"score": 0.0, "epoch": 9, "last": True, "failed": "loss is nan"}, False, "FAIL", None),
        (None, True, "FAIL", None),
        (None, False, "FAIL", None),
    ],
)
def test_optuna_is_told_how_a_trial_ended(result, error, state, value):
    storage = InMemoryStorage()
    search = searcher(storage)
    search.suggest("a")
    search.on_trial_complete("a", result, error)
    (trial,) = study(storage).trials
    assert trial.state.name == state and trial.value == value


def test_first_suggestions_are_the_points_given():
    points = first_points(LIMITS, lambda config: config.model.width <= 8)
    search = searcher(points=points)
    archs = [search.suggest(str(i))["entry"].config["model"]["arch"] for i in range(len(points))]
    assert archs == [point["model/arch"] for point in points]


def test_config_that_does_not_fit_is_pruned_before_it_costs_anything():
    storage = InMemoryStorage()
    search = searcher(storage, fits=lambda config: config.model.arch == "unet")
    entries = []
    for name in "abcdefgh":
        entries.append(search.suggest(name)["entry"])
        search.on_trial_complete(name, {"score": 0.5, "epoch": 9, "last": True})
    assert {entry.config["model"]["arch"] for entry in entries} == {"unet"}
    assert [entry.trial_id for entry in entries] == [f"e{i:04d}" for i in range(1, 9)]
    states = [trial.state.name for trial in study(storage).trials]
    assert states.count("COMPLETE") == 8 and set(states) == {"COMPLETE", "PRUNED"}


def test_when_nothing_fits_one_is_taken_all_the_same():
    assert searcher(fits=lambda config: False).suggest("a")["entry"].trial_id == "e0001"


def test_search_is_closed_after_its_trials():
    search = searcher(trials=2)
    assert [search.suggest(str(i)) == FINISHED for i in range(3)] == [False, False, True]


@pytest.fixture
def storage(tmp_path):
    return JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))


def test_trials_that_nothing_is_known_of_are_settled_as_failed(storage):
    searcher(storage).suggest("a")
    assert settle(storage) == 1
    assert [trial.state.name for trial in study(storage).trials] == ["FAIL"]
    assert settle(storage) == 0


def test_search_that_goes_on_settles_what_ended_and_hands_out_what_did_not(storage):
    first = searcher(storage)
    entries = [first.suggest(name)["entry"] for name in "abcd"]
    past = [record(1, "completed", score=0.5), record(2, "stopped", score=0.1), record(3, "failed"), record(4, "")]
    search = searcher(storage, past=past, unfinished=[entries[3]], points=[{"model/arch": "unet"}])
    assert search.suggest("x")["entry"].trial_id == "e0004" and search.suggest("y")["entry"].trial_id == "e0005"
    search.on_trial_complete("x", {"score": 0.7, "epoch": 9, "last": True})
    told = [(trial.state.name, trial.value) for trial in study(storage).trials]
    assert told == [("COMPLETE", 0.5), ("PRUNED", None), ("FAIL", None), ("COMPLETE", 0.7), ("RUNNING", None)]


def test_unfinished_trials_go_on_although_the_search_is_closed(storage):
    entry = searcher(storage).suggest("a")["entry"]
    search = searcher(storage, trials=1, past=[record(1, "")], unfinished=[entry])
    assert search.suggest("x")["entry"].trial_id == "e0001" and search.suggest("y") == FINISHED


def test_search_that_goes_on_draws_what_it_has_not_drawn(storage):
    drawn = [searcher(storage).suggest("a")["entry"].config]
    drawn.append(searcher(storage, past=[record(1, "failed")]).suggest("b")["entry"].config)
    assert drawn[0] != drawn[1]


def entries(stage, count):
    return [new_entry(CONTEXT, i, {"stage": stage}, seed=0) for i in range(count)]


def test_climb_opens_a_stage_when_the_last_trial_below_has_ended():
    opened = []

    def stages():
        for name in ("one", "two"):
            opened.append(name)
            yield Queue(entries(name, 2))

    climb = Climb(stages())
    assert [climb.suggest(t)["entry"].config["stage"] for t in "ab"] == ["one", "one"]
    assert climb.suggest("c") is None and opened == ["one"]
    climb.on_trial_complete("a", {"score": 0.0, "last": True})
    assert climb.suggest("c") is None
    climb.on_trial_complete("b", {"score": 0.0, "last": True})
    assert climb.suggest("c")["entry"].config["stage"] == "two" and opened == ["one", "two"]
    climb.suggest("d")
    climb.on_trial_complete("c")
    climb.on_trial_complete("d")
    assert climb.suggest("e") == FINISHED


def test_seeds_are_a_trials_own_and_repeat():
    seeds = [new_entry(CONTEXT, i, {}, seed=1).seed for i in range(50)]
    assert len(set(seeds)) == 50
    assert seeds == [new_entry(CONTEXT, i, {}, seed=1).seed for i in range(50)]
    assert seeds[0] != new_entry(CONTEXT, 0, {}, seed=2).seed
