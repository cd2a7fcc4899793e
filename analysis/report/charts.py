"""Plotly charts of a run's course: scores over time, learning curves, ranks from stage to stage, time and workers."""

from collections.abc import Collection, Hashable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.report.style import (
    ARCH,
    HEIGHT,
    SCORE,
    SHAPES,
    TITLE_PX,
    choose_score_range,
    choose_time_unit,
    format_hover,
    group_by_colour,
    make_bands,
    make_figure,
    make_points,
)
from analysis.runs.curves import Span, add_best_so_far, assign_lanes, pair_promotions
from models.metric_table import METRICS

CURVES = {name: METRICS[name].title for name in ("score", "iou", "rmse_depth")} | {
    "train_total": "training loss (differs between trials)"
}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # line styles of the best trials of a stage, which are bold
BOLD = len(DASHES)
ROW = 34  # pixels


def plot_best_over_time(curves: pd.DataFrame, spans: list[Span], *, shown: Collection[str]) -> go.Figure:
    """Plot every reported score of the trials in `shown`, and each stage's best score so far, against run time."""
    reported = add_best_so_far(curves)
    by, unit = choose_time_unit(max([end for _, _, end in spans], default=reported["ended_s"].max()))
    reported = reported.assign(ended=reported["ended_s"] / by)
    more, dotted = f"<br>score %{{y:.3f}} after %{{x:.1f}} {unit}", reported[reported["trial_id"].isin(shown)]
    traces = make_points(dotted, "ended", "score", "stage", more=more, size=5, showlegend=False)
    for name, colour, stage in group_by_colour(reported, "stage"):
        line = {"color": colour, "width": 2.5, "shape": "hv"}
        label = f"{name}: best {stage['best'].iloc[-1]:.3f}"
        own = pd.concat([stage.drop_duplicates("best"), stage[-1:]])
        traces.append(go.Scatter(x=own["ended"], y=own["best"], line=line, mode="lines", name=label, hoverinfo="skip"))
    return make_figure(
        "Best score over time",
        traces,
        xaxis={"title": f"time since the run began ({unit})", "rangemode": "tozero"},
        yaxis={"title": SCORE, "range": choose_score_range(reported["score"])},
        shapes=make_bands(spans, by),
    )


def plot_learning_curves(curves: pd.DataFrame, stage: str) -> go.Figure:
    """Plot a metric of all trials of a stage by epoch, the best trials in bold; a menu selects the metric.

    Colours show the architectures, or the trials if there are few.
    If the last report of a trial repeats the metrics of an earlier, best epoch, the curve ends one epoch earlier.
    """
    mine = curves[curves["stage"] == stage]
    shown = [name for name in CURVES if name in mine and mine[name].notna().any()]
    by = "trial_id" if mine["trial_id"].nunique() <= len(SHAPES) else ARCH
    traces = [
        _draw_curve(group, name, colour, place=place)
        for name, colour, trials in group_by_colour(mine, by)
        for place, group in _group_by_dash(trials)
    ]
    buttons = []
    for name in shown:
        y = [[None if pd.isna(v) else round(float(v), 4) for v in data[name]] for _, data in traces]
        axis = {"yaxis.title.text": CURVES[name], "yaxis.autorange": name != "score"}
        buttons.append({"label": CURVES[name], "method": "update", "args": [{"y": y}, axis]})
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.03, "yanchor": "bottom"}
    scores = {"range": choose_score_range(mine["score"])} if shown[0] == "score" else {}
    return make_figure(
        f"Learning curves of {stage}",
        [trace for trace, _ in traces],
        xaxis={"title": "images seen", "rangemode": "tozero", "tickformat": "~s"},
        yaxis={"title": CURVES[shown[0]], **scores},
        height=HEIGHT + 60,
        margin={"l": 8, "r": 8, "t": TITLE_PX + 44, "b": 8},
        legend={"yref": "container", "y": 0},
        updatemenus=[menu] if len(shown) > 1 else [],
    )


def plot_stage_ranks(
    trials: pd.DataFrame, lower: str, upper: str, correlation: dict[str, Any] | None = None
) -> go.Figure:
    """Plot the ranks of the promoted trials at two stages; crossing lines mean that the order changed."""
    pairs = pair_promotions(trials, lower, upper)
    traces = [
        _draw_rank_line(pair, name, colour, shown=number == 0)
        for name, colour, group in group_by_colour(pairs, ARCH)
        for number, pair in enumerate(group.to_dict("records"))
    ]
    title = f"{lower} → {upper}"
    if correlation:
        rank = correlation["spearman"]
        title += f": rank correlation {rank['value']:.2f} [{rank['low']:.2f}, {rank['high']:.2f}]"
    ticks = list(range(1, len(pairs) + 1))
    return make_figure(
        title,
        traces,
        xaxis={"tickvals": [0, 1], "ticktext": [lower, upper], "range": [-0.75, 1.75], "showgrid": False},
        yaxis={"title": "rank", "range": [len(pairs) + 0.6, 0.4], "tickvals": ticks, "showgrid": False},
        height=130 + ROW * len(pairs),
    )


def plot_timeline(trials: pd.DataFrame, spans: list[Span]) -> go.Figure:
    """Plot the time span of each trial, in as many rows as trials ran at the same time."""
    ran = trials.sort_values("started_s")
    by, unit = choose_time_unit(ran["ended_s"].max())
    ran = ran.assign(lane=assign_lanes(ran), began=ran["started_s"] / by, took=(ran["ended_s"] - ran["started_s"]) / by)
    traces = [
        go.Bar(
            x=group["took"],
            base=group["began"],
            y=group["lane"],
            orientation="h",
            name=name,
            marker={"color": colour, "line": {"width": 0.5, "color": "rgba(255,255,255,0.8)"}},
            customdata=group["trial_id"],
            hovertext=format_hover(group),
            hovertemplate=f"%{{hovertext}}<br>%{{x:.1f}} {unit}<extra></extra>",
        )
        for name, colour, group in group_by_colour(ran, "stage")
    ]
    count = int(ran["lane"].max())
    return make_figure(
        "When each trial ran",
        traces,
        xaxis={"title": f"time since the run began ({unit})", "rangemode": "tozero"},
        yaxis={"title": "at the same time", "tickvals": sorted({1, count}), "showgrid": False},
        height=min(150 + ROW * count, 2 * HEIGHT),
        barmode="overlay",
        shapes=make_bands(spans, by),
    )


def _group_by_dash(trials: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """Group the epochs by line style: the best trials by their place from 0, and all other trials as -1."""
    best = trials["rank"] <= BOLD
    groups = [(int(group["rank"].iloc[0]) - 1, group) for _, group in trials[best].groupby("trial_id", sort=False)]
    return [(-1, trials[~best]), *groups] if (~best).any() else groups


def _draw_curve(epochs: pd.DataFrame, arch: str, colour: str, *, place: int) -> tuple[go.Scatter, pd.DataFrame]:
    """Return one line through the epochs, interrupted between trials, and the epochs in the order of the line."""
    trials = epochs.groupby("trial_id", sort=False)
    data = pd.concat([part for _, trial in trials for part in (trial, trial[:1].assign(gap=True))])
    data[[*CURVES]] = data[[*CURVES]].mask(data["gap"].eq(True))
    bold = place >= 0
    trace = go.Scatter(
        x=data["images_seen"],
        y=data["score"],
        mode="lines+markers",
        line={"color": colour, "width": 2.5 if bold else 1.0, "dash": DASHES[place] if bold else "solid"},
        marker={"color": colour, "size": 6 if bold else 3},
        opacity=1.0 if bold else 0.35,
        name=f"{data['label'].iloc[0]}" if bold else f"{arch}, others",
        legendrank=place if bold else BOLD + 1,
        customdata=data["trial_id"],
        hovertext=format_hover(data),
        hovertemplate="%{hovertext}<br>after %{x:,} images: %{y:.3f}<extra></extra>",
    )
    return trace, data


def _draw_rank_line(pair: dict[Hashable, Any], arch: str, colour: str, *, shown: bool) -> go.Scatter:
    ends = [f"{pair['trial_id_below']} {pair['score_below']:.3f}", f"{pair['trial_id']} {pair['score']:.3f}"]
    return go.Scatter(
        x=[0, 1],
        y=[pair["before"], pair["after"]],
        mode="lines+markers+text",
        text=ends,
        textposition=["middle left", "middle right"],
        textfont={"size": 11},
        line={"color": colour, "width": 2.5},
        marker={"size": 9},
        name=arch,
        legendgroup=arch,
        showlegend=shown,
        cliponaxis=False,
        hovertemplate=f"<b>%{{text}}</b> · {pair['network']}<br>rank %{{y:.0f}} of the promoted trials<extra></extra>",
    )
