"""Tests of analysis.runs.curves."""

import math

import pandas as pd
import pytest

from analysis.runs.curves import (
    add_best_so_far,
    add_ranks,
    build_curves,
    list_training_times,
    select_models,
    select_pareto_trials,
)
from analysis.runs.tables import load_reports, load_trials_so_far


@pytest.fixture
def trials(running_run):
    return add_ranks(load_trials_so_far(running_run, load_reports(running_run)))


def test_ranks_are_within_a_stage_and_without_failed_trials(trials):
    ranks = trials.set_index("trial_id")["rank"]
    assert ranks.drop("e4").to_dict() == {"e1": 3, "e2": 2, "e3": 1, "c1": 1, "c2": 2} and math.isnan(ranks["e4"])


def test_ranked_trials_have_their_root_and_a_label(trials):
    table = trials.set_index("trial_id")
    assert table["root"].to_dict() == {"e1": "e1", "e2": "e2", "e3": "e3", "e4": "e4", "c1": "e3", "c2": "e2"}
    assert table.loc["c1", "label"] == "c1 unet w4 0.600" and table.loc["e4", "label"] == "e4 unet w4"
    assert table.loc["c2", "label"] == "c2 unet w4 0.550 (running)"


def test_curves_have_the_metrics_of_each_epoch_and_trials_those_of_the_best(running_run, trials):
    curves = build_curves(load_reports(running_run), trials).set_index(["trial_id", "epochs"])
    assert curves.loc["e3", "score"].to_dict() == {1: 0.2, 2: 0.5, 3: 0.4}
    assert trials.set_index("trial_id").loc["e3", "score"] == 0.5


def test_epoch_that_a_resumed_trial_repeats_counts_once(running_run, trials):
    path = running_run / "reports.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[-1].replace('"train_total": 1.4', '"train_total": 9.0')]))
    curves = build_curves(load_reports(running_run), trials)
    assert len(curves) == len(lines)


def test_best_so_far_never_falls_and_starts_anew_with_each_stage(running_run):
    points = add_best_so_far(load_reports(running_run))
    explore, confirm = (points[points["stage"] == stage] for stage in ("explore", "confirm"))
    assert list(explore["best"]) == [0.1, 0.2, 0.3, 0.3, 0.5, 0.5] and confirm["best"].iloc[0] == 0.4
    assert explore["ended_s"].is_monotonic_increasing


def test_training_times_hold_what_a_trial_cost(running_run, trials):
    table = list_training_times(trials)
    assert list(table["trial_id"]) == ["e3", "e2", "e1", "e4", "c1", "c2"]
    best = table.iloc[0]
    assert (best["arch"], best["width"], best["params"], best["images_seen"]) == ("unet", 4, 1234, 30)
    assert best["seconds"] == 6.0 and best["images_per_s"] == 5.0
    assert table["seconds"].isna().sum() == 1  # the trial that failed before its first epoch


def test_runs_with_equal_trial_ids_are_kept_apart(running_run, other_run):
    reports = [load_reports(run) for run in (running_run, other_run)]
    trials = [load_trials_so_far(run, own) for run, own in zip((running_run, other_run), reports, strict=True)]
    both = add_ranks(pd.concat(trials, ignore_index=True))
    assert both[both["trial_id"] == "e3"]["rank"].tolist() == [1, 1]
    assert len(build_curves(pd.concat(reports, ignore_index=True), both)) == 12


NAN = float("nan")


def frame(**columns):
    count = len(next(iter(columns.values())))
    given = {"stage": ["confirm"] * count, "status": ["completed"] * count, "params": [1.0] * count} | columns
    return pd.DataFrame({"trial_id": [f"c{row}" for row in range(count)], **given})


def ids(trials):
    return list(trials["trial_id"])


def test_front_leaves_out_what_another_beats_in_score_and_every_cost():
    trials = frame(score=[0.5, 0.4, 0.6, 0.3], params=[100, 100, 300, 50], macs=[10, 20, 30, 40])
    assert ids(select_pareto_trials(trials)) == ["c2", "c0", "c3"]
    assert ids(select_pareto_trials(trials, ["macs"])) == ["c2", "c0"]


def test_front_of_equals_keeps_the_earlier():
    assert ids(select_pareto_trials(frame(score=[0.5, 0.5], params=[7, 7]))) == ["c0"]


def test_front_leaves_out_failed_trials_and_those_without_a_score():
    assert ids(
        select_pareto_trials(frame(score=[0.9, NAN, 0.1], status=["failed", "completed", "ended_by_budget"]))
    ) == ["c2"]


def test_unknown_cost_counts_as_infinite_and_a_missing_column_not_at_all():
    trials = frame(score=[0.5, 0.4], params=[9, 9], latency_ms=[NAN, 3.0])
    assert ids(select_pareto_trials(trials)) == ["c0", "c1"]
    assert ids(select_pareto_trials(trials.drop(columns="latency_ms"))) == ["c0"]


def test_front_of_two_runs_tells_trials_of_one_name_apart():
    trials = pd.concat([frame(score=[0.5]).assign(run="a"), frame(score=[0.6]).assign(run="b")])
    assert list(select_pareto_trials(trials)["run"]) == ["b"]


def test_front_of_nothing_is_empty():
    assert select_pareto_trials(frame(score=[0.5])[:0]).empty


def test_models_are_those_of_later_stages_where_there_are_any():
    trials = frame(score=[0.1, 0.2, 0.3], stage=["explore", "confirm", "final"])
    assert ids(select_models(trials)) == ["c1", "c2"]
    assert ids(select_models(trials[:1])) == ["c0"] and select_models(trials[:0]).empty
