"""What the report of a run shows: its charts by section, and its leaderboard. What has nothing to show is absent."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.report import charts
from analysis.report import facts as account
from analysis.report import parameter_charts as landscape
from analysis.runs.curves import climbed
from analysis.runs.run import Run, first_stage, with_latency

MOST_AXES = 7  # parameters among the parallel coordinates
MOST_SLICES = 18  # charts of score against one parameter
LEAST_TRIALS = 3  # of which a chart of parameters says something

# Columns of the leaderboard: column, heading, kind (how it is filtered), digits ("g": four that count)
LEADERBOARD: tuple[tuple[str, str, str, int | str], ...] = (
    ("trial_id", "trial", "text", 0),
    ("stage", "stage", "choice", 0),
    ("rank", "rank", "low", 0),
    ("model/arch", "network", "choice", 0),
    ("model/width", "width", "low", 0),
    ("score", "score", "high", 3),
    ("iou", "IoU", "high", 3),
    ("rmse_depth", "depth RMSE", "low", 3),
    ("params", "parameters", "low", 0),
    ("macs", "multiply-adds", "low", 0),
    ("status", "status", "choice", 0),
    ("epochs", "epochs", "high", 0),
    ("images_seen", "images seen", "high", 0),
    ("fit_s", "seconds", "low", 1),
    ("optim/name", "optimizer", "choice", 0),
    ("optim/lr", "learning rate", "high", "g"),
    ("optim/batch_size", "batch", "low", 0),
    ("schedule/policy", "policy", "choice", 0),
    ("loss/mask_pixel", "mask pixel loss", "choice", 0),
    ("loss/mask_structural", "mask structural loss", "choice", 0),
    ("loss/depth_pixel", "depth pixel loss", "choice", 0),
    ("loss/depth_structural", "depth structural loss", "choice", 0),
    ("loss/balance", "balance", "choice", 0),
    ("parent_id", "parent", "text", 0),
    ("reason", "reason", "text", 0),
)


def figures(run: Run, importances: pd.DataFrame) -> dict[str, list[go.Figure]]:
    """Return the charts of a run by section; none where a section has nothing to show.

    Args:
        run: From analysis.runs.
        importances: From analysis.importance.
    """
    makers: dict[str, Callable[[], list[go.Figure]]] = {
        "over_time": lambda: _over_time(run),
        "curves": lambda: [charts.learning_curves(run.curves, stage) for stage in _reported(run)[::-1]],
        "ranks": lambda: _ranks(run),
        "importance": lambda: _importance(importances),
        "parallel": lambda: _parallel(run, importances),
        "slices": lambda: _slices(run, importances),
        "front": lambda: _fronts(run),
        "spent": lambda: _spent(run),
    }
    return {name: make() for name, make in makers.items()}


def leaderboard(run: Run) -> dict[str, Any]:
    """Return the table of all trials, those on the largest and most images first, then by score."""
    ended = run.trials.assign(scored=run.trials["rank"].notna())
    trials = ended.sort_values(["scored", "px", "train_images", "score"], ascending=False, kind="stable")
    shown = [column for column in LEADERBOARD if column[0] in trials and trials[column[0]].notna().any()]
    columns = [{"title": title, "kind": kind, "digits": digits} for _, title, kind, digits in shown]
    values = [_cells(trials[name], kind, digits) for name, _, kind, digits in shown]
    best = None if run.best is None else str(run.best["trial_id"])
    return {"columns": columns, "rows": [list(row) for row in zip(*values, strict=True)], "best": best}


def _over_time(run: Run) -> list[go.Figure]:
    return [charts.best_over_time(run.curves, account.spans(run))] if run.curves["score"].notna().any() else []


def _reported(run: Run) -> list[str]:
    scored = run.curves[run.curves["score"].notna()]
    return [stage for stage in run.stages if (scored["stage"] == stage).any()]


def _ranks(run: Run) -> list[go.Figure]:
    agreements, found = account.agreements(run), []
    for lower, upper in zip(run.stages, run.stages[1:], strict=False):
        if len(climbed(run.trials, lower, upper)) > 1:
            found.append(charts.stage_ranks(run.trials, lower, upper, agreements.get(upper)))
    return found


def _importance(importances: pd.DataFrame) -> list[go.Figure]:
    names = list(dict.fromkeys(importances["architecture"]))
    if len(names) == 2:
        names = names[:1]  # of one architecture "all" is the same
    return [landscape.importance_bars(importances, name) for name in names]


def _parallel(run: Run, importances: pd.DataFrame) -> list[go.Figure]:
    trials = first_stage(run)
    trials = trials[trials["score"].notna()]
    parameters = [name for name in landscape.varied(trials, importances) if name != "model/arch"]
    if len(trials) < LEAST_TRIALS or not parameters:
        return []
    return [landscape.parallel_coordinates(trials, parameters[:MOST_AXES])]


def _slices(run: Run, importances: pd.DataFrame) -> list[go.Figure]:
    trials = first_stage(run)
    trials = trials[trials["score"].notna()]
    if len(trials) < LEAST_TRIALS:
        return []
    return [landscape.score_by(trials, name) for name in landscape.varied(trials, importances)[:MOST_SLICES]]


def _fronts(run: Run) -> list[go.Figure]:
    trials = with_latency(run)
    scored = trials[trials["score"].notna()]
    return [landscape.score_against(trials, cost) for cost in landscape.COSTS if scored[cost].notna().sum() > 1]


def _spent(run: Run) -> list[go.Figure]:
    rows, ran = account.phases(run), run.trials[["started_s", "ended_s"]].notna().all(axis=1)
    found = [charts.phases(rows)] if len(rows) else []
    return [*found, charts.timeline(run.trials, account.spans(run))] if ran.any() else found


def _cells(values: pd.Series, kind: str, digits: int | str) -> list[Any]:
    """Return the values of a column as the table shows them: numbers rounded, None where there is none."""
    if kind in ("text", "choice"):
        return [None if pd.isna(value) else str(value) for value in values]
    numbers = pd.to_numeric(values, errors="coerce")
    places = digits if isinstance(digits, int) else 8
    return [None if pd.isna(value) else int(value) if places == 0 else round(float(value), places) for value in numbers]
