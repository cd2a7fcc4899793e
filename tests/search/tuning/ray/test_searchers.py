"""The searchers, driven by hand: no Ray is started."""

import dataclasses
from collections import UserDict
from functools import partial

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

import search.tuning.ray.searchers
from models.cost import Throughput, probe
from search.config.constraints import TIME, Constraints, Feasibility
from search.config.recipes import NETWORKS, build_recipe
from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.study.journal import STUDY_NAME, open_journal
from search.study.reconcile import reconcile_study
from search.study.sampler import build_sampler, select_fitted
from search.study.search_space import build_first_points, build_space, encode_point, suggest
from search.tuning.allocation import StopCriterion
from search.tuning.ray.searchers import FINISHED, FeasibleOptunaSearch, ListSearcher, StageChain
from search.tuning.ray.trial_spec import StageContext, build_trial_spec
from tests.trials import make_record

CONTEXT = StageContext(
    stage=Stage(name="explore", kind="search", fraction=0.1, px=80, epochs=9, early_stopping=True),
    data=None,
    deadline=None,
    limit_s=None,
    threads=1,
    device="cpu",
)
CONFIG = build_recipe("quick_unet")
LIMITS = build_space()
SPACE = partial(suggest, space=LIMITS)
RULES = Feasibility(px=80, constraints=Constraints(px=160))
LAST = {"score": 0.5, "epoch": 9, "last": True}


class Only:
    """Rules that configurations of one architecture keep."""

    def __init__(self, arch, broken="params"):
        self.arch, self.broken = arch, broken

    def compute_excess(self, config):
        return {TIME: -0.5, self.broken: 0.0 if config.model.arch == self.arch else 1.5}


def searcher(
    storage=None, *, trials=100, rules=RULES, points=(), past=(), unfinished=(), space=SPACE, context=CONTEXT, **more
):
    return FeasibleOptunaSearch(
        space,
        context,
        closed=StopCriterion(trials, None),
        rules=rules,
        storage=storage or InMemoryStorage(),
        points=list(points),
        seed=0,
        past=past,
        unfinished=unfinished,
        **more,
    )


def record(number, status, **metrics):
    return make_record(f"e{number:04d}", config=build_recipe("quick_unet").flatten(), status=status, metrics=metrics)


def study(storage):
    return optuna.load_study(study_name=STUDY_NAME, storage=storage)


@pytest.mark.parametrize(
    ("result", "error", "state", "value"),
    [
        ({"score": 0.5, "epoch": 9, "last": True}, False, "COMPLETE", 0.5),
        ({"score": 0.4, "epoch": 9, "last": True, "metrics": {"best": {"score": 0.5}}}, False, "COMPLETE", 0.5),
        ({"score": 0.2, "epoch": 1, "last": False}, False, "PRUNED", 0.2),  # by which TPE ranks it
        ({"score": 0.0, "epoch": 9, "last": True, "failed": "loss is nan"}, False, "FAIL", None),
        (None, True, "FAIL", None),
        (None, False, "FAIL", None),
    ],
)
def test_state_of_a_trial_is_reported_to_optuna(result, error, state, value):
    storage = InMemoryStorage()
    search = searcher(storage)
    search.suggest("a")
    search.on_trial_complete("a", result, error)
    (trial,) = study(storage).trials
    assert trial.state.name == state and trial.value == value


def test_outcome_of_a_trial_is_reported_to_optuna():
    storage = InMemoryStorage()
    search = searcher(storage)
    metrics = {"metrics": UserDict(iou=0.4, params=1234, fit_s=2.5, out_of_time=True)}
    for name, result in (("a", LAST | metrics), ("b", {"failed": "loss is nan", "last": True}), ("c", None)):
        search.suggest(name)
        search.on_trial_complete(name, result)
    seen = [trial.user_attrs for trial in study(storage).trials]
    whole = {
        "trial_id": "e0001",
        "stage": "explore",
        "status": "ended_by_budget",
        "reason": "time limit reached, learning rate annealed",
    }
    assert seen[0] == {**whole, "iou": 0.4, "params": 1234, "fit_s": 2.5}
    assert seen[1] == {"trial_id": "e0002", "stage": "explore", "status": "failed", "reason": "loss is nan"}
    assert seen[2] == {"trial_id": "e0003", "stage": "explore", "status": "failed"}


def test_scores_of_a_trial_are_reported_while_it_trains():
    storage = InMemoryStorage()
    search = searcher(storage)
    search.suggest("a")
    search.on_trial_result("a", {"score": 0.1, "epoch": 1})
    search.on_trial_result("unknown", {"score": 0.9, "epoch": 1})
    search.on_trial_complete("a", {"score": 0.2, "epoch": 2, "last": False})
    (trial,) = study(storage).trials
    assert (trial.state.name, trial.intermediate_values) == ("PRUNED", {1: 0.1, 2: 0.2})


def test_scores_of_a_trial_that_another_worker_continues_are_those_of_its_epochs():
    storage = InMemoryStorage()
    search = searcher(storage)
    spec = search.suggest("a")["spec"]
    for epoch in (1, 2):
        search.on_trial_result("a", {"score": 0.1 * epoch, "epoch": epoch, "training_iteration": epoch})
    search.retry("a", spec)
    search.suggest("b")
    last = {"score": 0.3, "epoch": 3, "training_iteration": 1, "last": False}  # Ray Tune counts anew
    search.on_trial_complete("b", last)
    assert study(storage).trials[0].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


def test_trial_is_continued_in_the_study_however_many_others_run(storage, monkeypatch):
    monkeypatch.setattr("search.study.sampler.MAX_RUNNING", 1)
    search = searcher(storage)
    storage.select = select_fitted
    first, *_ = [search.suggest(name)["spec"] for name in "abc"]
    search.retry("a", first)
    assert search.suggest("d")["spec"] is first
    search.on_trial_complete("d", LAST)
    storage.select = None
    assert [trial.state.name for trial in study(storage).trials] == ["COMPLETE", "RUNNING", "RUNNING"]


def test_first_suggestions_are_the_points_given():
    points = build_first_points(LIMITS, lambda config: config.model.width <= 8, NETWORKS)
    search = searcher(points=points)
    archs = [search.suggest(str(i))["spec"].config.model.arch for i in range(len(points))]
    assert archs == [point["model/arch"] for point in points]


def test_config_that_does_not_fit_is_pruned_before_it_costs_anything():
    storage = InMemoryStorage()
    search = searcher(storage, rules=Only("unet"))
    specs = []
    for name in "abcdefgh":
        specs.append(search.suggest(name)["spec"])
        search.on_trial_complete(name, LAST)
    assert {spec.config.model.arch for spec in specs} == {"unet"}
    assert [spec.trial_id for spec in specs] == [f"e{i:04d}" for i in range(1, 9)]
    trials_of_study = study(storage).trials
    taken, rejected = ([t for t in trials_of_study if t.state.name == state] for state in ("COMPLETE", "PRUNED"))
    assert len(taken) == 8 and rejected and len(taken) + len(rejected) == len(trials_of_study)
    assert all(t.constraints == {"params": 1.5} and "trial_id" not in t.user_attrs for t in rejected)
    assert not any(t.constraints for t in taken)  # which Optuna takes for kept


def small_only(trial):
    """A space in which a single width is allowed; another parameter has nothing to do with it."""
    width = trial.suggest_categorical("unet/width", (4, 6, 8, 12, 16))
    rate = trial.suggest_float("adamw/lr", 1e-3, 3e-2, log=True)
    return TrialConfig.from_dict({"model": {"arch": "unet", "width": width}, "optim": {"lr": rate}})


def rejections(kind, *, trials):
    """Return how many suggestions each accepted one was preceded by, in order."""
    storage, counts, known = InMemoryStorage(), [], 0
    most = probe(TrialConfig.from_dict({"model": {"arch": "unet", "width": 4}}).model).params
    rules = Feasibility(px=80, constraints=Constraints(px=160, max_params=most))
    search = searcher(storage, rules=rules, space=small_only, kind=kind)
    for number in range(trials):
        spec = search.suggest(str(number))["spec"]
        assert spec.config.model.width == 4
        search.on_trial_complete(str(number), LAST)
        trials_of_study = len(study(storage).trials)
        counts.append(trials_of_study - known - 1)
        known = trials_of_study
    return counts


def test_tpe_learns_what_is_rejected():
    learnt, drawn = (rejections(kind, trials=25) for kind in ("tpe", "random"))
    assert sum(learnt[:5]) >= 5  # four of five widths are too large
    assert sum(learnt[-15:]) <= 0.7 * sum(drawn[-15:])


def test_random_sampler_learns_nothing():
    assert sum(rejections("random", trials=25)[-10:]) > 20


def test_samplers_are_those_of_their_kind_and_repeat():
    assert isinstance(build_sampler("random", 0), optuna.samplers.RandomSampler)
    assert isinstance(build_sampler("tpe", 0), optuna.samplers.TPESampler)
    for kind in ("tpe", "random"):
        drawn = [searcher(kind=kind).suggest("a")["spec"].config for _ in range(2)]
        assert drawn[0] == drawn[1]


def test_tpe_takes_a_tenth_of_the_trained_trials_as_good():
    storage = InMemoryStorage()
    search = searcher(storage, rules=Only("unet"))
    for number in range(12):
        search.suggest(str(number))
        search.on_trial_complete(str(number), None if number < 2 else LAST)  # the first two fail
    assert search.study.sampler.trained == 10 < len(study(storage).trials) - 2
    assert searcher(storage).study.sampler.trained == 10


def test_when_nothing_is_in_time_one_is_taken_all_the_same(monkeypatch):
    monkeypatch.setattr(search.tuning.ray.searchers, "MAX_REJECTIONS_IN_TIME", 7)
    storage = InMemoryStorage()
    rules = Feasibility(px=80, constraints=Constraints(px=160), images=100, limit_s=1e-9, throughput=Throughput(1e9))
    assert searcher(storage, rules=rules).suggest("a")["spec"].trial_id == "e0001"
    trials_of_study = study(storage).trials
    assert [t.state for t in trials_of_study] == [TrialState.PRUNED] * 7 + [TrialState.RUNNING]
    assert all(t.constraints[TIME] > 0 for t in trials_of_study)


def test_users_constraints_are_never_broken_and_the_search_ends_where_nothing_keeps_them(monkeypatch):
    monkeypatch.setattr(search.tuning.ray.searchers, "MAX_REJECTIONS_IN_TIME", 3)
    monkeypatch.setattr(search.tuning.ray.searchers, "MAX_REJECTIONS", 12)
    storage = InMemoryStorage()
    asked = searcher(
        storage, rules=Feasibility(px=80, constraints=Constraints(px=160, max_params=1.0)), space=small_only
    )
    assert asked.suggest("a") == FINISHED == asked.suggest("b")
    assert [t.state for t in study(storage).trials] == [TrialState.PRUNED] * 12  # it does not ask in vain again
    assert asked.infeasible == "--max-params 1: none of 12 suggested networks meets this; relax it"


def test_search_that_has_trials_or_no_time_is_not_infeasible(monkeypatch):
    monkeypatch.setattr(search.tuning.ray.searchers, "MAX_REJECTIONS", 3)
    rules = Feasibility(px=80, constraints=Constraints(px=160, max_params=1.0))
    for more in ({"past": [record(1, "completed", score=0.5, px=80)]}, {"trials": 0}):
        asked = searcher(rules=rules, **more)
        assert asked.suggest("a") == FINISHED and asked.infeasible == ""


def test_one_that_is_too_slow_is_only_taken_if_it_keeps_the_users_constraints(monkeypatch):
    monkeypatch.setattr(search.tuning.ray.searchers, "MAX_REJECTIONS_IN_TIME", 2)
    rules = Feasibility(
        px=80, constraints=Constraints(px=160, max_params=300_000), images=100, limit_s=1e-9, throughput=Throughput(1e9)
    )  # no network is fast enough
    asked = searcher(rules=rules)
    configs = [asked.suggest(name)["spec"].config for name in "abcd"]
    assert max(probe(config.model).params for config in configs) <= 300_000


def test_search_is_closed_after_its_trials():
    search = searcher(trials=2)
    assert [search.suggest(str(i)) == FINISHED for i in range(3)] == [False, False, True]


@pytest.fixture
def storage(tmp_path):
    return open_journal(tmp_path / "study.journal")


def test_search_that_goes_on_knows_what_ended_and_hands_out_what_did_not(storage):
    first = searcher(storage)
    specs = [first.suggest(name)["spec"] for name in "abcd"]
    past = [record(1, "completed", score=0.5), record(2, "stopped", score=0.1), record(3, "failed"), record(4, "")]
    reconcile_study(storage, SPACE, past, encode=partial(encode_point, space=LIMITS))
    search = searcher(storage, past=past, unfinished=[specs[3]])
    assert search.suggest("x")["spec"].trial_id == "e0004" and search.suggest("y")["spec"].trial_id == "e0005"
    search.on_trial_complete("x", {"score": 0.7, "epoch": 9, "last": True})
    trials_of_study = [(trial.state.name, trial.value) for trial in study(storage).trials]
    assert trials_of_study == [
        ("COMPLETE", 0.5),
        ("PRUNED", None),
        ("FAIL", None),
        ("COMPLETE", 0.7),
        ("RUNNING", None),
    ]


def test_unfinished_trial_that_the_space_has_dropped_is_handed_out_and_not_reported(storage):
    spec = searcher().suggest("a")["spec"]  # of a study that is gone
    search = searcher(storage, past=[record(1, "")], unfinished=[spec])
    assert search.suggest("x")["spec"] is spec
    search.on_trial_complete("x", LAST)
    assert study(storage).trials == []
    assert search.suggest("y")["spec"].trial_id == "e0002"


def test_trials_are_prepared_in_advance_as_far_as_the_search_goes_and_handed_out_in_order(storage):
    search = searcher(storage, trials=4, ahead=2)
    first = search.suggest("a")["spec"]
    for _ in range(5):
        search.prepare()
    asked = study(storage).trials
    assert [trial.user_attrs.get("trial_id") for trial in asked] == [first.trial_id, None, None]
    assert [search.suggest(name)["spec"].trial_id for name in "bc"] == ["e0002", "e0003"]
    assert len(study(storage).trials) == 3
    for _ in range(3):
        search.prepare()
    assert len(study(storage).trials) == 4  # the search has no more
    assert search.suggest("d")["spec"].trial_id == "e0004" and search.suggest("e") == FINISHED


def test_trials_for_which_no_time_is_left_are_closed(storage):
    closed = []
    search = searcher(storage, ahead=2)
    search._closed = lambda trials: bool(closed)
    search.suggest("a")
    search.prepare()
    closed.append(True)
    search.prepare()
    assert search.suggest("b") == FINISHED
    assert [trial.state for trial in study(storage).trials] == [TrialState.RUNNING, TrialState.FAIL]


def test_nothing_is_prepared_without_being_asked_for(storage):
    search = StageChain(iter([searcher(storage), ListSearcher([])]))
    search.prepare()
    assert study(storage).trials == []


def test_number_that_a_killed_run_had_not_come_to_is_used(storage):
    search = searcher(storage, trials=3, past=[record(2, "completed", score=0.5)])
    assert [search.suggest(name)["spec"].trial_id for name in "ab"] == ["e0001", "e0003"]
    assert search.suggest("c") == FINISHED


def test_unfinished_trials_go_on_although_the_search_is_closed(storage):
    spec = searcher(storage).suggest("a")["spec"]
    search = searcher(storage, trials=1, past=[record(1, "")], unfinished=[spec])
    assert search.suggest("x")["spec"].trial_id == "e0001" and search.suggest("y") == FINISHED


def test_search_that_goes_on_draws_what_it_has_not_drawn(storage):
    drawn = [searcher(storage).suggest("a")["spec"].config]
    drawn.append(searcher(storage, past=[record(1, "failed")]).suggest("b")["spec"].config)
    assert drawn[0] != drawn[1]


def specs(stage, count):
    return [
        build_trial_spec(
            dataclasses.replace(CONTEXT, stage=dataclasses.replace(CONTEXT.stage, name=stage)), i, CONFIG, seed=0
        )
        for i in range(count)
    ]


def test_chain_opens_a_stage_when_the_last_trial_of_the_previous_one_has_ended():
    opened = []

    def stages():
        for name in ("one", "two"):
            opened.append(name)
            yield ListSearcher(specs(name, 2))

    chain = StageChain(stages())
    assert [chain.suggest(t)["spec"].context.stage.name for t in "ab"] == ["one", "one"]
    assert chain.suggest("c") is None and opened == ["one"]
    chain.on_trial_complete("a", {"score": 0.0, "last": True})
    assert chain.suggest("c") is None
    chain.on_trial_complete("b", {"score": 0.0, "last": True})
    assert chain.suggest("c")["spec"].context.stage.name == "two" and opened == ["one", "two"]
    chain.suggest("d")
    chain.on_trial_complete("c")
    chain.on_trial_complete("d")
    assert chain.suggest("e") == FINISHED


def test_chain_hands_out_a_retried_trial_before_the_next_stage_and_reports_a_failed_one(storage):
    chain = StageChain(iter([searcher(storage, trials=2), ListSearcher(specs("two", 1))]))
    first = chain.suggest("a")["spec"]
    second = chain.suggest("b")["spec"]
    chain.on_trial_result("a", {"score": 0.2, "epoch": 1})
    chain.on_trial_complete("b", {"score": 0.5, "epoch": 9, "last": True})
    chain.on_trial_complete("a", error=True)  # Ray Tune calls this before the trial is retried or fails
    assert chain.suggest("c") is None
    chain.retry("a", dataclasses.replace(first, attempt=1))
    assert chain.suggest("c")["spec"] == dataclasses.replace(first, attempt=1)
    assert [trial.state.name for trial in study(storage).trials] == ["RUNNING", "COMPLETE"]
    chain.on_trial_complete("c", error=True)
    chain.fail("c")
    assert [trial.state.name for trial in study(storage).trials] == ["FAIL", "COMPLETE"]
    named = [trial.user_attrs["trial_id"] for trial in study(storage).trials]
    assert named == [first.trial_id, second.trial_id]
    third = chain.suggest("d")["spec"]
    assert third.context.stage.name == "two"
    chain.on_trial_complete("d", error=True)
    chain.retry("d", third)
    assert chain.suggest("e")["spec"] is third
    chain.on_trial_complete("e", {"score": 0.5, "last": True})
    assert chain.suggest("f") == FINISHED


def test_seeds_are_a_trials_own_and_repeat():
    seeds = [build_trial_spec(CONTEXT, i, CONFIG, seed=1).seed for i in range(50)]
    assert len(set(seeds)) == 50
    assert seeds == [build_trial_spec(CONTEXT, i, CONFIG, seed=1).seed for i in range(50)]
    assert seeds[0] != build_trial_spec(CONTEXT, 0, CONFIG, seed=2).seed


def test_two_objectives_are_values_of_one_study_also_after_a_resume(tmp_path):
    stage = dataclasses.replace(CONTEXT.stage, objectives=("score", "params"), early_stopping=False)
    context, journal = dataclasses.replace(CONTEXT, stage=stage), tmp_path / "study.journal"
    search = searcher(open_journal(journal), context=context)
    metrics = UserDict(score=0.5, params=1234, epochs=9)
    for name, result in (("a", LAST | {"metrics": metrics}), ("b", {"failed": "loss is nan", "last": True})):
        spec = search.suggest(name)["spec"]
        search.on_trial_result(name, {"score": 0.4, "epoch": 1})
        search.on_trial_complete(name, result)
    found = study(open_journal(journal))
    assert [direction.name for direction in found.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert found.metric_names == ["score", "params"]
    assert [(trial.state.name, trial.values) for trial in found.trials] == [("COMPLETE", [0.5, 1234.0]), ("FAIL", None)]
    past = [record(1, "completed", **metrics), record(2, "failed"), record(3, "completed", **metrics)]
    past[2].config = spec.config.flatten()
    again = open_journal(journal)
    encode = partial(encode_point, space=LIMITS)
    reconcile_study(again, SPACE, past, encode=encode, objectives=stage.objectives)
    assert study(again).trials[2].values == [0.5, 1234.0]  # the study had lost it
    lost = open_journal(tmp_path / "lost.journal")
    reconcile_study(lost, SPACE, past[2:], encode=encode, objectives=stage.objectives)
    assert study(lost).trials[0].values == [0.5, 1234.0]


def test_tpe_of_two_objectives_suggests_beyond_its_start_and_avoids_what_is_worse_in_both():
    stage = dataclasses.replace(CONTEXT.stage, objectives=("score", "params"), early_stopping=False)
    search = searcher(context=dataclasses.replace(CONTEXT, stage=stage), trials=40)
    rates = []
    for number in range(40):
        config = search.suggest(str(number))["spec"].config
        good = config.optim.name == "adamw"
        rates.append(good)
        metrics = UserDict(score=0.6 if good else 0.1, params=1000 if good else 2000, epochs=9)
        search.on_trial_complete(str(number), LAST | {"metrics": metrics, "score": metrics["score"]})
    assert sum(rates[20:]) >= 15


def test_tpe_of_two_objectives_is_fitted_to_the_front(monkeypatch):
    monkeypatch.setattr("search.study.sampler.MAX_RECENT", 1)
    monkeypatch.setattr("search.study.sampler.MAX_GOOD", 2)
    values = [(0.1, 9.0), (0.9, 9.0), (0.5, 5.0), (0.4, 6.0), (0.2, 1.0), (0.0, 9.0)]
    trials = [optuna.trial.create_trial(values=pair) for pair in values]
    for number, trial in enumerate(trials):
        trial.number = number
    assert [trial.values[0] for trial in select_fitted(trials)] == [0.9, 0.2, 0.0]
