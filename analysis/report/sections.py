"""The charts of each section of the report, and its leaderboard; sections without content are left out."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.report import charts, facts, parameter_charts
from analysis.runs.curves import pair_promotions
from analysis.runs.run import Run, add_latency, select_first_stage

MAX_AXES = 7  # parameters of the parallel coordinates
MAX_SLICES = 18  # charts of score against one parameter
MIN_TRIALS = 3  # for a chart of parameters

# Leaderboard: column, heading, kind of filter, decimal places ("g": four significant digits)
LEADERBOARD = json.loads((Path(__file__).parent / "static" / "leaderboard.json").read_text(encoding="utf-8"))


def make_charts(run: Run, importances: pd.DataFrame) -> dict[str, list[go.Figure]]:
    """Return the charts of a run by section; a section without content has an empty list."""
    first, costed = select_first_stage(run), add_latency(run)
    first, known = first[first["score"].notna()], costed[costed["score"].notna()]
    varied = parameter_charts.list_varied(first, importances) if len(first) >= MIN_TRIALS else []
    axes = [name for name in varied if name != "model/arch"][:MAX_AXES]
    reported, spans = run.curves[run.curves["score"].notna()], facts.find_stage_spans(run)
    stages = [stage for stage in run.stages[::-1] if (reported["stage"] == stage).any()]
    costs = [cost for cost in parameter_charts.COSTS if known[cost].notna().sum() > 1]
    return {
        "over_time": [charts.plot_best_over_time(run.curves, spans)] if len(reported) else [],
        "curves": [charts.plot_learning_curves(run.curves, stage) for stage in stages],
        "ranks": _ranks(run),
        "importance": _importance(importances),
        "parallel": [parameter_charts.plot_parallel_coordinates(first, axes)] if axes else [],
        "slices": [parameter_charts.plot_score_by(first, name) for name in varied[:MAX_SLICES]],
        "front": [parameter_charts.plot_score_against(costed, cost) for cost in costs],
        "spent": _spent(run),
    }


def build_leaderboard(run: Run) -> dict[str, Any]:
    """Return the table of all trials, ordered by image size, number of images and score."""
    ended = run.trials.assign(scored=run.trials["rank"].notna())
    trials = ended.sort_values(["scored", "px", "train_images", "score"], ascending=False, kind="stable")
    shown = [column for column in LEADERBOARD if column[0] in trials and trials[column[0]].notna().any()]
    columns = [{"title": title, "kind": kind, "digits": digits} for _, title, kind, digits in shown]
    values = [_cells(trials[name], kind, digits) for name, _, kind, digits in shown]
    best = None if run.best is None else str(run.best["trial_id"])
    return {"columns": columns, "rows": [list(row) for row in zip(*values, strict=True)], "best": best}


def _ranks(run: Run) -> list[go.Figure]:
    correlations, found = facts.collect_rank_correlations(run), []
    for lower, upper in zip(run.stages, run.stages[1:], strict=False):
        if len(pair_promotions(run.trials, lower, upper)) > 1:
            found.append(charts.plot_stage_ranks(run.trials, lower, upper, correlations.get(upper)))
    return found


def _importance(importances: pd.DataFrame) -> list[go.Figure]:
    names = list(dict.fromkeys(importances["architecture"]))
    if len(names) == 2:
        names = names[:1]  # with a single architecture, "all" shows the same
    return [parameter_charts.plot_importances(importances, name) for name in names]


def _spent(run: Run) -> list[go.Figure]:
    rows, ran = facts.list_phases(run), run.trials[["started_s", "ended_s"]].notna().all(axis=1)
    found = [charts.plot_phases(rows)] if len(rows) else []
    return [*found, charts.plot_timeline(run.trials, facts.find_stage_spans(run))] if ran.any() else found


def _cells(values: pd.Series, kind: str, digits: int | str) -> list[Any]:
    """Return the values of a column for the table: numbers rounded, None if missing."""
    if kind in ("text", "choice"):
        return [None if pd.isna(value) else str(value) for value in values]
    numbers = pd.to_numeric(values, errors="coerce")
    places = digits if isinstance(digits, int) else 8
    return [None if pd.isna(value) else int(value) if places == 0 else round(float(value), places) for value in numbers]
