"""Make the missing runs of a comparison, measure the models of all runs in the same way, and write table and plot."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from analysis.compare.methods import DEFAULT, Comparison, run_missing
from analysis.compare.scoring import PX, sample_curve, score_runs, trace_incumbent
from analysis.plots.plots import save
from analysis.predict.evaluate import open_dataset
from analysis.runs.files import check_folder, write_file
from analysis.runs.tables import format_markdown_table
from search.config.budget import Budget

LEVEL = 0.95  # confidence level of the intervals
DELTA = 0.03  # difference of scores that matters: two trainings of the same configuration differ by that much
LATE = 1.02  # runs that take longer than this multiple of the budget are marked
TIMES = 400
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")  # Okabe and Ito 2008
DASHES = ("-", "--", "-.", ":", (0, (8, 3)))  # their number shares no factor with that of the colours
TITLES = {  # titles of metrics; the first metric that the runs recorded is compared seed by seed
    "judge_score": "score on --judge data",
    "judge_iou": "IoU on --judge data",
    "judge_explained_depth": "explained depth variance on --judge data",
    "test_score": "test score",
    "test_iou": "test IoU",
    "test_rmse_depth": "test RMSE",
    "val_score": "validation score",
}


def compare(comparison: Comparison) -> str:
    """Make the missing runs, measure all models and write the results; return the table.

    Raises:
        AnalysisError: A run failed, or a folder holds something else.
        DataError: The data have changed since a run, or nothing can be measured on `judge`.
    """
    check_folder(comparison.out)
    judge = open_dataset(comparison.judge) if comparison.judge else None  # before the first run
    run_missing(comparison)
    methods, seeds, folders = zip(*comparison.runs(), strict=True)
    scored = score_runs(folders, judge)
    scored.insert(0, "method", methods)
    scored.insert(1, "seed", seeds)
    curves = [trace_incumbent(folder, sigma) for folder, sigma in zip(folders, scored["sigma"], strict=True)]
    table = build_comparison_table(scored, comparison.budget)
    write_file(comparison.out / "runs.csv", scored.to_csv(index=False).encode())
    write_file(comparison.out / "table.md", table.encode())
    for kind in ("png", "svg"):
        save(plot_over_time(scored, curves), comparison.out / f"best_over_time.{kind}")
    return table


def estimate_mean(values: Float[np.ndarray, "runs ..."]) -> Float[np.ndarray, "3 ..."]:
    """Return the mean over runs and its 95 % interval by Student's t, lower end first; a point for a single run."""
    mean, runs = values.mean(axis=0), len(values)
    margin = _compute_t(runs) * stats.sem(values, axis=0) if runs > 1 else np.zeros_like(mean)
    return np.stack([mean, mean - margin, mean + margin])


def estimate_methods(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return `runs`, and the `mean` of a metric with its 95 % interval `low` to `high`, of each method, the best first.

    A method that was run with another budget gets a separate row. The interval of a single run is a point. There are no
    rows for a metric that no run recorded, such as a test metric for data without a test split.
    """
    groups = table[table[metric].notna()].groupby(["method", "budget"])[metric]
    rows = {name: [len(values), *estimate_mean(values.to_numpy(dtype=float))] for name, values in groups}
    index = pd.MultiIndex.from_tuples(list(rows), names=["method", "budget"])
    found = pd.DataFrame([*rows.values()], index=index, columns=["runs", "mean", "low", "high"])
    return found.astype({"runs": int}).sort_values("mean", ascending=False)


def count_seeds(differences: Sequence[float]) -> int:
    """Return the number of seeds that would narrow the interval of these differences to DELTA on either side."""
    std = float(np.std(differences, ddof=1))
    return next(seeds for seeds in count(2) if _compute_t(seeds) * std <= DELTA * seeds**0.5)


def _compute_t(runs: int) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, runs - 1))


def build_comparison_table(runs: pd.DataFrame, budget: Budget) -> str:
    """Return a Markdown table with a row per method, and an explanation; `runs` contains rows of scoring.score_run."""
    known = [name for name in TITLES if name in runs]
    rows = [_build_row(str(method), runs, known, budget) for method in runs["method"].unique()]
    return f"{format_markdown_table(rows)}\n{_explain(runs, known[0])}\n"


def _build_row(method: str, runs: pd.DataFrame, known: Sequence[str], budget: Budget) -> dict[str, str]:
    """Return the cells of a method by column title; the first known metric is compared seed by seed."""
    group, metric = runs[runs["method"] == method], known[0]
    row = {"method": method, "seeds": str(len(group)), f"{TITLES[metric]}, mean": format_estimate(group[metric])}
    if DEFAULT in set(runs["method"]):
        titles = f"{TITLES[metric]} minus {DEFAULT}", f"above {DEFAULT}", f"seeds for {DELTA}"
        row |= dict(zip(titles, _compare_with_default(runs, method, metric), strict=True))
    row |= {TITLES[name]: format_range(group[name]) for name in known[1:]}
    if "test_score" in known:
        row["validation - test"] = format_range(group["val_score"] - group["test_score"], sign="+")
    row |= {"trials": f"{group['trials'].mean():.0f}", "wall time, s": _format_wall_times(group["wall_s"], budget)}
    return row | {"parameters": f"{group['params'].min():,} to {group['params'].max():,}"}


def _compare_with_default(runs: pd.DataFrame, method: str, metric: str) -> tuple[str, str, str]:
    """Return mean, sign count and required seeds of a method's differences to the default with the same seed."""
    values = runs.set_index(["method", "seed"])[metric]
    differences = (values[method] - values[DEFAULT]).dropna()
    if method == DEFAULT or differences.empty:
        return "-", "-", "-"
    seeds = str(count_seeds(differences)) if len(differences) > 1 else "-"
    return format_estimate(differences, sign="+"), f"{(differences > 0).sum()} of {len(differences)}", seeds


def format_estimate(values: "pd.Series[float]", *, sign: str = "") -> str:
    """Return mean [95 % interval] of the known values."""
    return _format_interval(values, estimate_mean, sign)


def format_range(values: "pd.Series[float]", *, sign: str = "") -> str:
    """Return mean [lowest, highest] of the known values."""
    return _format_interval(values, lambda known: (known.mean(), known.min(), known.max()), sign)


def _format_interval(values: "pd.Series[float]", estimate: Callable[[np.ndarray], Iterable[float]], sign: str) -> str:
    """Return mean [low, high], only the mean of a single value, or "-" without a known value."""
    known = values.dropna().to_numpy(dtype=float)
    if not len(known):
        return "-"
    mean, low, high = (f"{value:{sign}.3f}" for value in estimate(known))
    return f"{mean} [{low}, {high}]" if len(known) > 1 else mean


def _format_wall_times(wall_s: "pd.Series[float]", budget: Budget) -> str:
    """Return mean and longest wall time, and the number of runs that exceeded the budget."""
    late = int((wall_s > LATE * (budget.wall_s or np.inf)).sum())
    marked = f"; **{late} late**" if late else ""
    return f"{wall_s.mean():.0f} (longest {wall_s.max():.0f}{marked})"


def _explain(runs: pd.DataFrame, metric: str) -> str:
    judged = " --judge data are measured as one-look evaluate does." if metric.startswith("judge") else ""
    return (
        f"All models are measured on whole splits at {PX} px and scored with one standard deviation of the depth for "
        f"each seed.{judged} {TITLES[metric].capitalize()} and differences by seed: mean over "
        f"{runs['seed'].nunique()} seeds [95 % t-interval]; other columns: mean [lowest, highest]. Seeds for {DELTA}: "
        f"the number of seeds that narrows the interval of the difference to {DELTA} on either side. Late: over "
        f"{LATE - 1:.0%} more than the budget."
    )


def plot_over_time(runs: pd.DataFrame, curves: Sequence[pd.DataFrame]) -> Figure:
    """Plot the incumbent's score of each method over time, and the final models' scores at the right.

    Lines are means over seeds with their intervals; each begins when all runs of its method have an incumbent. The dots
    are the models in best/ on the whole validation split, all at one size. `runs` contains the rows of
    scoring.score_runs, and `curves` the scoring.trace_incumbent of each run.
    """
    figure = Figure(figsize=(11.5, 5), layout="constrained")
    ax, ends = figure.subplots(1, 2, width_ratios=(8, 1), sharey=True)
    times_s = np.linspace(0, runs["wall_s"].max(), TIMES)
    lowest = [0.0]
    for number, (method, group) in enumerate(runs.groupby("method", sort=False)):
        look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
        lowest.append(_draw_curves(ax, times_s, [curves[row] for row in group.index], look))
        lowest.append(_draw_end(ends, number, group["val_score"].to_numpy(dtype=float), look["color"]))
        ends.plot([], [], **look, linewidth=1.8, label=f"{method}: {format_estimate(group['val_score'])}")
    _label(figure, ax, ends, runs)
    ax.set_ylim(bottom=min(lowest) - 0.03)
    return figure


def _draw_curves(ax: Axes, times_s: np.ndarray, curves: Sequence[pd.DataFrame], look: dict[str, Any]) -> float:
    """Draw one method's line and band; return the band's lower end at the last time."""
    values = np.stack([sample_curve(curve, times_s) for curve in curves])
    known = ~np.isnan(values).any(axis=0)
    times_s, values = times_s[known], values[:, known]
    mean, low, high = estimate_mean(values)
    ax.fill_between(times_s, low, high, color=look["color"], alpha=0.13, linewidth=0, step="post")
    ax.plot(times_s, mean, **look, linewidth=1.8, drawstyle="steps-post")
    return float(low[-1])


def _draw_end(ax: Axes, place: int, scores: np.ndarray, colour: str) -> float:
    """Draw one method's final scores as a dot with an interval; return the interval's lower end."""
    mean, low, high = estimate_mean(scores)
    ax.errorbar(place, mean, [[mean - low], [high - mean]], fmt="o", color=colour, linewidth=2, markersize=6)
    return float(low)


def _label(figure: Figure, ax: Axes, ends: Axes, runs: pd.DataFrame) -> None:
    seeds = runs["seed"].nunique()
    ax.set_xlabel("seconds since the start of the command")
    ax.set_ylabel("validation score of the incumbent")
    ends.set_xlabel(f"best/,\nall of validation\nat {PX} px", fontsize="small")
    ends.set_xticks([])
    ends.margins(x=0.3)
    for each in (ax, ends):
        each.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        each.grid(axis="y", alpha=0.25)
    ax.set_xlim(0, runs["wall_s"].max())
    title = f"dots: mean [95 %], {seeds} seeds" if seeds > 1 else "dots: 1 seed"
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1), "alignment": "left", "frameon": False}
    ends.legend(**beside, fontsize="small", title=title, title_fontsize="small", handlelength=3.5)
    caption = (
        "Lines: best trial of the highest stage that has reported, on that stage's validation images and size; a "
        "new stage may begin below\nthe best of the stage before. Mean over seeds and its 95 % t-interval. "
        "0 is a constant guess."
    )
    figure.supxlabel(caption, fontsize="x-small", color="0.3", x=0.01, ha="left")
