"""Runs side by side, a row for each: what it was asked for, what it took, what came out; and methods by their runs.

Reads what runs wrote about themselves; analysis.judge measures their models anew, all alike.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.methods import METHODS
from analysis.compare.statistics import interval, iqm
from analysis.exceptions import AnalysisError
from analysis.runs.run import read_json
from analysis.runs.tables import load_trials

FIGURES = ("score", "iou", "rmse_depth")
METHOD = ["method", "budget"]
ASIDE = 0.2  # of a row: where the dots of single runs are


def summaries(*runs: Path | str) -> pd.DataFrame:
    """Return a row for each finished run.

    Returns:
        `run`, `method` (as `method_of` tells it), `budget`, `data`, `seed`, `wall_s`, `trials`, `failed`,
        `busy` (the part of the search in which workers trained), the best model's `network`, `params` and `px`, and
        its `val_` and `test_` score, iou and rmse_depth as the run measured them: at its own size, and its score by the
        deviation of the depth that it saw.

    Raises:
        AnalysisError: A run has not ended with a model.
    """
    return pd.DataFrame([_summary(Path(run)) for run in runs])


def method_of(run: Path, notes: Mapping[str, Any]) -> str:
    """Return the method that analysis.compare named a run's folder after, or else what was asked for, in words.

    These are who chose the configurations and how trials climbed; of runs that did not record it "unknown".

    Args:
        run: The run folder.
        notes: Of its run.json.
    """
    name, _, seed = run.name.rpartition("-")
    if name in METHODS and seed == str(notes["seed"]):
        return name
    asked = notes.get("asked")
    if asked is None:
        return "unknown"
    who = "stated configurations" if asked.get("configs") else asked.get("sampler", "tpe")
    split = [f"{asked['split']} split"] if asked.get("split", "background") != "background" else []
    return ", ".join([who, asked.get("ladder", "climb"), *split])


def estimates_by(table: pd.DataFrame, figure: str, by: Sequence[str] = tuple(METHOD)) -> pd.DataFrame:
    """Return what the runs of each method and budget say of a figure, the best first.

    Returns:
        `runs`, the interquartile mean `iqm` with its 95 % bootstrap interval `low` to `high` (too narrow where runs are
        few, a point where there is one), and `least` and `most`.
    """
    groups = table[table[figure].notna()].groupby(list(by))[figure]
    rows = {name: _estimate(values.to_numpy(dtype=float)) for name, values in groups}
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["runs", "iqm", "low", "high", "least", "most"])
    found.index = pd.MultiIndex.from_tuples(list(found.index), names=list(by)) if len(by) > 1 else found.index
    return found.astype({"runs": int}).sort_values("iqm", ascending=False)


def draw_estimates(table: pd.DataFrame, figures: Sequence[str]) -> Figure:
    """Draw each figure of every run as a dot, and of each method and budget the interquartile mean and its interval."""
    groups = list(table.groupby(METHOD))[::-1]
    drawing = Figure(figsize=(4 * len(figures) + 2, 0.5 * len(groups) + 1.2), layout="constrained")
    for ax, figure in zip(drawing.subplots(1, len(figures), sharey=True, squeeze=False)[0], figures, strict=True):
        for place, (_, group) in enumerate(groups):
            _draw_estimate(ax, place, group[figure].dropna().to_numpy(dtype=float))
        ax.set_yticks(range(len(groups)), [", ".join(map(str, name)) for name, _ in groups])
        ax.set_xlabel(figure)
        ax.grid(axis="x", alpha=0.25)
    return drawing


def draw_over_time(table: pd.DataFrame, changes: Sequence[pd.DataFrame]) -> Figure:
    """Draw the score of the model that each run would have handed out, over time; runs of a method share its colour.

    Args:
        table: Of `summaries`, a row for each run.
        changes: What judge.handed_out says of each.
    """
    drawing = Figure(figsize=(9, 4), layout="constrained")
    ax = drawing.subplots()
    names = [", ".join(map(str, name)) for name in table[METHOD].itertuples(index=False, name=None)]
    colours = {name: f"C{number % 10}" for number, name in enumerate(dict.fromkeys(names))}
    for name, wall_s, change in zip(names, table["wall_s"], changes, strict=True):
        times, scores = [*change["time_s"], wall_s], [*change["score"], *change["score"].tail(1)]
        ax.plot(times, scores, drawstyle="steps-post", color=colours[name], linewidth=1.5)
    for name, colour in colours.items():
        ax.plot([], [], color=colour, label=name)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set_xlabel("seconds since Enter")
    ax.set_ylabel("validation score of the model handed out")
    ax.grid(axis="y", alpha=0.25)
    ax.legend(frameon=False, fontsize="small")
    return drawing


def _summary(run: Path) -> dict[str, Any]:
    notes, metrics = read_json(run / "run.json"), read_json(run / "best" / "metrics.json")
    if not notes or not metrics:
        raise AnalysisError(f"{run}: not a run that has ended with a model; name the folders of finished runs")
    trials = load_trials(run)
    known = trials[trials["trial_id"] == metrics.get("trial_id")].dropna(subset=["params", "model/width"])
    if known.empty or not {"budget", "data", "seed", "wall_s", "stages"} <= notes.keys():
        raise AnalysisError(f"{run}: its records are damaged, or of another version; restore them from the run")
    best = known.iloc[0]
    row = {"run": str(run), "method": method_of(run, notes), "budget": notes["budget"]}
    row |= {"data": Path(notes["data"]["folder"]).name, "seed": notes["seed"], "wall_s": notes["wall_s"]}
    row |= {"trials": len(trials), "failed": int((trials["status"] == "failed").sum())}
    row |= {"busy": _busy(notes["stages"])}
    row |= {"network": f"{best['model/arch']} w{best['model/width']:.0f}", "params": int(best["params"])}
    figures = {
        f"{part}_{name}": metrics.get(part, {}).get(name, np.nan) for part in ("val", "test") for name in FIGURES
    }
    return row | {"px": metrics["px"], **figures}


def _busy(stages: Sequence[Mapping[str, Any]]) -> float:
    """Return the part of the time of the first stage, in all its rounds, in which workers trained."""
    rounds = [stage for stage in stages if stage["name"] == stages[0]["name"] and "busy" in stage]
    wall_s = sum(stage["wall_s"] for stage in rounds)
    return sum(stage["busy"] * stage["wall_s"] for stage in rounds) / wall_s if wall_s else float("nan")


def _draw_estimate(ax: Axes, place: int, values: np.ndarray) -> None:
    if len(values):
        low, high = interval(values)
        ax.plot([low, high], [place, place], color="C0", linewidth=2)
        ax.plot([float(iqm(values))], [place], "o", color="C0")
        ax.plot(values, np.full(len(values), place + ASIDE), "o", color="0.6", markersize=3)


def _estimate(values: np.ndarray) -> tuple[float, ...]:
    low, high = interval(values)
    return len(values), float(iqm(values)), float(low), float(high), float(values.min()), float(values.max())
