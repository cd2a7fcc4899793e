"""Plots of single images of a run and of the model's predictions: side by side, in groups, magnified."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.image_errors import Part, average_groups
from data.loading.visualize import render_comparison

PANELS = ("image", "true mask", "predicted mask", "true depth", "predicted depth", "|difference|")
PANEL_IN = 1.9
AXES = {"mask_share": "true foreground, share of the image", "depth_range": "range of the true depth"}
METRICS = {"iou": "IoU of the mask", "rmse_depth": "RMSE of the depth"}
CROP_PX = 40  # shown magnified
PERIOD_PX = 4  # upsampling leaves patterns of up to this period


def plot_images(part: Part, rows: pd.DataFrame) -> Figure:
    """Plot images with true and predicted mask and depth, in the order of the rows of `measure_images`.

    The difference is the larger of those of the mask and of the depth, where they are known. Depth is bright where near
    and black where unknown; an unknown true mask is half grey.
    """
    figure = Figure(figsize=(PANEL_IN * len(PANELS), (PANEL_IN + 0.25) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(PANELS), squeeze=False)
    for axes, (place, errors) in zip(grid, rows.iterrows(), strict=True):
        truth = part.pack.gather(np.array([int(str(place))]))
        panels = render_comparison(truth, _predict(part, int(str(place)))[None])[0]
        for ax, panel in zip(axes, panels, strict=True):
            _show(ax, panel)
        metrics = {"IoU": errors["iou"], "RMSE": errors["rmse_depth"]}
        values = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if pd.notna(value))
        axes[0].set_title(f"{errors['image']} on {errors['background']}: {values}", fontsize="small", loc="left")
    for ax, name in zip(grid[-1], PANELS, strict=True):
        ax.set_xlabel(name, fontsize="small")
    return figure


def plot_errors_by(errors: pd.DataFrame, columns: Sequence[str] = tuple(AXES)) -> Figure:
    """Plot IoU and RMSE of each image against its content, and the means of equal groups as steps."""
    figure = Figure(figsize=(4.6 * len(columns), 3 * len(METRICS)), layout="constrained")
    grid = figure.subplots(len(METRICS), len(columns), squeeze=False, sharex="col", sharey="row")
    for axes, (name, title) in zip(grid, METRICS.items(), strict=True):
        axes[0].set_ylabel(title)
        for ax, column in zip(axes, columns, strict=True):
            ax.plot(errors[column], errors[name], ".", color="0.6", markersize=4)
            means = average_groups(errors, column)
            ax.hlines(means[name], means["least"], means["most"], colors="C3", linewidth=3)
            ax.grid(alpha=0.25)
    for ax, column in zip(grid[-1], columns, strict=True):
        ax.set_xlabel(AXES.get(column, column))
    return figure


def plot_fine_structure(part: Part, place: int) -> Figure:
    """Plot predicted mask and depth of one image, the crop with the strongest pattern magnified, and the pattern.

    The pattern is what a mean over PERIOD_PX by PERIOD_PX pixels removes. A checkerboard shows as a grid that continues
    where the image has no edges; edges show as double lines.
    """
    figure = Figure(figsize=(3 * 3.1, 2 * 3.1), layout="constrained")
    for axes, name, values in zip(figure.subplots(2, 3), ("mask", "depth"), _predict(part, place), strict=True):
        pattern = values - cv2.blur(values, (PERIOD_PX, PERIOD_PX))
        top, left = _find_crop(cv2.blur(np.abs(pattern), (CROP_PX, CROP_PX)))
        crop = np.s_[top : top + CROP_PX, left : left + CROP_PX]
        most = max(float(np.abs(pattern[crop]).max()), 1e-6)
        _show(axes[0], values, title=f"predicted {name}", cmap="gray", vmin=0, vmax=1)
        _show(axes[1], values[crop], title=f"its {CROP_PX} px with most structure", cmap="gray")
        _show(axes[2], pattern[crop], title=f"structure there, ±{most:.3f}", cmap="PuOr", vmin=-most, vmax=most)
    return figure


def _predict(part: Part, place: int) -> np.ndarray:
    """Return predicted mask and depth of one image of the part."""
    maps: np.ndarray = part.model.predict_squares(part.image(place)[None])[0]
    return maps


def _find_crop(strength: np.ndarray) -> tuple[int, int]:
    """Return top and left of the square of CROP_PX, inside the image, around the greatest value."""
    peak, shape = np.unravel_index(strength.argmax(), strength.shape), strength.shape
    top, left = (int(np.clip(p - CROP_PX // 2, 0, max(n - CROP_PX, 0))) for p, n in zip(peak, shape, strict=True))
    return top, left


def _show(ax: Axes, image: np.ndarray, *, title: str = "", **look: Any) -> None:
    ax.imshow(image, interpolation="nearest", **look)
    ax.set_xticks([])
    ax.set_yticks([])
    if title:
        ax.set_title(title, fontsize="small")
