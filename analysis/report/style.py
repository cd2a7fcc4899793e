"""Colours, hover texts and axes that all charts share, so that a stage or a network looks the same in each.

Colours are of middle lightness: they are read on white and on black paper.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.runs.curves import Span

ARCH = "model/arch"
STAGES = {"explore": "#8c96a8", "confirm": "#e08a2e", "final": "#0a9a88", "repeat": "#a25fc4"}
ARCHS = {"unet": "#3f83c9", "resnet18_ed": "#e05a6e", "residual": "#3c9d56", "atrous": "#c79a1e"}
MORE = ("#7a6ad8", "#26a7c9", "#b5651d", "#c45fa0")  # for names that are new
PLAIN, FAINT = "#7d8797", "rgba(125,135,151,0.35)"
HEIGHT = 380
SCORE = "score (0 constant guess, 1 perfect)"
LOWEST = -0.2  # of the axis of scores, at which a glance does not stop; a double click shows all
AXIS = {"automargin": True, "gridcolor": "rgba(125,135,151,0.18)", "zeroline": False}
TITLE_PX = 40  # of the margin above a chart

PER_TRIAL = ["trial_id", "network", "stage", "status"]  # what a point tells of its trial


def colours(names: Sequence[str], known: dict[str, str]) -> dict[str, str]:
    """Return a colour for each name: its own if it has one, else the next of MORE in the order of the alphabet."""
    new = sorted(set(names) - set(known))
    return known | {name: MORE[number % len(MORE)] for number, name in enumerate(new)}


def by_name(trials: pd.DataFrame, column: str) -> list[tuple[str, str, pd.DataFrame]]:
    """Return (name, colour, trials) for each value of the column `stage` or `model/arch`, those with a colour first."""
    named = trials[column].fillna("unknown").astype(str)
    palette = colours(list(named), STAGES if column == "stage" else ARCHS)
    return [(name, palette[name], trials[named == name]) for name in palette if (named == name).any()]


def told(trials: pd.DataFrame) -> list[str]:
    """Return of each trial who it is: id, network, stage and how it ended."""
    rows = trials[PER_TRIAL].astype(str).itertuples(index=False, name=None)
    return [f"{trial_id} · {network} · {stage}, {status}" for trial_id, network, stage, status in rows]


def points(trials: pd.DataFrame, x: str, y: str, *, name: str, colour: str, more: str = "", **look: Any) -> go.Scatter:
    """Return the trials as points that tell who they are.

    Args:
        trials: With the columns of PER_TRIAL.
        x: Column.
        y: Column.
        name: In the legend.
        colour: Of the points.
        more: Further lines of the hover text.
        look: Further properties of the trace.
    """
    marker = {"color": colour, "size": 8, "line": {"width": 0.5, "color": "rgba(255,255,255,0.6)"}}
    return go.Scatter(
        x=trials[x],
        y=trials[y].round(4),
        name=name,
        mode="markers",
        marker=marker | look.pop("marker", {}),
        customdata=trials["trial_id"],
        hovertext=told(trials),
        hovertemplate="%{hovertext}" + more + "<extra></extra>",
        **look,
    )


def sheet(title: str, traces: Sequence[Any], *, x: Any = "", y: Any = "", **layout: Any) -> go.Figure:
    """Return a figure with title and axes, without a background of its own.

    Args:
        title: Of the figure.
        traces: What it shows.
        x: The horizontal axis: its title, or its properties.
        y: The vertical one.
        layout: Further properties; those of the legend are added to its own.
    """
    named = sum(getattr(trace, "showlegend", False) is not False for trace in traces) > 1
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"} | layout.pop("legend", {})
    whole: dict[str, Any] = {
        "title": {"text": title, "x": 0, "xref": "paper", "font": {"size": 15}},
        "height": HEIGHT,
        "margin": {"l": 8, "r": 8, "t": TITLE_PX + (30 if named else 8), "b": 8},
        "legend": legend,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left"},
        "hovermode": "closest",
        "xaxis": AXIS | (x if isinstance(x, dict) else {"title": {"text": x}}),
        "yaxis": AXIS | (y if isinstance(y, dict) else {"title": {"text": y}}),
    }
    return go.Figure(list(traces), whole | layout)


def times(seconds: float) -> tuple[float, str]:
    """Return what seconds are to be divided by on an axis that is so long, and the unit."""
    if seconds < 600:
        return 1.0, "s"
    return (60.0, "min") if seconds < 3 * 3600 else (3600.0, "h")


def score_range(scores: pd.Series) -> list[float]:
    """Return the range of an axis of scores, which hides the very bad."""
    low, high = max(float(scores.min()), LOWEST), float(scores.max())
    room = 0.06 * max(high - low, 0.02)
    return [low - room, high + room]


def bands(spans: list[Span], by: float) -> list[dict[str, Any]]:
    """Return shades for the spans of the stages, behind a chart of time."""
    palette = colours([name for name, _, _ in spans], STAGES)
    band = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "opacity": 0.1, "line": {"width": 0}, "layer": "below"}
    return [{**band, "x0": begin / by, "x1": end / by, "fillcolor": palette[name]} for name, begin, end in spans]
