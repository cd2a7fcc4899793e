"""Pictures of single images of a run and what its model makes of them: side by side, in groups, magnified.

Each function returns a matplotlib Figure of what analysis.errors measures.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.image_errors import Part, by_share
from data.visualize import render_comparison

PANELS = ("image", "true mask", "predicted mask", "true depth", "predicted depth", "|difference|")
PANEL_IN = 1.9
AXES = {"mask_share": "true foreground, share of the picture", "depth_range": "range of the true depth"}
FIGURES = {"iou": "IoU of the mask", "rmse_depth": "RMSE of the depth"}
CROP_PX = 40  # shown magnified
PERIOD_PX = 4  # patterns of up to this period are what an upsampling leaves


def side_by_side(part: Part, rows: pd.DataFrame) -> Figure:
    """Draw images with true and predicted mask and depth, a row for each, its metrics above it.

    The difference is the larger of that of the mask and that of the depth, where they are known. Depth is bright where
    near and black where it is not known; a true mask that is not known is half grey.

    Args:
        part: From open_part.
        rows: Some rows of its image_errors; the order is kept, the index says which images.
    """
    figure = Figure(figsize=(PANEL_IN * len(PANELS), (PANEL_IN + 0.25) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(PANELS), squeeze=False)
    for axes, (place, errors) in zip(grid, rows.iterrows(), strict=True):
        for ax, panel in zip(axes, _panels(part, int(str(place))), strict=True):
            _show(ax, panel)
        metrics = {"IoU": errors["iou"], "RMSE": errors["rmse_depth"]}
        told = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if pd.notna(value))
        axes[0].set_title(f"{errors['image']} on {errors['background']}: {told}", fontsize="small", loc="left")
    for ax, name in zip(grid[-1], PANELS, strict=True):
        ax.set_xlabel(name, fontsize="small")
    return figure


def errors_by(errors: pd.DataFrame, columns: Sequence[str] = tuple(AXES)) -> Figure:
    """Draw IoU and RMSE of each image against what is in it, and the means of equal groups as steps."""
    figure = Figure(figsize=(4.6 * len(columns), 3 * len(FIGURES)), layout="constrained")
    grid = figure.subplots(len(FIGURES), len(columns), squeeze=False, sharex="col", sharey="row")
    for axes, (name, title) in zip(grid, FIGURES.items(), strict=True):
        axes[0].set_ylabel(title)
        for ax, column in zip(axes, columns, strict=True):
            ax.plot(errors[column], errors[name], ".", color="0.6", markersize=4)
            means = by_share(errors, column)
            ax.hlines(means[name], means["least"], means["most"], colors="C3", linewidth=3)
            ax.grid(alpha=0.25)
    for ax, column in zip(grid[-1], columns, strict=True):
        ax.set_xlabel(AXES.get(column, column))
    return figure


def fine_structure(part: Part, place: int) -> Figure:
    """Draw predicted mask and depth of one image, the spot with the strongest pattern magnified, and the pattern.

    The pattern is what a mean over PERIOD_PX by PERIOD_PX pixels takes away. A checkerboard shows as a grid that goes
    on where the picture has no edges; edges show as double lines.
    """
    figure = Figure(figsize=(3 * 3.1, 2 * 3.1), layout="constrained")
    for axes, name, values in zip(figure.subplots(2, 3), ("mask", "depth"), _predicted(part, place), strict=True):
        pattern = values - cv2.blur(values, (PERIOD_PX, PERIOD_PX))
        strength = cv2.blur(np.abs(pattern), (CROP_PX, CROP_PX))
        top, left = _corner(strength)
        spot = np.s_[top : top + CROP_PX, left : left + CROP_PX]
        most = max(float(np.abs(pattern[spot]).max()), 1e-6)
        _show(axes[0], values, title=f"predicted {name}", cmap="gray", vmin=0, vmax=1)
        _show(axes[1], values[spot], title=f"its {CROP_PX} px with most structure", cmap="gray")
        _show(axes[2], pattern[spot], title=f"structure there, ±{most:.3f}", cmap="PuOr", vmin=-most, vmax=most)
    return figure


def _panels(part: Part, place: int) -> list[np.ndarray]:
    return render_comparison(part.pack.gather(np.array([place])), _predicted(part, place)[None])[0]


def _predicted(part: Part, place: int) -> np.ndarray:
    """Return predicted mask and depth of one image of the part."""
    maps: np.ndarray = part.model.predict_squares(part.photo(place)[None])[0]
    return maps


def _corner(strength: np.ndarray) -> tuple[int, int]:
    """Return top and left of the square of CROP_PX, inside the picture, around the greatest value."""
    middle = np.unravel_index(strength.argmax(), strength.shape)
    top, left = (
        int(np.clip(m - CROP_PX // 2, 0, max(n - CROP_PX, 0))) for m, n in zip(middle, strength.shape, strict=True)
    )
    return top, left


def _show(ax: Axes, picture: np.ndarray, *, title: str = "", **look: Any) -> None:
    ax.imshow(picture, interpolation="nearest", **look)
    ax.set_xticks([])
    ax.set_yticks([])
    if title:
        ax.set_title(title, fontsize="small")
