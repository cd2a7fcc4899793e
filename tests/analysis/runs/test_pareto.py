import pandas as pd

from analysis.runs.pareto import pareto_front, select_models

NAN = float("nan")


def frame(**columns):
    count = len(next(iter(columns.values())))
    given = {"stage": ["confirm"] * count, "status": ["completed"] * count, "params": [1.0] * count} | columns
    return pd.DataFrame({"trial_id": [f"c{row}" for row in range(count)], **given})


def ids(trials):
    return list(trials["trial_id"])


def test_front_leaves_out_what_another_beats_in_score_and_every_cost():
    trials = frame(score=[0.5, 0.4, 0.6, 0.3], params=[100, 100, 300, 50], macs=[10, 20, 30, 40])
    assert ids(pareto_front(trials)) == ["c2", "c0", "c3"]
    assert ids(pareto_front(trials, ["macs"])) == ["c2", "c0"]


def test_front_of_equals_keeps_the_earlier():
    assert ids(pareto_front(frame(score=[0.5, 0.5], params=[7, 7]))) == ["c0"]


def test_front_leaves_out_failed_trials_and_those_without_a_score():
    assert ids(pareto_front(frame(score=[0.9, NAN, 0.1], status=["failed", "completed", "timed_out"]))) == ["c2"]


def test_unknown_cost_counts_as_infinite_and_a_missing_column_not_at_all():
    trials = frame(score=[0.5, 0.4], params=[9, 9], latency_ms=[NAN, 3.0])
    assert ids(pareto_front(trials)) == ["c0", "c1"]
    assert ids(pareto_front(trials.drop(columns="latency_ms"))) == ["c0"]


def test_front_of_two_runs_tells_trials_of_one_name_apart():
    trials = pd.concat([frame(score=[0.5]).assign(run="a"), frame(score=[0.6]).assign(run="b")])
    assert list(pareto_front(trials)["run"]) == ["b"]


def test_front_of_nothing_is_empty():
    assert pareto_front(frame(score=[0.5])[:0]).empty


def test_models_are_those_of_later_stages_where_there_are_any():
    trials = frame(score=[0.1, 0.2, 0.3], stage=["explore", "confirm", "final"])
    assert ids(select_models(trials)) == ["c1", "c2"]
    assert ids(select_models(trials[:1])) == ["c0"] and select_models(trials[:0]).empty
