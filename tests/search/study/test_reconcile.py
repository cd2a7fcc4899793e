"""A study that is continued: stale trials are closed, and a changed space of three parameters is refused."""

import dataclasses

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from search.config.constraints import Constraints, Feasibility
from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.records.run_dir import RunDirError
from search.study.journal import STUDY_NAME, open_journal, repair_journal
from search.study.reconcile import reconcile_study
from search.tuning.allocation import StopCriterion
from search.tuning.ray.searchers import FeasibleOptunaSearch
from search.tuning.ray.trial_spec import StageContext
from tests.trials import make_record

CONTEXT = StageContext(
    stage=Stage(name="explore", kind="search", fraction=0.1, px=80, epochs=9),
    data=None, deadline=None, limit_s=None, threads=1, device="cpu",
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


def searched(storage, suggest, **more):
    points = [] if "past" in more else [{"unet/width": w, "adamw/lr": lr, "augment/flip": 0.0} for w, lr in POINTS]
    return FeasibleOptunaSearch(
        suggest, CONTEXT, closed=StopCriterion(None, None), rules=Feasibility(px=80, constraints=Constraints(px=160)),
        storage=storage, points=points, seed=0, **more,
    )  # fmt: skip


def record(number, status, score=0.0):
    return make_record(f"e{number:04d}", status=status, metrics={"score": score})


@pytest.fixture
def storage(tmp_path):
    """The study of four trials: two completed, one stopped, one failed."""
    storage = open_journal(tmp_path / "study.journal")
    search = searched(storage, space())
    for name, score in zip("abcd", (0.1, 0.2, 0.3, None), strict=True):
        search.suggest(name)
        search.on_trial_complete(name, score and {"score": score, "last": name != "c"})
    return storage


def trials(storage):
    return optuna.load_study(study_name=STUDY_NAME, storage=storage).trials


def states(storage):
    return [(t.user_attrs.get("trial_id"), t.state.name, t.value) for t in trials(storage)]


STATES = [("e0001", "COMPLETE", 0.1), ("e0002", "COMPLETE", 0.2), ("e0003", "PRUNED", None), ("e0004", "FAIL", None)]


def test_new_run_has_no_study():
    storage = InMemoryStorage()
    reconcile_study(storage, space(), encode=encode)
    assert storage.get_all_studies() == []


def test_same_space_continues_the_same_study(storage):
    reconcile_study(storage, space(), encode=encode)
    assert states(storage) == STATES and len(storage.get_all_studies()) == 1


def encode(config):
    return {"unet/width": config.model.width, "adamw/lr": config.optim.lr, "augment/flip": config.augment.flip}


def configured(number, status, score, width=8):
    config = {"model": {"arch": "unet", "width": width}, "optim": {"lr": 0.002}, "augment": {"flip": 0.5}}
    metrics = {"score": score, "epochs": 3}
    return dataclasses.replace(
        record(number, status), config=TrialConfig.from_dict(config).flatten(), metrics=metrics if score else {}
    )


@pytest.mark.parametrize("kept", [0, 1, 0.5, 0.9])
def test_trials_that_the_journal_lost_are_added_from_their_records(kept, storage, tmp_path):
    path = tmp_path / "study.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"".join(lines[: kept if isinstance(kept, int) else int(kept * len(lines))]) + bytes(300) + b"\n{}"
    )
    assert repair_journal(path) == 1 and (tmp_path / "study.journal.damaged").exists()
    records = [
        configured(i, status, score)
        for i, status, score in [
            (1, "completed", 0.1),
            (2, "completed", 0.2),
            (3, "stopped", 0.3),
            (4, "failed", None),
            (5, "", 0.4),
        ]
    ]
    reopened = open_journal(path)
    reconcile_study(reopened, space(), records, encode=encode)
    ended = sorted(state for state in states(reopened) if state[0] in [r.trial_id for r in records])
    assert ended == [*STATES, ("e0005", "RUNNING", None)]
    added = trials(reopened)[-1]
    assert added.params == {"unet/width": 8, "adamw/lr": 0.002, "augment/flip": 0.5}
    assert added.intermediate_values == {3: 0.4}
    reconcile_study(reopened, space(), records, encode=encode)
    assert sorted(state for state in states(reopened) if state[0]) == ended
    search = searched(reopened, space(), past=records)
    assert search.suggest("x")["spec"].trial_id == "e0006"


def test_record_outside_the_space_is_not_added(storage):
    reconcile_study(storage, space(), [configured(9, "completed", 0.5, width=16)], encode=encode)
    assert "e0009" not in {state[0] for state in states(storage)}


@pytest.mark.parametrize(
    "changed",
    [
        {"widths": (8, 16)},  # a choice replaced
        {"widths": (4, 8, 16)},  # a choice added
        {"rates": (1e-3, 3e-3)},  # a range narrowed
        {"rates": (1e-4, 1e-1)},  # a range widened
        {"flip": None},  # a parameter removed
        {"decay": (0.0, 0.1)},  # a parameter added
    ],
)
def test_changed_space_is_refused_in_one_line_and_the_study_stays_as_it_was(changed, storage):
    with pytest.raises(RunDirError, match=r"search space has changed .*; start a new run") as error:
        reconcile_study(storage, space(**changed), encode=encode)
    assert "\n" not in str(error.value)
    assert states(storage) == STATES and len(storage.get_all_studies()) == 1


def test_trials_that_a_dead_process_left_running_are_closed(storage):
    search = searched(storage, space(), past=[record(i, "failed") for i in range(1, 5)])
    for name in "efghij":
        search.suggest(name)
    past = [record(5, "completed", 0.5), record(6, "ended_by_budget", 0.6), record(7, "stopped", 0.7)]
    past += [record(8, "failed"), record(9, "")]  # of e0010 nothing is known
    reconcile_study(storage, space(), past, encode=encode)
    assert states(storage)[4:] == [
        ("e0005", "COMPLETE", 0.5),
        ("e0006", "COMPLETE", 0.6),
        ("e0007", "PRUNED", None),
        ("e0008", "FAIL", None),
        ("e0009", "RUNNING", None),
        ("e0010", "FAIL", None),
    ]
    reconcile_study(storage, space(), past, encode=encode)
    assert len(trials(storage)) == 10


def test_closed_trials_have_their_outcome(storage):
    search = searched(storage, space(), past=[record(i, "failed") for i in range(1, 5)])
    search.suggest("e")
    past = dataclasses.replace(record(5, "completed", 0.5), metrics={"score": 0.5, "iou": 0.25})
    reconcile_study(storage, space(), [past], encode=encode)
    seen = trials(storage)[4].user_attrs
    assert (seen["trial_id"], seen["status"], seen["iou"]) == ("e0005", "completed", 0.25)


def test_rejected_trials_are_no_change_of_the_space(storage):
    study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
    rejected = study.ask()
    space()(rejected)
    rejected.set_constraint("params", 2.0)
    study.tell(rejected, state=TrialState.PRUNED)
    reconcile_study(storage, space(), encode=encode)
    assert trials(storage)[4].constraints == {"params": 2.0}


def test_points_that_wait_are_no_change_of_the_space(storage):
    optuna.load_study(study_name=STUDY_NAME, storage=storage).enqueue_trial({"unet/width": 4})
    reconcile_study(storage, space(), encode=encode)
    assert trials(storage)[-1].state.name == "WAITING"


def test_trial_whose_asking_was_cut_off_is_no_change_of_the_space(storage):
    cut_off = optuna.load_study(study_name=STUDY_NAME, storage=storage).ask()
    cut_off.suggest_categorical("unet/width", (4, 8))
    reconcile_study(storage, space(), encode=encode)
    assert trials(storage)[-1].state.name == "FAIL"
