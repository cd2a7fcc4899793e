import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from analysis.compare.compare import estimate_methods
from analysis.compare.summary import (
    build_results_table,
    main,
    name_method,
    summarise_runs,
    warn_of_data,
)
from search.records.run_dir import write_json
from search.records.trials import TrialTable
from tests.trials import add_trial, make_record


def test_a_run_is_a_row_of_its_records(whole_runs):
    table = summarise_runs(*whole_runs)
    assert table["run"].tolist() == [str(run) for run in whole_runs]
    assert table["method"].tolist() == ["default", "random"]
    row = table.iloc[0]
    assert (row["trials"], row["failed"], row["busy"], row["budget"]) == (15, 1, 0.8, "1m")
    assert row["network"] == "unet w4" and row["px"] == 32
    metrics = json.loads((whole_runs[0] / "best" / "metrics.json").read_text())
    assert row["val_score"] == metrics["val"]["score"] and row["test_iou"] == metrics["test"]["iou"]


def test_run_without_test_split_has_no_test_metrics(whole_runs, tmp_path):
    run = shutil.copytree(whole_runs[0], tmp_path / "run")
    path = run / "best" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["test"]
    path.write_text(json.dumps(metrics))
    row = summarise_runs(run).iloc[0]
    assert np.isnan(row["test_score"]) and not np.isnan(row["val_score"])


@pytest.mark.parametrize(
    ("folder", "options", "method"),
    [
        ("default-3", {"sampler": "tpe"}, "default"),
        ("default-4", {"sampler": "tpe", "stages": "default"}, "tpe, default"),  # another seed than the folder says
        ("monday", {"sampler": "random", "stages": "single", "split": "random"}, "random, single, random split"),
        ("monday", {"sampler": "tpe", "stages": "default", "configs": [{}]}, "fixed configurations, default"),
        ("monday", None, "unknown"),
    ],
)
def test_method_comes_from_the_folder_or_from_the_options(tmp_path, folder, options, method):
    notes = {"seed": 3} | ({} if options is None else {"options": options})
    assert name_method(tmp_path / folder, notes) == method


@pytest.fixture
def table():
    rows = [
        ("default", "1m", 0.5),
        ("default", "1m", 0.7),
        ("default", "5m", 0.8),
        ("random", "1m", 0.1),
        ("random", "1m", np.nan),
    ]
    return pd.DataFrame(rows, columns=["method", "budget", "test_score"]).assign(wall_s=60.0)


def test_methods_and_budgets_are_estimated_apart_the_best_first(table):
    found = estimate_methods(table, "test_score")
    assert list(found.index) == [("default", "5m"), ("default", "1m"), ("random", "1m")]
    assert found["runs"].tolist() == [1, 2, 1] and found["mean"].tolist() == pytest.approx([0.8, 0.6, 0.1])
    expected = ttest_1samp([0.5, 0.7], 0).confidence_interval(0.95)
    assert found.loc[("default", "1m"), ["low", "high"]].tolist() == pytest.approx([expected.low, expected.high])


def test_different_data_are_warned_of():
    assert warn_of_data(pd.DataFrame({"data": ["photos", "photos"]})) == ""
    assert "different data (photos, scenes)" in warn_of_data(pd.DataFrame({"data": ["scenes", "photos"]}))


def test_metric_that_no_run_has_gives_no_rows(table):
    found = estimate_methods(table.assign(test_score=float("nan")), "test_score")
    assert found.empty and list(found.columns) == ["runs", "mean", "low", "high"] and found.index.nlevels == 2


@pytest.fixture
def run(tmp_path):
    records = TrialTable(tmp_path)
    config = {"model/arch": "unet", "model/width": 4}
    for trial_id in ("e0001", "f0001", "e0002", "e0003"):
        add_trial(records, make_record(trial_id, config=config), score=0.5, params=1234)
    records.write()
    rounds = [{"name": "explore", "wall_s": wall_s, "busy": busy} for wall_s, busy in ((30.0, 0.9), (10.0, 0.8))]
    stages = [rounds[0], {"name": "final", "wall_s": 30.0, "busy": 0.1}, rounds[1]]
    notes = {"best": "f0001", "budget": "5m+2m", "wall_s": 299.2, "data": {"folder": "a/set"}, "seed": 0}
    write_json(tmp_path / "run.json", notes | {"stages": stages, "asked": {}})
    (tmp_path / "best").mkdir()
    part = {"images": 400, "iou": 0.5, "rmse_depth": 0.1, "score": 0.5625}
    (tmp_path / "best" / "metrics.json").write_text(
        json.dumps({"trial_id": "f0001", "px": 160, "val": part, "test": part})
    )
    return tmp_path


def test_table_has_a_row_per_part_read_from_the_run(run):
    lines = build_results_table(summarise_runs(run)).splitlines()
    assert len(lines) == 4
    assert lines[2] == "| set | 5m+2m | 299 | 3 | 88% | unet w4 | 1,234 | val | 400 | 0.500 | 0.100 | 0.562 |"
    assert "| test |" in lines[3]


@pytest.mark.parametrize(
    ("metric", "cells"), [("iou", "| - | 0.100 | 0.562 |"), ("rmse_depth", "| 0.500 | - | 0.562 |")]
)
def test_unknown_metric_is_a_dash(run, metric, cells):
    path = run / "best" / "metrics.json"
    path.write_text(path.read_text().replace(metric, "other"))
    assert build_results_table(summarise_runs(run)).splitlines()[2].endswith(cells)


def test_run_without_a_model_is_one_line(run, capsys):
    (run / "best" / "metrics.json").unlink()
    assert main([str(run)]) == 2 and "not a run that has ended with a model" in capsys.readouterr().err
