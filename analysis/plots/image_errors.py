"""Measure a run's model on single images, and average the metrics over groups of images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from analysis import AnalysisError
from analysis.model import Model, load_model
from analysis.runs.files import read_json
from data.data_module import load_data_module
from data.loading.loaders import Batch, Loader
from data.pack.pack import Pack
from data.runtime.progress import progress_bar
from models.cost import choose_images_per_pass
from models.metrics.metrics import binarise, full_metrics, score, select_images
from search.output.model_folder import predict_batches

MAX_IMAGES = 2000  # of a part, the first in its nested order
DEPTH_PERCENT = (5, 95)  # percentiles of an image's pixels that bound its depth range
METRICS = ("score", "iou", "boundary_f", "mae_mask", "rmse_depth", "abs_rel", "checkerboard")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A run's model, and the images of one part of its data."""

    model: Model  # on the CPU
    pack: Pack  # at the model's size
    backgrounds: tuple[str, ...]  # of each image
    sigma: float  # standard deviation of the validation depth, which scales the run's scores

    def image(self, place: int) -> UInt8[np.ndarray, "px px 3"]:
        """Return one of the images at the model's size."""
        image: np.ndarray = self.pack.gather(np.array([place])).image[0]
        return image


def open_part(run: Path, part: str = "val", *, most: int = MAX_IMAGES) -> Part:
    """Return a run's model and a part of its data, and pack the part if it is not packed yet.

    A run reads "test" only once: look at it last, and choose nothing by it.

    Raises:
        AnalysisError: The run, its model or the part does not exist.
        DataError: The data are missing or have changed since the run.
    """
    model = load_model(run, device="cpu")
    state = read_json(Path(run) / "run.json")
    if not {"data", "seed"} <= state.keys():
        raise AnalysisError(f"{run}: run.json does not name the training data; name the folder of a finished run")
    data_module = load_data_module(state)
    sizes = data_module.sizes()
    if not sizes.get(part):
        raise AnalysisError(
            f"{run}: no part {part!r}; it has {', '.join(name for name, size in sizes.items() if size)}"
        )
    pack = data_module.pack(part, model.px, count=min(most, sizes[part]))
    background = {triplet.id: triplet.background for triplet in getattr(data_module.splits, part)}
    sigma = float(read_json(Path(run) / "best" / "config.json")["sigma_depth"])
    return Part(model=model, pack=pack, backgrounds=tuple(background[name] for name in pack.ids), sigma=sigma)


def measure_images(part: Part) -> pd.DataFrame:
    """Return a row for each image with its content and the model's metrics.

    Returns:
        `image` (its name), `background`, `mask_share` (share of true foreground; empty without a mask), `depth_range`
        (of the true relative inverse depth, from the 5th to the 95th percentile of its pixels; empty without depth),
        `score` for this image alone, and every metric of models.metrics.metrics.full_metrics, empty where the truth is
        unknown.
    """
    tables, done = [], 0
    count = choose_images_per_pass(part.model.config.model, part.pack.px)
    loader = Loader(part.pack, batch_size=count, stats=part.model.stats)
    with progress_bar("measuring images") as progress:
        for batch, prediction in predict_batches(part.model.network, loader):
            tables.append(_measure_batch(batch, prediction))
            done += len(batch)
            if progress:
                progress(done, len(part.pack))
    errors = pd.concat(tables, ignore_index=True)
    pairs = zip(errors["iou"], errors["rmse_depth"], strict=True)
    errors.insert(2, "score", [_score(iou, rmse, part.sigma) for iou, rmse in pairs])
    names = pd.DataFrame({"image": part.pack.ids, "background": part.backgrounds})
    return pd.concat([names, errors], axis=1)


def average_groups(errors: pd.DataFrame, column: str, *, groups: int = 4) -> pd.DataFrame:
    """Return means over equal groups of images, ordered by a column; images without a value are left out.

    Returns:
        `least` and `most` of the column in each group, `images`, and the means of METRICS.
    """
    known = errors[errors[column].notna()]
    if known.empty:
        return pd.DataFrame(columns=["least", "most", "images", *METRICS])
    group = pd.qcut(known[column].rank(method="first"), min(groups, len(known)), labels=False).rename("group")
    found = known.groupby(group)
    bounds = found[column].agg(least="min", most="max", images="size")
    table: pd.DataFrame = bounds.join(found[list(METRICS)].mean())
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
    depths = zip(target.depth[:, 0].numpy(), target.valid[:, 0].numpy(), strict=True)
    content = {
        "mask_share": torch.where(target.mask_known, shares, torch.nan).numpy(),
        "depth_range": [measure_depth_range(depth, valid) for depth, valid in depths],
    }
    metrics = full_metrics(prediction, target)
    for name, values in metrics.items():
        known = select_images(name, target)
        content[name] = torch.where(known, values, torch.nan).numpy()
    return pd.DataFrame(content)


def _score(iou: float, rmse: float, sigma: float) -> float:
    """Return the score of one image; nan if neither mask nor depth is known."""
    known = [None if np.isnan(value) else value for value in (iou, rmse)]
    return float("nan") if known == [None, None] else score(known[0], known[1], sigma)
