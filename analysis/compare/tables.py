"""What a comparison of methods shows: a table, and the best score over time. Knows the rows, not the runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.methods import METHODS, OURS
from analysis.compare.scoring import PX, at_times
from analysis.compare.statistics import interval, iqm
from search.budget.budget import Budget

LATE = 1.02  # of the budget: a run that takes longer is marked
MOMENTS = 400
BRIGHT = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")  # Okabe and Ito 2008
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 2)))
TITLES = {
    "test_score": "test score",
    "test_iou": "test IoU",
    "test_rmse_depth": "test RMSE",
    "val_score": "validation score",
}


def table(runs: pd.DataFrame, budget: Budget) -> str:
    """Return a row for each method as a Markdown table, and below it how to read it.

    Args:
        runs: A row for each method and seed, of judge.metrics.
        budget: Of each run.
    """
    known = [name for name in TITLES if name in runs]
    rows = [_row(str(method), runs, known, budget) for method in runs["method"].unique()]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines) + f"\n{_how_to_read(runs, known[0])}\n"


def _row(method: str, runs: pd.DataFrame, known: Sequence[str], budget: Budget) -> dict[str, str]:
    """Return the cells of a method by the titles of their columns; the first figure known is what counts."""
    group, judged = runs[runs["method"] == method], known[0]
    row = {"method": method, "seeds": str(len(group)), f"{TITLES[judged]}, IQM": estimate(group[judged])}
    if OURS in set(runs["method"]):
        less = less_ours(runs, method, judged)
        row[f"{TITLES[judged]} less {OURS}"] = "-" if method == OURS else spread(less, sign="+")
        row[f"above {OURS}"] = "-" if method == OURS else f"{(less > 0).sum()} of {len(less)}"
    row |= {TITLES[name]: spread(group[name]) for name in known[1:]}
    if "test_score" in known:
        row["validation - test"] = spread(group["val_score"] - group["test_score"], sign="+")
    row |= {"trials": f"{group['trials'].mean():.0f}", "wall time, s": _wall(group["wall_s"], budget)}
    return row | {"parameters": f"{group['params'].min():,} to {group['params'].max():,}"}


def less_ours(runs: pd.DataFrame, method: str, judged: str) -> "pd.Series[float]":
    """Return by how much a method's score differs from that of OURS on the same backgrounds, seed by seed."""
    scores = runs.set_index(["method", "seed"])[judged]
    less: pd.Series[float] = scores[method] - scores[OURS]
    return less.dropna()


def estimate(values: "pd.Series[float]") -> str:
    """Return interquartile mean [95 % interval]."""
    low, high = interval(values.to_numpy(dtype=float))
    return f"{float(iqm(values.to_numpy(dtype=float))):.3f} [{low:.3f}, {high:.3f}]"


def spread(values: "pd.Series[float]", *, sign: str = "") -> str:
    """Return mean [lowest, highest]."""
    known = values.dropna()
    shown = [f"{value:{sign}.3f}" for value in (known.mean(), known.min(), known.max())]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" if len(known) else "-"


def _wall(wall_s: "pd.Series[float]", budget: Budget) -> str:
    """Return mean and longest wall time, and how many runs took too long."""
    late = int((wall_s > LATE * (budget.wall_s or np.inf)).sum())
    marked = f"; **{late} late**" if late else ""
    return f"{wall_s.mean():.0f} (longest {wall_s.max():.0f}{marked})"


def _how_to_read(runs: pd.DataFrame, judged: str) -> str:
    return (
        f"All models on whole parts at {PX} px, scored by one deviation of the depth for each seed. "
        f"{TITLES[judged].capitalize()}: interquartile mean over seeds [95 % stratified bootstrap interval, too narrow "
        f"where seeds are few: here {runs['seed'].nunique()}]; elsewhere mean [lowest, highest]. "
        f"Late: over {LATE - 1:.0%} more than the budget."
    )


def over_time(runs: pd.DataFrame, changes: Sequence[pd.DataFrame]) -> Figure:
    """Draw the score of the model that each method would have handed out, over time, and at the right what it gave.

    Lines are interquartile means over seeds with their intervals, by the rule of judge.handed_out; each begins where
    all runs of its method have a model. The dots are the models in best/ on the whole validation part, all at one size.

    Args:
        runs: A row for each method and seed, of judge.metrics, numbered from 0.
        changes: What judge.handed_out says of each row.
    """
    figure = Figure(figsize=(11.5, 5), layout="constrained")
    ax, ends = figure.subplots(1, 2, width_ratios=(8, 1), sharey=True)
    times_s = np.linspace(0, runs["wall_s"].max(), MOMENTS)
    lowest = [0.0]
    for place, (method, group) in enumerate(runs.groupby("method", sort=False)):
        number = list(METHODS).index(str(method))
        curves = np.stack([at_times(changes[row], times_s) for row in group.index])
        band = _draw_curves(ax, times_s, curves, number)
        end = _draw_end(ends, place, group["val_score"].to_numpy(dtype=float), number)
        ends.plot([], [], **_look(number), label=f"{method}: {estimate(group['val_score'])}")
        lowest += [band, end]
    _label(figure, ax, ends, runs)
    ax.set_ylim(bottom=min(lowest) - 0.03)
    return figure


def _draw_curves(ax: Axes, times_s: np.ndarray, curves: np.ndarray, number: int) -> float:
    """Draw one method's line and band; return the lower end of the band in the end."""
    known = ~np.isnan(curves).any(axis=0)
    times_s, curves = times_s[known], curves[:, known]
    low, high = interval(curves)
    ax.fill_between(times_s, low, high, color=BRIGHT[number], alpha=0.13, linewidth=0, step="post")
    ax.plot(times_s, iqm(curves), **_look(number), drawstyle="steps-post")
    return float(low[-1])


def _draw_end(ax: Axes, place: int, scores: np.ndarray, number: int) -> float:
    """Draw what one method's models score in the end; return the lower end of the interval."""
    (low, high), middle = interval(scores), float(iqm(scores))
    ax.plot([place, place], [low, high], color=BRIGHT[number], linewidth=2)
    ax.plot([place], [middle], "o", color=BRIGHT[number], markersize=6)
    return float(low)


def _look(number: int) -> dict[str, Any]:
    return {"color": BRIGHT[number], "linestyle": DASHES[number], "linewidth": 1.8}


def _label(figure: Figure, ax: Axes, ends: Axes, runs: pd.DataFrame) -> None:
    seeds = runs["seed"].nunique()
    ax.set_xlabel("seconds since Enter")
    ax.set_ylabel("validation score of the model handed out")
    ends.set_xlabel(f"best/,\nall of validation\nat {PX} px", fontsize="small")
    ends.set_xticks([])
    ends.margins(x=0.3)
    for each in (ax, ends):
        each.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        each.grid(axis="y", alpha=0.25)
    ax.set_xlim(0, runs["wall_s"].max())
    title = f"dots: IQM [95 %], {seeds} seed{'s' if seeds > 1 else ''}"
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1), "alignment": "left", "frameon": False}
    ends.legend(**beside, fontsize="small", title=title, title_fontsize="small", handlelength=3.5)
    caption = (
        "Lines: best trial of the highest stage that has reported, on that stage's own validation images and size; a "
        "stage that opens may begin below\nthe best of the stage below. Interquartile mean over seeds and 95 % "
        "stratified bootstrap interval, too narrow with few seeds. 0 is a constant guess."
    )
    figure.supxlabel(caption, fontsize="x-small", color="0.3", x=0.01, ha="left")
