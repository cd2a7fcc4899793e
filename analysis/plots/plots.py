"""Plots of runs, finished or not: curves of every trial, best score over time, learning rates, training times.

    python -m analysis.plots RUN ... [--out DIR]

Each function draws what analysis.curves prepares and returns a matplotlib Figure, for a notebook as for a file.
"""

import argparse
import io
import os
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from analysis.exceptions import AnalysisError
from analysis.runs.curves import STAGE, best_so_far, epoch_curves, training_times
from analysis.runs.files import check_folder, write_file
from analysis.runs.tables import TRIAL, load_reports, trials_so_far

HIGHLIGHTED = 5
MARKED = 15  # most epochs of a curve whose points are marked
PANELS = {
    "train_total": "training loss",
    "train_mask": "its mask part",
    "train_depth": "its depth part",
    "iou": "validation IoU of the mask",
    "rmse_depth": "validation RMSE of the depth",
    "score": "validation score",
}
LEGEND = "trial, network and width, score"
DPI = 110
COLOURS = [f"C{number}" for number in range(10)]
GREY: dict[str, Any] = {"color": "0.8", "linewidth": 0.8, "markersize": 2, "zorder": 1}
BRIGHT: dict[str, Any] = {"linewidth": 1.8, "markersize": 4, "zorder": 2}


def loss_curves(reports: pd.DataFrame, trials: pd.DataFrame, *, highlight: int = HIGHLIGHTED) -> Figure:
    """Draw training losses and validation metrics of every trial against the images it has seen, a row per stage.

    The best of each stage are in colour, the others grey; a trial has the colour of the trial whose weights it started
    from. Trials train under losses of their own, so only the validation metrics compare them.

    Args:
        reports: From load_reports.
        trials: From trials_so_far or load_trials.
        highlight: How many trials of each stage are in colour.
    """
    curves = coloured(epoch_curves(reports, trials), highlight)
    panels = {name: title for name, title in PANELS.items() if name in curves and curves[name].notna().any()}
    rows = list(curves.groupby(STAGE, sort=False))
    figure = Figure(figsize=(3 * len(panels) + 2.6, 2.7 * len(rows) + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), len(panels), squeeze=False)
    for axes, (_, stage) in zip(grid, rows, strict=True):
        for ax, name in zip(axes, panels, strict=True):
            _draw_trials(ax, stage, "images_seen", name)
            ax.set_xlim(0, 1.05 * stage["images_seen"].max())
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes[0].set_ylabel(_stage_name(stage, curves), fontweight="bold")
        _name_trials(axes[-1], stage)
    for ax, title in zip(grid[0], panels.values(), strict=True):
        ax.set_title(title, fontsize="medium")
    figure.supxlabel("images seen", fontsize="medium")
    return figure


def learning_rates(reports: pd.DataFrame, trials: pd.DataFrame, *, highlight: int = HIGHLIGHTED) -> Figure:
    """Draw the learning rate at the end of each epoch, a panel per stage; colours as in `loss_curves`."""
    curves = coloured(epoch_curves(reports, trials), highlight)
    panels = list(curves.groupby(STAGE, sort=False))
    figure = Figure(figsize=(8.5, 2.7 * len(panels) + 0.3), layout="constrained")
    for ax, (_, stage) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _draw_trials(ax, stage, "epochs", "lr")
        ax.set_yscale("log")
        ax.set_xlim(0.5, stage["epochs"].max() + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_ylabel(_stage_name(stage, curves), fontweight="bold")
        _name_trials(ax, stage)
    figure.suptitle("learning rate at the end of each epoch", fontsize="medium")
    figure.supxlabel("epochs", fontsize="medium")
    return figure


def best_over_time(reports: pd.DataFrame) -> Figure:
    """Draw every reported score and the best so far of each stage against the run's clock, a panel per run."""
    points = best_so_far(reports)
    runs = list(points.groupby("run", sort=False))
    figure = Figure(figsize=(9, 3.2 * len(runs) + 0.3), layout="constrained")
    grid = figure.subplots(len(runs), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for ax, (run, of_run) in zip(grid, runs, strict=True):
        for number, (stage, of_stage) in enumerate(of_run.groupby("stage", sort=False)):
            _draw_stage(ax, str(stage), of_stage, COLOURS[number % len(COLOURS)])
        ax.set_ylabel("score")
        _legend_beside(ax)
        ax.set_title(str(run), fontsize="medium", loc="left")
        ax.grid(alpha=0.25)
    grid[-1].set_xlabel("seconds since the run began")
    return figure


def coloured(curves: pd.DataFrame, highlight: int) -> pd.DataFrame:
    """Return the curves with `colour`: one for each root among the best of a stage, empty for trials that are not.

    Later stages choose first, so that the winners differ although there are but ten colours.
    """
    bright = curves["rank"] <= highlight
    stages = curves.groupby(STAGE, sort=False).ngroup()
    best = curves[bright].assign(stage_number=stages).sort_values(["stage_number", "rank"], ascending=[False, True])
    roots = dict.fromkeys(zip(best["run"], best["root"], strict=True))
    colours = {root: COLOURS[number % len(COLOURS)] for number, root in enumerate(roots)}
    chosen = [colours.get(root) for root in zip(curves["run"], curves["root"], strict=True)]
    return curves.assign(colour=pd.Series(chosen, curves.index, dtype=object).where(bright, None))


def times_as_markdown(times: pd.DataFrame) -> str:
    """Return the table of `training_times` as Markdown."""
    rows = [[_cell(name, value) for name, value in row.items()] for row in times.to_dict("records")]
    lines = [[str(name) for name in times], ["---"] * times.shape[1], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _draw_trials(ax: Axes, stage: pd.DataFrame, x: str, y: str) -> None:
    for _, trial in stage.groupby(TRIAL, sort=False):
        marker = "o" if len(trial) <= MARKED else ""
        ax.plot(trial[x], trial[y], marker=marker, **_look(trial["colour"].iloc[0]))
    ax.tick_params(which="both", labelsize="small")
    ax.grid(alpha=0.25)


def _name_trials(ax: Axes, stage: pd.DataFrame) -> None:
    """Name the trials in colour beside the row, the best first, and say how many are grey."""
    trials = stage.drop_duplicates(TRIAL).sort_values("rank")
    bright = trials[trials["colour"].notna()]
    for colour, label in zip(bright["colour"], bright["label"], strict=True):
        ax.plot([], [], marker="o", label=label, **_look(colour))
    if others := len(trials) - len(bright):
        ax.plot([], [], marker="o", label=f"{others} other{'s' if others > 1 else ''}", **_look(None))
    _legend_beside(ax, title=LEGEND)


def _look(colour: str | None) -> dict[str, Any]:
    return GREY if colour is None else {**BRIGHT, "color": colour}


def _legend_beside(ax: Axes, title: str | None = None) -> None:
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1), "alignment": "left"}
    ax.legend(**beside, frameon=False, fontsize="small", title=title, title_fontsize="small")


def _draw_stage(ax: Axes, name: str, points: pd.DataFrame, colour: str) -> None:
    """Draw the scores of a stage as dots over its span of time, and the best so far as steps."""
    end, best = points["ended_s"].iloc[-1], points["best"].iloc[-1]
    ax.axvspan(points["began_s"].iloc[0], end, color=colour, alpha=0.08, linewidth=0)
    ax.plot(points["ended_s"], points["score"], ".", color=colour, alpha=0.4)
    steps = [*points["ended_s"], end], [*points["best"], best]
    ax.plot(*steps, drawstyle="steps-post", color=colour, label=f"{name}: best {best:.3f}")


def _stage_name(stage: pd.DataFrame, curves: pd.DataFrame) -> str:
    """Return the name of a stage, with its run where there are several."""
    run, name = stage.iloc[0][STAGE]
    return str(name) if (curves["run"] == run).all() else f"{Path(run).name}\n{name}"


def _cell(name: Hashable, value: Any) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.{3 if name == 'score' else 1}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def draw(runs: Sequence[Path], out: Path, kind: str) -> None:
    """Write the plots of each run, and over all runs the best scores over time and the training times.

    Args:
        runs: Run folders. The plots of several go to folders of their own.
        out: Folder to write to.
        kind: "png" or "svg".

    Raises:
        AnalysisError: A folder is no run, or has nothing to show yet.
    """
    check_folder(out)
    for run in runs:
        check_run(run)
    root = os.path.commonpath([run.resolve() for run in runs])
    for run in runs:
        reports, trials = load_reports(run), trials_so_far(run)
        if reports[["score", "epochs", "images_seen"]].dropna().empty:
            raise AnalysisError(f"{run}: no trial has a score after an epoch; there is nothing to draw")
        folder = out / run.resolve().relative_to(root)
        save(loss_curves(reports, trials), folder / f"loss_curves.{kind}")
        save(learning_rates(reports, trials), folder / f"learning_rates.{kind}")
    save(best_over_time(load_reports(*runs)), out / f"best_over_time.{kind}")
    times = training_times(trials_so_far(*runs))
    write_file(out / "training_times.csv", times.to_csv(index=False).encode())
    write_file(out / "training_times.md", times_as_markdown(times).encode())


def check_run(run: Path) -> None:
    """Raise AnalysisError unless a trial of the run has reported an epoch."""
    if not run.is_dir():
        raise AnalysisError(f"{run}: no such folder; name the folders of runs")
    reports = run / "reports.jsonl"
    if reports.is_file() and b"\n" in reports.read_bytes():
        return
    if not reports.is_file() and not (run / "run.json").is_file():
        raise AnalysisError(f"{run}: not a run folder, for it holds neither run.json nor reports.jsonl")
    raise AnalysisError(f"{run}: no trial of this run has ended an epoch yet; there is nothing to draw")


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the name ends with."""
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=DPI)
    write_file(path, picture.getvalue())


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(prog="python -m analysis.plots", description="Draw the curves and tables of runs.")
    p.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders, finished or not")
    p.add_argument("--out", type=Path, default=Path("plots"), help="folder to write to (default: %(default)s)")
    p.add_argument("--format", choices=("png", "svg"), default="png", help="of the plots (default: %(default)s)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 drawn, 2 the user's mistake."""
    args = parser().parse_args(arguments)
    try:
        draw(list(dict.fromkeys(args.runs)), args.out, args.format)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"loss curves, learning rates, best scores over time and training times in {args.out}")
    return 0
