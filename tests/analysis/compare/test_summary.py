import json
import shutil

import numpy as np
import pandas as pd
import pytest

from analysis.compare.summary import draw_estimates, draw_over_time, estimates_by, method_of, summaries
from analysis.exceptions import AnalysisError


def test_a_run_is_a_row_of_what_it_recorded(whole_runs):
    table = summaries(*whole_runs)
    assert table["run"].tolist() == [str(run) for run in whole_runs] and table["method"].tolist() == ["ours", "random"]
    row = table.iloc[0]
    assert (row["trials"], row["failed"], row["busy"], row["budget"]) == (15, 1, 0.8, "1m")
    assert row["network"] == "unet w4" and row["px"] == 32
    metrics = json.loads((whole_runs[0] / "best" / "metrics.json").read_text())
    assert row["val_score"] == metrics["val"]["score"] and row["test_iou"] == metrics["test"]["iou"]


def test_run_without_test_part_has_no_test_figures(whole_runs, tmp_path):
    run = shutil.copytree(whole_runs[0], tmp_path / "run")
    path = run / "best" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["test"]
    path.write_text(json.dumps(metrics))
    row = summaries(run).iloc[0]
    assert np.isnan(row["test_score"]) and not np.isnan(row["val_score"])


def test_run_that_has_no_model_is_refused(climbing_run):
    with pytest.raises(AnalysisError, match="not a run that has ended with a model"):
        summaries(climbing_run)


@pytest.mark.parametrize(
    ("folder", "asked", "method"),
    [
        ("ours-3", {"sampler": "tpe"}, "ours"),
        ("ours-4", {"sampler": "tpe", "ladder": "climb"}, "tpe, climb"),  # another seed than the folder says
        ("monday", {"sampler": "random", "ladder": "flat", "split": "random"}, "random, flat, random split"),
        ("monday", {"sampler": "tpe", "ladder": "climb", "configs": [{}]}, "stated configurations, climb"),
        ("monday", None, "unknown"),
    ],
)
def test_method_is_told_from_the_folder_or_from_what_was_asked(tmp_path, folder, asked, method):
    notes = {"seed": 3} | ({} if asked is None else {"asked": asked})
    assert method_of(tmp_path / folder, notes) == method


@pytest.fixture
def table():
    rows = [
        ("ours", "1m", 0.5),
        ("ours", "1m", 0.7),
        ("ours", "5m", 0.8),
        ("random", "1m", 0.1),
        ("random", "1m", np.nan),
    ]
    return pd.DataFrame(rows, columns=["method", "budget", "test_score"]).assign(wall_s=60.0)


def test_methods_and_budgets_are_estimated_apart_the_best_first(table):
    found = estimates_by(table, "test_score")
    assert list(found.index) == [("ours", "5m"), ("ours", "1m"), ("random", "1m")]
    assert found["runs"].tolist() == [1, 2, 1] and found["iqm"].tolist() == pytest.approx([0.8, 0.6, 0.1])
    both = found.loc[("ours", "1m")]
    assert (both["least"], both["most"]) == (0.5, 0.7) and 0.5 <= both["low"] < 0.6 < both["high"] <= 0.7


def test_estimates_are_drawn_by_name_whether_or_not_all_are_known(table):
    table["val_score"] = [np.nan, np.nan, 0.9, 0.2, 0.3]
    left, right = draw_estimates(table, ["val_score", "test_score"]).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["random, 1m", "ours, 5m", "ours, 1m"]
    dots = {line.get_ydata()[0]: line.get_xdata()[0] for line in left.get_lines() if line.get_color() == "C0"}
    assert dots == pytest.approx({0: 0.25, 1: 0.9}, abs=0.06) and right.get_xlabel() == "test_score"


def test_runs_of_a_method_share_a_colour_over_time(table):
    change = pd.DataFrame({"time_s": [10.0, 20.0], "score": [0.1, 0.4]})
    (ax,) = draw_over_time(table, [change] * len(table)).axes
    runs = ax.get_lines()[: len(table)]
    assert [line.get_color() for line in runs] == ["C0", "C0", "C1", "C2", "C2"]
    assert runs[0].get_xdata().tolist() == [10, 20, 60] and runs[0].get_ydata().tolist() == [0.1, 0.4, 0.4]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ours, 1m", "ours, 5m", "random, 1m"]
