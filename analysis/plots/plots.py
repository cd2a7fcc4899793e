"""Plot runs, finished or not: learning curves and learning rates of every trial, and a table of training times.

The functions plot what analysis.runs.curves prepares and return matplotlib figures, for notebooks and files alike.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from analysis import AnalysisError
from analysis.runs.curves import STAGE, list_training_times
from analysis.runs.files import check_folder, write_file
from analysis.runs.run import read_run
from analysis.runs.tables import TRIAL

HIGHLIGHTED = 5
MAX_MARKED = 15  # longest curve, in epochs, whose points are marked
PANELS = {
    "train_total": "training loss",
    "train_mask": "mask part of the loss",
    "train_depth": "depth part of the loss",
    "iou": "validation IoU of the mask",
    "rmse_depth": "validation RMSE of the depth",
    "score": "validation score",
    "lr": "learning rate",
}
LEGEND = "trial, network and width, score"
DPI = 110
GREY: dict[str, Any] = {"color": "0.8", "linewidth": 0.8, "markersize": 2, "zorder": 1}
BRIGHT: dict[str, Any] = {"linewidth": 1.8, "markersize": 4, "zorder": 2}


def plot_curves(curves: pd.DataFrame) -> Figure:
    """Plot losses, validation metrics and learning rates of every trial against the images seen, two rows per stage.

    The best trials of each stage are in colour, the others grey; a trial has the colour of the trial whose weights it
    started from. Trials have different losses, so only validation metrics can be compared. `curves` are the curves of
    one or several analysis.runs.run.Run.
    """
    curves = add_colours(curves.reset_index(drop=True))
    panels = {name: title for name, title in PANELS.items() if name in curves and curves[name].notna().any()}
    stages = list(curves.groupby(STAGE, sort=False))
    columns = len(panels) // 2 + 1  # in two rows for each stage, whose last place has the legend
    figure = Figure(figsize=(3.2 * columns, 5.4 * len(stages) + 0.3), layout="constrained")
    grid = figure.subplots(2 * len(stages), columns, squeeze=False).reshape(len(stages), -1)
    several = len(set(curves["run"])) > 1
    for axes, ((run, name), stage) in zip(grid, stages, strict=True):
        _draw_stage(dict(zip(panels, axes, strict=False)), stage, axes[-1])
        axes[0].set_ylabel(f"{Path(str(run)).name}\n{name}" if several else str(name), fontweight="bold")
        for ax, title in zip(axes, panels.values(), strict=False):
            ax.set_title(title, fontsize="medium")
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
    figure.supxlabel("images seen", fontsize="medium")
    return figure


def add_colours(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the curves with `colour`: one colour for each root among the best of a stage, None for other trials.

    Later stages choose first, so that the winners differ although there are only ten colours.
    """
    bright = curves["rank"] <= HIGHLIGHTED
    stages = curves.groupby(STAGE, sort=False).ngroup()
    best = curves[bright].assign(stage_number=stages).sort_values(["stage_number", "rank"], ascending=[False, True])
    roots = dict.fromkeys(zip(best["run"], best["root"], strict=True))
    colours = {root: f"C{number % 10}" for number, root in enumerate(roots)}
    chosen = [colours.get(root) for root in zip(curves["run"], curves["root"], strict=True)]
    return curves.assign(colour=pd.Series(chosen, curves.index, dtype=object).where(bright, None))


def _draw_stage(axes: Mapping[str, Axes], stage: pd.DataFrame, place: Axes) -> None:
    """Draw the trials of a stage, the best last, and list them in a legend at `place`."""
    worst_first = stage.sort_values("rank", ascending=False, na_position="first", kind="stable")
    grey = int(stage.drop_duplicates(TRIAL)["colour"].isna().sum())
    for _, trial in worst_first.groupby(TRIAL, sort=False):
        colour, marker = trial["colour"].iloc[0], "o" if len(trial) <= MAX_MARKED else ""
        look = BRIGHT | {"color": colour, "label": trial["label"].iloc[0]}
        look = GREY | {"label": f"{grey} other{'s' if grey > 1 else ''}"} if colour is None else look
        for name, ax in axes.items():
            ax.plot(trial["images_seen"], trial[name], marker=marker, **look)
    for name, ax in axes.items():
        ax.set_xlim(0, 1.05 * stage["images_seen"].max())
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.set_yscale("log" if name == "lr" else "linear")
        ax.tick_params(which="both", labelsize="small")
        ax.grid(alpha=0.25)
    lines = {str(line.get_label()): line for line in ax.lines[::-1]}
    look = {"loc": "upper left", "alignment": "left", "frameon": False}
    place.legend(list(lines.values()), list(lines), **look, fontsize="small", title=LEGEND, title_fontsize="small")


def write_plots(folders: Sequence[Path], out: Path, kind: str) -> None:
    """Write the curves of each run, and the training times of all runs together; print where they are.

    With several runs, each has a folder of its own.
    """
    check_folder(out)
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if run.curves[["score", "epochs", "images_seen"]].dropna().empty:
            raise AnalysisError(f"{run.folder}: no trial has a score after an epoch; there is nothing to plot")
    root = os.path.commonpath([folder.resolve() for folder in folders])
    for run in runs:
        save(plot_curves(run.curves), out / run.folder.resolve().relative_to(root) / f"curves.{kind}")
    times = list_training_times(pd.concat([run.trials for run in runs], ignore_index=True))
    write_file(out / "training_times.csv", times.to_csv(index=False).encode())
    print(f"learning curves and training times in {out}")


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], dpi=DPI)
    write_file(path, content.getvalue())
