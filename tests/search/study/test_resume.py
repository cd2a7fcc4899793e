"""What Optuna remembers of a run that goes on, in a space of three parameters, changed in every way it can be."""

import dataclasses

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from search.budget.allocation import StopCriterion
from search.budget.constraints import Constraints, Feasibility
from search.config.trial import TrialConfig
from search.records.trials import TrialRecord
from search.study.resume import resume_study
from search.study.storage import open_journal
from search.tuning.searchers import STUDY_NAME, FeasibleOptunaSearch
from search.tuning.stages import Stage
from search.tuning.trainable import StageContext

CONTEXT = StageContext(
    stage=Stage(name="explore", fraction=0.1, px=80, epochs=9),
    data=None, deadline=None, cap_s=None, threads=1, device="cpu",
)  # fmt: skip


def space(*, widths=(4, 8), rates=(1e-3, 1e-2), flip=(0.0, 0.5), decay=None):
    """Return a space; where `decay` is a range there is a fourth parameter, where `flip` is None only two."""

    def suggest(trial):
        config = {"model": {"arch": "unet", "width": trial.suggest_categorical("unet/width", widths)}}
        config["optim"] = {"lr": trial.suggest_float("adamw/lr", *rates, log=True)}
        if flip is not None:
            config["augment"] = {"flip": trial.suggest_categorical("augment/flip", flip)}
        if decay is not None:
            config["optim"]["weight_decay"] = trial.suggest_float("optim/weight_decay", *decay)
        return TrialConfig.from_dict(config)

    return suggest


POINTS = [(4, 1e-3), (8, 2e-3), (4, 5e-3), (8, 1e-2)]


def searched(storage, suggest, study_name=STUDY_NAME, **more):
    points = [] if "past" in more else [{"unet/width": w, "adamw/lr": lr, "augment/flip": 0.0} for w, lr in POINTS]
    return FeasibleOptunaSearch(
        suggest, CONTEXT, closed=StopCriterion(None, None), rules=Feasibility(px=80, constraints=Constraints(px=160)),
        storage=storage,
        points=points, seed=0, study_name=study_name, **more,
    )  # fmt: skip


def record(number, status, score=0.0):
    return TrialRecord(
        trial_id=f"e{number:04d}", parent_id="", stage="explore", config={}, seed=0, status=status,
        metrics={"score": score},
    )  # fmt: skip


@pytest.fixture
def storage(tmp_path):
    """The study of four trials: two completed, one stopped, one failed."""
    storage = open_journal(tmp_path / "study.journal")
    search = searched(storage, space())
    for name, score in zip("abcd", (0.1, 0.2, 0.3, None), strict=True):
        search.suggest(name)
        search.on_trial_complete(name, score and {"score": score, "last": name != "c"})
    return storage


def trials(storage, name=STUDY_NAME):
    return optuna.load_study(study_name=name, storage=storage).trials


def told(storage, name=STUDY_NAME):
    return [(t.user_attrs.get("trial_id"), t.state.name, t.value) for t in trials(storage, name)]


TOLD = [("e0001", "COMPLETE", 0.1), ("e0002", "COMPLETE", 0.2), ("e0003", "PRUNED", None), ("e0004", "FAIL", None)]


def test_new_run_has_no_memory():
    storage = InMemoryStorage()
    memory = resume_study(storage, space())
    assert (memory.study_name, memory.kept, memory.dropped) == (STUDY_NAME, 0, {})
    assert storage.get_all_studies() == []


def test_same_space_goes_on_with_the_same_study(storage):
    memory = resume_study(storage, space())
    assert (memory.study_name, memory.kept, memory.dropped) == (STUDY_NAME, 4, {})
    assert told(storage) == TOLD and len(storage.get_all_studies()) == 1


@pytest.mark.parametrize(
    ("changed", "kept", "reasons"),
    [
        ({"widths": (8, 16)}, [2, 4], {"unet/width=4 is gone"}),
        ({"widths": (4, 8, 16)}, [1, 2, 3, 4], set()),  # a choice added
        ({"rates": (1e-3, 3e-3)}, [1, 2], {"adamw/lr has another range"}),
        ({"rates": (1e-4, 1e-1)}, [1, 2, 3, 4], set()),  # a range widened
        ({"flip": None}, [1, 2, 3, 4], set()),  # a parameter removed
        ({"decay": (0.0, 0.1)}, [], {"optim/weight_decay is new"}),
    ],
)
def test_changed_space_has_a_new_study_of_what_fits_and_says_why_the_rest_does_not(changed, kept, reasons, storage):
    memory = resume_study(storage, space(**changed))
    assert memory.study_name == "explore-2" and memory.kept == len(kept)
    assert told(storage, "explore-2") == [TOLD[number - 1] for number in kept]
    assert sorted(memory.dropped) == [f"e{i:04d}" for i in range(1, 5) if i not in kept]
    assert set(memory.dropped.values()) == reasons
    assert told(storage) == TOLD  # the old one stays as it was


def test_what_is_imported_has_the_new_spaces_ranges_and_parameters(storage):
    resume_study(storage, space(rates=(1e-4, 1e-1), flip=None))
    for old, new in zip(trials(storage), trials(storage, "explore-2"), strict=True):
        assert new.params == {name: old.params[name] for name in ("unet/width", "adamw/lr")}
        assert (new.distributions["adamw/lr"].low, new.distributions["adamw/lr"].high) == (1e-4, 1e-1)


def test_space_that_changes_again_goes_on_from_the_newest_study(storage):
    resume_study(storage, space(rates=(1e-3, 3e-3)))
    memory = resume_study(storage, space())  # back again: what was dropped on the way is not asked for from the first
    assert (memory.study_name, memory.kept) == ("explore-3", 2)
    assert resume_study(storage, space()).study_name == "explore-3"


def test_tenth_study_comes_after_the_ninth(storage):
    for number in range(2, 12):
        assert resume_study(storage, space(rates=(1e-3, 0.1 + number / 100))).study_name == f"explore-{number}"
    assert resume_study(storage, space(rates=(1e-3, 0.1 + 11 / 100))).study_name == "explore-11"


def test_trials_that_a_dead_process_left_running_are_settled(storage):
    search = searched(storage, space(), past=[record(i, "failed") for i in range(1, 5)])
    for name in "efghij":
        search.suggest(name)
    past = [record(5, "completed", 0.5), record(6, "timed_out", 0.6), record(7, "stopped", 0.7)]
    past += [record(8, "failed"), record(9, "")]  # of e0010 nothing is known
    memory = resume_study(storage, space(), past)
    assert memory.kept == 10
    assert told(storage)[4:] == [
        ("e0005", "COMPLETE", 0.5),
        ("e0006", "COMPLETE", 0.6),
        ("e0007", "PRUNED", None),
        ("e0008", "FAIL", None),
        ("e0009", "RUNNING", None),
        ("e0010", "FAIL", None),
    ]
    assert resume_study(storage, space(), past).kept == 10 and len(trials(storage)) == 10


def test_settled_trials_bear_what_they_came_to(storage):
    search = searched(storage, space(), past=[record(i, "failed") for i in range(1, 5)])
    search.suggest("e")
    past = dataclasses.replace(record(5, "completed", 0.5), metrics={"score": 0.5, "iou": 0.25})
    resume_study(storage, space(), [past])
    seen = trials(storage)[4].user_attrs
    assert (seen["trial_id"], seen["status"], seen["iou"]) == ("e0005", "completed", 0.25)


def test_studies_of_other_stages_are_no_memory(storage):
    optuna.create_study(study_name="confirm", storage=storage, direction="maximize")
    assert resume_study(storage, space()).study_name == STUDY_NAME
    assert resume_study(storage, space(rates=(1e-3, 3e-3))).study_name == "explore-2"


def test_what_a_trial_came_to_is_taken_over_into_a_changed_space(storage):
    resume_study(storage, space(widths=(4, 8, 16)))
    old, new = ([t.user_attrs for t in trials(storage, name)] for name in (STUDY_NAME, "explore-2"))
    assert old == new and new[0]["status"] == "completed"


def test_trial_that_goes_on_is_told_in_the_study_of_the_changed_space(storage):
    search = searched(storage, space(), past=[record(i, "failed") for i in range(1, 5)])
    spec = search.suggest("e")["spec"]
    past = [record(5, "")]
    memory = resume_study(storage, space(rates=(1e-3, 2e-2)), past)
    later = searched(
        storage, space(rates=(1e-3, 2e-2)), memory.study_name, past=past, unfinished=[spec]
    )  # fmt: skip
    assert later.suggest("x")["spec"] is spec
    later.on_trial_complete("x", {"score": 0.9, "last": True})
    assert told(storage, "explore-2")[4] == ("e0005", "COMPLETE", 0.9)
    assert told(storage)[4] == ("e0005", "RUNNING", None)


def test_rejected_trials_are_imported_with_their_excess(storage):
    study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
    rejected = study.ask()
    space()(rejected)
    rejected.set_constraint("params", 2.0)
    study.tell(rejected, state=TrialState.PRUNED)
    resume_study(storage, space(widths=(4, 8, 16)))
    assert trials(storage, "explore-2")[4].constraints == {"params": 2.0}


def test_points_that_wait_are_not_imported_and_do_not_count(storage):
    study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
    study.enqueue_trial({"unet/width": 4})
    assert resume_study(storage, space()).kept == 4
    assert resume_study(storage, space(widths=(4, 8, 16))).kept == 4
    assert "WAITING" not in [state for _, state, _ in told(storage, "explore-2")]


def test_search_goes_on_from_the_new_study_and_tpe_sees_what_was_imported(storage):
    study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
    for number in range(40):  # the higher the rate the better, and the wide is bad
        trial = study.ask({"adamw/lr": optuna.distributions.FloatDistribution(1e-3, 1e-2, log=True)})
        wide = trial.suggest_categorical("unet/width", (4, 8)) == 8
        trial.suggest_categorical("augment/flip", (0.0, 0.5))
        study.tell(trial, trial.params["adamw/lr"] * 100 - wide + number * 1e-6)
    memory = resume_study(storage, space(widths=(4, 8, 16), flip=None))
    search = searched(storage, space(widths=(4, 8, 16), flip=None), memory.study_name, past=[record(1, "failed")])
    drawn = [search.suggest(str(i))["spec"].config for i in range(12)]
    rates = [config["optim"]["lr"] for config in drawn]
    assert sum(rate > 3e-3 for rate in rates) >= 9  # the middle of the range
    assert sum(config["model"]["width"] == 8 for config in drawn) <= 3
    assert len(trials(storage, memory.study_name)) == memory.kept + 12


def test_trial_whose_asking_was_cut_off_is_no_change_of_the_space(storage):
    cut_off = optuna.load_study(study_name=STUDY_NAME, storage=storage).ask()
    cut_off.suggest_categorical("unet/width", (4, 8))
    assert resume_study(storage, space()).study_name == STUDY_NAME
    assert trials(storage)[-1].state.name == "FAIL"


def test_half_a_copy_of_a_study_is_passed_over(storage):
    optuna.create_study(study_name="explore-2", storage=storage, direction="maximize")
    assert resume_study(storage, space()).study_name == STUDY_NAME
    memory = resume_study(storage, space(rates=(1e-3, 3e-3)))
    assert (memory.study_name, memory.kept) == ("explore-3", 2)
