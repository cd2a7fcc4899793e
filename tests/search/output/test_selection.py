"""The end of a run, on trials made up for the test and networks that have learnt nothing."""

import time

import pytest

import search.output.finalize
from search.config.stages import STAGE_PRESETS
from search.output.finalize import list_pareto_front, select_best, summarise_seeds
from search.records.trials import TrialRecord, TrialTable
from search.tuning.rank_correlation import compute_mean_interval

DEFAULT = STAGE_PRESETS["default"]
STAGES = {stage.name[0]: stage for stage in DEFAULT}


@pytest.fixture
def made(tmp_path, small_config, monkeypatch):
    """Return a function that makes a table of trials, and what takes a latency's place."""
    monkeypatch.setattr(search.output.finalize, "measure_latency_ms", lambda config, px: px / 10)
    monkeypatch.setattr(search.output.finalize, "describe_device", lambda: "one thread")

    def make(*trials):
        table = TrialTable(tmp_path)
        for trial_id, parent_id, score, *figures in trials:
            stage, more = STAGES[trial_id[0]], figures[0] if figures else {}
            config = small_config.flatten() | {"model/width": more.get("params", 100)}
            table.start(TrialRecord(trial_id=trial_id, parent_id=parent_id, stage=stage.name, config=config, seed=0))
            table.report(trial_id, {"score": score, "px": stage.px, "params": 100, "macs": 10, "epochs": 1, **more})
            table.finish(trial_id, "completed")
        return table, dict.fromkeys(table.records, "weights")

    return make


def ids(records):
    return [r.trial_id for r in records]


LINEAGE = [("e0001", "", 0.9), ("c0001", "e0001", 0.8)]


def test_best_is_of_the_highest_stage_that_has_a_model(made):
    table, models = made(*LINEAGE, ("f0001", "c0001", 0.2), ("f0002", "c0002", 0.3))
    assert ids(select_best(DEFAULT, table, models)) == ["f0002"]
    del models["f0002"]
    assert ids(select_best(DEFAULT, table, models)) == ["f0001"]
    del models["f0001"]
    assert ids(select_best(DEFAULT, table, models)) == ["c0001"]
    assert select_best(DEFAULT, table, {}) == []


def test_mean_over_seeds_decides_and_of_the_best_its_best_seed(made):
    table, models = made(
        *LINEAGE,
        ("f0001", "c0001", 0.70), ("r0001", "c0001", 0.40), ("r0002", "c0001", 0.45),  # a lucky draw
        ("f0002", "c0002", 0.60), ("r0003", "c0002", 0.62), ("r0004", "c0002", 0.55),
        ("f0003", "c0003", 0.65),
    )  # fmt: skip
    group = select_best(DEFAULT, table, models)
    assert ids(group) == ["r0003", "f0002", "r0004"]
    found = summarise_seeds(group)
    assert found["trials"] == ids(group) and found["scores"] == [0.62, 0.60, 0.55]
    assert {name: found[name] for name in ("mean", "low", "high")} == compute_mean_interval([0.62, 0.60, 0.55])


def test_trials_of_stages_without_repeats_are_each_on_their_own(made):
    table, models = made(("e0001", "", 0.2), ("e0002", "", 0.3))
    assert ids(select_best(STAGE_PRESETS["single"], table, models)) == ["e0002"]


def test_front_leaves_the_search_out_where_others_came_after_it(made):
    search_only = [("e0001", "", 0.9, {"params": 50}), ("e0002", "", 0.95)]
    table, models = made(*search_only)
    assert [line["trial_id"] for line in list_pareto_front(DEFAULT, table, models, deadline=None)] == ["e0002", "e0001"]
    table, models = made(*search_only, ("c0001", "e0001", 0.8), ("f0001", "c0001", 0.7))
    assert [line["trial_id"] for line in list_pareto_front(DEFAULT, table, models, deadline=None)] == ["c0001"]


def test_front_has_each_network_once_and_its_latency_is_measured_once(made, monkeypatch):
    latencies = iter((16.0, 15.9, 15.8, 15.7))  # noise
    monkeypatch.setattr(search.output.finalize, "measure_latency_ms", lambda config, px: next(latencies))
    table, models = made(*LINEAGE, ("f0001", "c0001", 0.95), ("r0001", "c0001", 0.85), ("c0002", "e0002", 0.7))
    front = list_pareto_front(DEFAULT, table, models, deadline=None)
    assert [(line["trial_id"], line["latency_ms"]) for line in front] == [("f0001", 16.0)]
    assert next(latencies) == 15.9


def test_front_is_of_score_against_parameters_multiply_adds_and_latency(made):
    table, models = made(
        ("c0001", "e0001", 0.5),
        ("c0002", "e0002", 0.4, {"params": 50}),  # smaller
        ("c0003", "e0003", 0.3, {"params": 60, "macs": 5}),  # of fewer multiply-adds
        ("c0004", "e0004", 0.2, {"px": 40}),  # faster
        ("c0005", "e0005", 0.1, {"params": 70, "macs": 10}),  # worse than c0002 in everything
        ("c0006", "e0006", 0.9),
    )
    del models["c0006"]  # without a model
    front = list_pareto_front(DEFAULT, table, models, deadline=None)
    assert [line["trial_id"] for line in front] == ["c0001", "c0002", "c0003", "c0004"]
    assert front[0] == {
        "trial_id": "c0001", "stage": "confirm", "px": 160, "score": 0.5, "params": 100, "macs": 10, "latency_ms": 16.0,
        "latency_on": "one thread",
    }  # fmt: skip


def test_no_latency_is_measured_once_the_time_is_over(made, monkeypatch):
    def refuse(config, px):
        raise AssertionError("measured")

    monkeypatch.setattr(search.output.finalize, "measure_latency_ms", refuse)
    table, models = made(("c0001", "e0001", 0.5), ("c0002", "e0002", 0.4, {"params": 50}), ("c0003", "e0003", 0.3))
    front = list_pareto_front(DEFAULT, table, models, deadline=time.monotonic() - 1)
    assert [line["trial_id"] for line in front] == ["c0001", "c0002"] and "latency_ms" not in front[0]
