"""Table and plot of a comparison, from made-up rows and curves."""

import pandas as pd
import pytest

from analysis.compare.tables import build_comparison_table, plot_over_time
from search.config.budget import parse_budget

BUDGET = parse_budget("3m")


def runs_of(scores, **more):
    rows = [
        {"method": method, "seed": seed, "val_score": value, "test_score": value}
        for method, values in scores.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(**{"wall_s": 180.0, "trials": 40, "params": 1000} | more)


def test_methods_are_paired_by_seed():
    lines = build_comparison_table(runs_of({"study": [0.1, 0.6, 0.3], "default": [0.2, 0.5, 0.5]}), BUDGET).splitlines()
    assert "| test score minus default | above default |" in lines[0]
    assert "| -0.067 [-0.200, +0.100] | 1 of 3 |" in lines[2]


def test_without_default_there_is_no_pair():
    assert "default" not in build_comparison_table(runs_of({"study": [0.1], "random": [0.2]}), BUDGET)


def test_without_test_part_validation_counts():
    written = build_comparison_table(
        runs_of({"default": [0.2, 0.4], "study": [0.1, 0.2]}).drop(columns="test_score"), BUDGET
    )
    assert "| validation score, IQM | validation score minus default |" in written and "test" not in written
    assert "| study | 2 | 0.150 [0.100, 0.200] | -0.150 [-0.200, -0.100] | 0 of 2 |" in written


def test_run_that_takes_over_2_percent_longer_is_marked():
    written = build_comparison_table(
        runs_of({"default": [0.2, 0.4], "study": [0.1, 0.2]}, wall_s=[170.0, 183.0, 180.0, 184.0]), BUDGET
    )
    assert "| 176 (longest 183) |" in written and "| 182 (longest 184; **1 late**) |" in written
    assert "late**" not in build_comparison_table(runs_of({"default": [0.2]}, wall_s=999.0), parse_budget("40trials"))


def test_plot_has_a_line_and_a_dot_for_each_method_in_its_own_colour():
    changes = [
        pd.DataFrame({"time_s": [10.0, 20.0], "score": [0.1, 0.4]}),
        pd.DataFrame({"time_s": [30.0], "score": [0.2]}),
        pd.DataFrame({"time_s": [5.0], "score": [-0.5]}),
        pd.DataFrame({"time_s": [5.0], "score": [-0.5]}),
    ]
    figure = plot_over_time(runs_of({"study": [0.3, 0.5], "default": [0.1, 0.1]}), changes)
    ax, ends = figure.axes
    study, default = ax.lines[:2]
    assert study.get_xdata()[0] == pytest.approx(30, abs=0.5)  # the moment at which both runs have a model
    assert study.get_ydata() == pytest.approx([0.3] * len(study.get_ydata()))
    assert study.get_color() != default.get_color()
    assert [text.get_text() for text in ends.get_legend().get_texts()] == [
        "study: 0.400 [0.300, 0.500]",
        "default: 0.100 [0.100, 0.100]",
    ]
    assert ax.get_ylim()[0] < -0.5
