"""Measure a run's model on single images, average over groups of images, and plot images with their predictions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis import AnalysisError
from analysis.predict.model import Model, load_model
from analysis.runs.files import find_run, read_json
from data.data_module import load_data_module
from data.loading.device_loader import build_loader
from data.loading.loaders import Batch
from data.loading.visualize import render_comparison
from data.pack.pack import Pack
from data.runtime.progress import progress_bar
from models.config import TASKS
from models.cost import choose_images_per_pass
from models.metric_table import METRICS
from models.metrics import binarise, compute_full_metrics, select_images
from search.output.model_folder import COLUMNS, predict_batches

MAX_IMAGES = 2000  # largest number of measured images: the first ones of a split in nested order
DEPTH_PERCENT = (5, 95)  # percentiles of an image's pixels that bound its depth range
MEASURED = ("score", "iou", "boundary_f", "mae_mask", "rmse_depth", "abs_rel", "checkerboard")

PANEL_IN = 1.9
AXES = {"mask_share": "true foreground, share of the image", "depth_range": "range of the true depth"}
PLOTTED = ("iou", "rmse_depth")
CROP_PX = 40  # side of the crop that is shown magnified
PERIOD_PX = 4  # upsampling leaves patterns of up to this period


@dataclass(frozen=True, kw_only=True)
class MeasuredSplit:
    """A run's model, and the images of one split of its data."""

    model: Model  # on the CPU
    pack: Pack  # at the model's size
    backgrounds: tuple[str, ...]  # background of each image

    def image(self, place: int) -> UInt8[np.ndarray, "px px 3"]:
        """Return the image at index `place`, at the model's size."""
        image: np.ndarray = self.pack.gather(np.array([place])).image[0]
        return image


def open_split(run: Path, split: str = "val", *, most: int = MAX_IMAGES) -> MeasuredSplit:
    """Return a run's model and a split of its data, and pack the split if it is not packed yet.

    A run reads "test" only once: look at it last, and base no choice on it.
    """
    run = find_run(run)
    model = load_model(run, device="cpu")
    data_module = load_data_module(read_json(run / "run.json"))
    sizes = data_module.sizes()
    if not sizes.get(split):
        raise AnalysisError(f"{run}: no split {split!r}; it has {', '.join(name for name in sizes if sizes[name])}")
    pack = data_module.pack(split, model.px, count=min(most, sizes[split]))
    background = {triplet.id: triplet.background for triplet in data_module.splits.by_name()[split]}
    return MeasuredSplit(model=model, pack=pack, backgrounds=tuple(background[name] for name in pack.ids))


def measure_images(split: MeasuredSplit) -> pd.DataFrame:
    """Return a row for each image: `image` (its name), `background`, its content and the model's metrics.

    `mask_share` is the share of true foreground, `depth_range` the difference between the 95th and the 5th percentile
    of the true relative inverse depth, and `score` the score of this image alone. Values that need unknown truth are
    empty.
    """
    tables, done = [], 0
    count = choose_images_per_pass(split.model.config.model, split.pack.px, split.model.device)
    loader = build_loader(split.pack, device=split.model.device, batch_size=count, stats=split.model.stats)
    with progress_bar("measuring images") as progress:
        for batch, prediction in predict_batches(split.model.network, loader):
            tables.append(_measure_batch(batch, prediction))
            done += len(batch)
            progress(done, len(split.pack))
    errors = pd.concat(tables, ignore_index=True)
    score = split.model.score
    rows = errors[errors.columns.intersection([*score.weights])].to_dict("records")
    known = [{str(name): float(value) for name, value in row.items() if pd.notna(value)} for row in rows]
    errors.insert(2, "score", [score.compute(metrics) if metrics else float("nan") for metrics in known])
    names = pd.DataFrame({"image": split.pack.ids, "background": split.backgrounds})
    return pd.concat([names, errors], axis=1)


def average_groups(errors: pd.DataFrame, column: str, *, groups: int = 4) -> pd.DataFrame:
    """Order images by a column; return its `least` and `most`, `images` and mean metrics for groups of equal size."""
    known = errors[errors[column].notna()]
    if known.empty:
        return pd.DataFrame(columns=["least", "most", "images", *MEASURED])
    group = pd.qcut(known[column].rank(method="first"), min(groups, len(known)), labels=False).rename("group")
    found = known.groupby(group)
    bounds = found[column].agg(least="min", most="max", images="size")
    table: pd.DataFrame = bounds.join(found[list(MEASURED)].mean())
    return table


def measure_depth_range(depth: Float32[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"]) -> float:
    """Return the range of a depth map without outliers; nan if no depth is known."""
    if not valid.any():
        return float("nan")
    low, high = np.percentile(depth[valid], DEPTH_PERCENT)
    return float(high - low)


def _measure_batch(batch: Batch, prediction: Tensor) -> pd.DataFrame:
    """Return a row for each image of a batch."""
    target = batch.target
    shares = binarise(target.mask).float().mean((1, 2, 3))
    depths = zip(target.depth[:, 0].cpu().numpy(), target.valid[:, 0].cpu().numpy(), strict=True)
    ranges = [measure_depth_range(depth, valid) for depth, valid in depths]
    content = {"mask_share": torch.where(target.mask_known, shares, torch.nan).cpu().numpy(), "depth_range": ranges}
    for name, values in compute_full_metrics(prediction, target).items():
        content[name] = torch.where(select_images(name, target), values, torch.nan).cpu().numpy()
    return pd.DataFrame(content)


def plot_images(split: MeasuredSplit, rows: pd.DataFrame) -> Figure:
    """Plot images with true and predicted mask and depth, in the order of the rows of `measure_images`.

    The difference shown is the larger of mask error and depth error, where they are known. Depth is bright where near
    and black where unknown; an unknown true mask is mid grey.
    """
    figure = Figure(figsize=(PANEL_IN * len(COLUMNS), (PANEL_IN + 0.25) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(COLUMNS), squeeze=False)
    for axes, place, errors in zip(grid, rows.index.to_numpy(int), rows.to_dict("records"), strict=True):
        panels = render_comparison(split.pack.gather(np.array([place])), _predict(split, place)[None])[0]
        for ax, panel in zip(axes, panels, strict=True):
            _show(ax, panel)
        metrics = {"IoU": errors["iou"], "RMSE": errors["rmse_depth"]}
        values = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if pd.notna(value))
        axes[0].set_title(f"{errors['image']} on {errors['background']}: {values}", fontsize="small", loc="left")
    for ax, name in zip(grid[-1], COLUMNS, strict=True):
        ax.set_xlabel(name, fontsize="small")
    return figure


def plot_errors_by(errors: pd.DataFrame) -> Figure:
    """Plot IoU and RMSE of each image against its content, and the means of equal groups as steps."""
    figure = Figure(figsize=(4.6 * len(AXES), 3 * len(PLOTTED)), layout="constrained")
    grid = figure.subplots(len(PLOTTED), len(AXES), squeeze=False, sharex="col", sharey="row")
    for axes, name in zip(grid, PLOTTED, strict=True):
        axes[0].set_ylabel(METRICS[name].title)
        for ax, column in zip(axes, AXES, strict=True):
            ax.plot(errors[column], errors[name], ".", color="0.6", markersize=4)
            means = average_groups(errors, column)
            ax.hlines(means[name], means["least"], means["most"], colors="C3", linewidth=3)
            ax.grid(alpha=0.25)
    for ax, label in zip(grid[-1], AXES.values(), strict=True):
        ax.set_xlabel(label)
    return figure


def plot_fine_structure(split: MeasuredSplit, place: int) -> Figure:
    """Plot predicted mask and depth of one image, the crop with the strongest pattern magnified, and the pattern.

    The pattern is the part that a mean over PERIOD_PX by PERIOD_PX pixels removes. A checkerboard shows as a grid that
    continues where the image has no edges; edges show as double lines.
    """
    figure = Figure(figsize=(3 * 3.1, 2 * 3.1), layout="constrained")
    for axes, name, values in zip(figure.subplots(2, 3), TASKS, _predict(split, place), strict=True):
        pattern = values - cv2.blur(values, (PERIOD_PX, PERIOD_PX))
        top, left = _find_crop(cv2.blur(np.abs(pattern), (CROP_PX, CROP_PX)))
        crop = np.s_[top : top + CROP_PX, left : left + CROP_PX]
        most = max(float(np.abs(pattern[crop]).max()), 1e-6)
        _show(axes[0], values, title=f"predicted {name}", cmap="gray", vmin=0, vmax=1)
        _show(axes[1], values[crop], title=f"{CROP_PX} px crop with the strongest pattern", cmap="gray")
        _show(axes[2], pattern[crop], title=f"pattern in the crop, ±{most:.3f}", cmap="PuOr", vmin=-most, vmax=most)
    return figure


def _predict(split: MeasuredSplit, place: int) -> np.ndarray:
    """Return predicted mask and depth of one image of the split."""
    maps: np.ndarray = split.model.predict_squares(split.image(place)[None])[0]
    return maps


def _find_crop(strength: np.ndarray) -> tuple[int, int]:
    """Return top and left of the square of CROP_PX, inside the image, around the largest value."""
    peak, shape = np.unravel_index(strength.argmax(), strength.shape), strength.shape
    top, left = (int(np.clip(p - CROP_PX // 2, 0, max(n - CROP_PX, 0))) for p, n in zip(peak, shape, strict=True))
    return top, left


def _show(ax: Axes, image: np.ndarray, *, title: str = "", **look: Any) -> None:
    ax.imshow(image, interpolation="nearest", **look)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize="small")
