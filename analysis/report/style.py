"""Colours, hover texts and axes shared by all charts, so that a stage or an architecture looks the same in every chart.

The colours have middle lightness, so that they are legible on light and dark backgrounds.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.runs.curves import Span

ARCH = "model/arch"
# The palette of Okabe and Ito, which colour-blind readers can distinguish; each colour has its own shape of points too.
SHAPES = {
    "#0072b2": "circle",
    "#d55e00": "square",
    "#009e73": "diamond",
    "#e69f00": "triangle-up",
    "#56b4e9": "cross",
    "#cc79a7": "x",
    "#b8a800": "star",  # a darker yellow, legible on white
}
_BLUE, _RED, _GREEN, _ORANGE, _SKY, _PURPLE, *_ = SHAPES
STAGES = {"explore": "#8c96a8", "confirm": _ORANGE, "final": _GREEN, "repeat": _PURPLE}
ARCHS = {"unet": _BLUE, "resnet18_ed": _RED, "residual": _GREEN, "atrous": _ORANGE, "efficientnet_lite": _SKY}
PLAIN, FAINT = "#7d8797", "rgba(125,135,151,0.35)"
HEIGHT = 380
SCORE = "score (0 constant guess, 1 perfect)"
LOWEST = -0.2  # lower end of score axes; a double click shows all scores
AXIS = {"automargin": True, "gridcolor": "rgba(125,135,151,0.18)", "zeroline": False}
TITLE_PX = 40  # height of the title in the margin above a chart


def assign_colours(names: Sequence[str], known: dict[str, str]) -> dict[str, str]:
    """Return a colour for each name: its fixed colour, or else the next one that is not fixed, in alphabetic order."""
    new, free = sorted(set(names) - set(known)), [colour for colour in SHAPES if colour not in known.values()]
    return known | {name: free[number % len(free)] for number, name in enumerate(new)}


def group_by_colour(trials: pd.DataFrame, column: str) -> list[tuple[str, str, pd.DataFrame]]:
    """Return (name, colour, trials) for each value of a column, such as `stage` or `model/arch`, known names first."""
    named = trials[column].fillna("unknown").astype(str)
    palette = assign_colours(list(named), {"stage": STAGES, ARCH: ARCHS}.get(column, {}))
    return [(name, palette[name], trials[named == name]) for name in palette if (named == name).any()]


def format_hover(trials: pd.DataFrame) -> list[str]:
    """Return the hover text of each trial: id, network, stage and status."""
    rows = trials[["trial_id", "network", "stage", "status"]].astype(str).to_numpy()
    return [f"{trial} · {network} · {stage}, {status.replace('_', ' ')}" for trial, network, stage, status in rows]


def make_points(
    trials: pd.DataFrame, x: str, y: str, by: str, *, more: str, size: int = 8, **look: Any
) -> list[go.Scatter]:
    """Return trials as points in the colours of the column `by`; `more` is appended to their hover texts."""
    look["marker"] = {"size": size, "opacity": 0.8, "line": {"width": 0.5, "color": "rgba(255,255,255,0.6)"}}
    return [
        go.Scatter(
            x=group[x],
            y=group[y].round(4),
            name=name,
            mode="markers",
            marker_color=colour,
            marker_symbol=SHAPES.get(colour, "circle"),
            customdata=group["trial_id"],
            hovertext=format_hover(group),
            hovertemplate="%{hovertext}" + more + "<extra></extra>",
            **look,
        )
        for name, colour, group in group_by_colour(trials, by)
    ]


def make_figure(title: str, traces: Sequence[Any], **layout: Any) -> go.Figure:
    """Return a figure with a transparent background; `layout` is merged into that of all charts."""
    named = sum(getattr(trace, "showlegend", False) is not False for trace in traces) > 1
    figure = go.Figure(list(traces)).update_layout(
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 15}},
        height=HEIGHT,
        margin={"l": 8, "r": 8, "t": TITLE_PX + (30 if named else 8), "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel_align="left",
        hovermode="closest",
        xaxis=AXIS,
        yaxis=AXIS,
    )
    return figure.update_layout(layout)


def choose_time_unit(seconds: float) -> tuple[float, str]:
    """Return the divisor of seconds for an axis of this length, and the unit's name."""
    if seconds < 600:
        return 1.0, "s"
    return (60.0, "min") if seconds < 3 * 3600 else (3600.0, "h")


def choose_score_range(scores: pd.Series) -> list[float]:
    """Return the range of a score axis, without very low scores."""
    low, high = max(float(scores.min()), LOWEST), float(scores.max())
    room = 0.06 * max(high - low, 0.02)
    return [low - room, high + room]


def make_bands(spans: list[Span], by: float) -> list[dict[str, Any]]:
    """Return shaded bands for the spans of the stages, behind a chart over time."""
    palette = assign_colours([name for name, _, _ in spans], STAGES)
    band = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "opacity": 0.1, "line": {"width": 0}, "layer": "below"}
    return [{**band, "x0": begin / by, "x1": end / by, "fillcolor": palette[name]} for name, begin, end in spans]
