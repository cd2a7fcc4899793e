"""Plotly charts of the hyperparameters: importances, parallel coordinates, score against parameters and costs."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.report.style import (
    ARCH,
    ARCHS,
    FAINT,
    LOWEST,
    PLAIN,
    SCORE,
    TITLE_PX,
    assign_colours,
    choose_score_range,
    group_by_colour,
    make_figure,
    make_points,
)
from analysis.runs.curves import select_models, select_pareto_trials

MAX_BARS = 12
FEW = 6  # a numeric parameter with at most this many values is plotted as a category
LOG_SPAN = 30  # ratio of the largest to the least value from which an axis is logarithmic
COSTS = {"params": "parameters", "macs": "multiply-adds of one image", "latency_ms": "latency of one image (ms)"}


def plot_importances(importances: pd.DataFrame, architecture: str) -> go.Figure:
    """Plot the parameters of one architecture, those farthest above chance first; grey bars do not exceed chance."""
    mine = importances[importances["architecture"] == architecture]
    mine = mine.assign(above=mine["importance"] - mine["chance"]).nlargest(MAX_BARS, "above")
    colour = assign_colours([architecture], ARCHS | {"all": PLAIN})[architecture]
    bars = go.Bar(
        x=mine["importance"],
        y=mine["parameter"],
        orientation="h",
        marker={"color": np.where(mine["above"] > 0, colour, FAINT)},
        customdata=mine["chance"],
        hovertemplate="%{y}: %{x:.1%}<br>shuffled scores gave up to %{customdata:.1%}<extra></extra>",
        showlegend=False,
    )
    ticks = {"symbol": "line-ns", "size": 16, "line": {"width": 2, "color": PLAIN}}
    most, by_chance = float(mine["importance"].max()), float(mine["chance"].max())
    edge = 1.05 * min(max(most, by_chance), 2 * most)
    near = mine[mine["chance"] <= edge]
    limits = go.Scatter(
        x=near["chance"], y=near["parameter"], mode="markers", marker=ticks, hoverinfo="skip", showlegend=False
    )
    return make_figure(
        "All trials" if architecture == "all" else architecture,
        [bars, limits],
        xaxis={"title": "importance", "tickformat": ".0%", "range": [0, edge]},
        yaxis={"autorange": "reversed", "showgrid": False},
        height=110 + 24 * len(mine),
    )


def plot_score_by(trials: pd.DataFrame, parameter: str) -> go.Figure:
    """Plot the score of every trial against one of its parameters, in the colours of the architectures."""
    known = trials[trials["score"].notna() & trials[parameter].notna()]
    values, axis = _parse_numbers(known[parameter]), {}
    if values is None:
        values, ticks = _number_categories(known[parameter])
        values += np.random.default_rng(0).uniform(-0.25, 0.25, len(known))
        axis = {**ticks, "tickangle": 0, "range": [-0.5, len(ticks["tickvals"]) - 0.5]}
    elif _spans_decades(values):
        axis = {"type": "log", "dtick": 1, "exponentformat": "none"}
    more = "<br>score %{y:.3f}" + ("" if "ticktext" in axis else f"<br>{parameter} %{{x:.4~g}}")
    known = known.assign(place=values.round(6))
    traces = make_points(known, "place", "score", ARCH, more=more, size=6)
    y = {"title": "score", "range": choose_score_range(known["score"])}
    return make_figure(parameter, traces, xaxis=axis, yaxis=y, height=260, showlegend=False)


def plot_parallel_coordinates(trials: pd.DataFrame, parameters: list[str]) -> go.Figure:
    """Plot every trial as a line through its parameters to its score, in the colour of its architecture."""
    known = trials[trials["score"].notna()]
    archs = [name for name, _, _ in group_by_colour(known, ARCH)]
    palette, top = assign_colours(archs, ARCHS), max(len(archs) - 1, 1)
    scale = [[number / top, palette[name]] for number, name in enumerate(archs)]
    axes = [_build_axis(known[name], name) for name in ([ARCH] if len(archs) > 1 else []) + parameters]
    label = "score" if known["score"].min() >= LOWEST else f"score (from {LOWEST:g})"
    axes.append({"label": label, "values": known["score"].clip(lower=LOWEST), "tickformat": ".2f"})
    line = {
        "color": known[ARCH].fillna("unknown").map({name: number for number, name in enumerate(archs)}),
        "colorscale": scale if len(archs) > 1 else [[0, palette[archs[0]]], [1, palette[archs[0]]]],
        "cmin": 0,
        "cmax": top,
    }
    lines = go.Parcoords(dimensions=axes, line=line, ids=known["trial_id"], labelangle=-15, labelside="top")
    margin = {"l": 70, "r": 40, "t": TITLE_PX + 70, "b": 24}
    return make_figure("Parameters and score, trial by trial", [lines], height=460, margin=margin)


def plot_score_against(trials: pd.DataFrame, cost: str) -> go.Figure:
    """Plot the score against a cost of the network, and the Pareto front of the stages after the first."""
    known = trials[trials["score"].notna() & trials[cost].notna() & (trials["status"] != "failed")]
    more = f"<br>score %{{y:.3f}}<br>{COSTS[cost].partition(' of ')[0]} %{{x:,.4~g}}"
    traces = make_points(known, cost, "score", "stage", more=more)
    best = select_pareto_trials(select_models(known), [cost]).sort_values(cost)
    line = {"color": PLAIN, "width": 1.5, "dash": "dot", "shape": "hv"}
    look: dict[str, Any] = {"textposition": "top center", "textfont": {"size": 11}, "cliponaxis": False}
    named = {"mode": "lines+text", "text": best["trial_id"], "name": "Pareto front", "hoverinfo": "skip"}
    steps = go.Scatter(x=best[cost], y=best["score"], line=line, **named, **look)
    decade = {"type": "log", "dtick": "D2"} if known[cost].max() >= 10 * known[cost].min() else {}
    return make_figure(
        f"Score against {COSTS[cost].partition(' (')[0]}",
        [steps, *traces],
        xaxis={"title": COSTS[cost], "tickformat": "~s", **decade},
        yaxis={"title": SCORE, "range": choose_score_range(known["score"])},
    )


def list_varied(trials: pd.DataFrame, importances: pd.DataFrame) -> list[str]:
    """Return the parameters that differ between trials, the most important over all trials first, then by name."""
    names = [name for name in trials if "/" in str(name) and len(set(trials[name].dropna().astype(str))) > 1]
    known = importances[importances["architecture"] == "all"]
    shares: dict[str, float] = {}
    for parameter, importance in zip(known["parameter"], known["importance"], strict=True):
        column = _find_column(str(parameter))
        shares[column] = shares.get(column, 0.0) + float(importance)
    return sorted(map(str, names), key=lambda name: (-shares.get(name, 0.0), name))


def _find_column(parameter: str) -> str:
    """Return the column of trials.csv that holds a parameter of the search space."""
    if parameter == "optim/lr_scale":
        return "optim/lr"
    section, _, field = parameter.partition("/")
    known = {"model", "loss", "optim", "schedule", "augment"}
    return parameter if section in known else f"{'optim' if field == 'lr' else 'model'}/{field}"


def _parse_numbers(values: pd.Series) -> pd.Series | None:
    """Return the values as numbers; None if they are categories or have few distinct values."""
    numbers = pd.to_numeric(values, errors="coerce")
    return None if numbers.isna().any() or numbers.nunique() <= FEW else numbers.astype(float)


def _spans_decades(numbers: pd.Series) -> bool:
    return bool(numbers.min() > 0 and numbers.max() / numbers.min() >= LOG_SPAN)


def _number_categories(values: pd.Series) -> tuple[pd.Series, dict[str, Any]]:
    """Return the place of each value on an axis and the ticks of the axis: numbers in numeric order, then names."""
    texts = values.astype(str)
    table = pd.DataFrame({"text": texts, "number": pd.to_numeric(values, errors="coerce")}).drop_duplicates("text")
    names = list(table.sort_values(["number", "text"])["text"])
    ticks = {"tickvals": list(range(len(names))), "ticktext": [_shorten(name) for name in names]}
    return texts.map({name: float(place) for place, name in enumerate(names)}), ticks


def _shorten(value: str) -> str:
    """Shorten a value so that it fits under an axis."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value.replace("_", " ").replace("+", " +<br>").replace("pixel shuffle", "pixel<br>shuffle")


def _build_axis(values: pd.Series, label: str) -> dict[str, Any]:
    """Return a dimension of the parallel coordinates; missing values lie at the bottom."""
    numbers = _parse_numbers(values.dropna())
    if numbers is None:
        places, ticks = _number_categories(values.astype(object).fillna("none"))
        return {"label": label, "values": places, **ticks}
    filled = values.astype(float).fillna(numbers.min())
    if _spans_decades(numbers):
        powers = np.arange(np.ceil(np.log10(numbers.min())), np.floor(np.log10(numbers.max())) + 1)
        names = [f"{10.0**power:g}" for power in powers]
        return {"label": label, "values": np.log10(filled), "tickvals": powers, "ticktext": names}
    return {"label": label, "values": filled}
