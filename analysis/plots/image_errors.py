"""Where a run's model errs: figures of single images that it was not trained on, by what is in them.

Knows the model and the images of a run; draws nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from analysis.exceptions import AnalysisError
from analysis.model import Model, load_model
from analysis.runs.run import read_json
from data.data_module import load_data_module
from data.loading.loaders import Batch, Loader
from data.pack.pack import Pack
from data.runtime.progress import progress_bar
from models.cost import choose_images_per_pass
from models.metrics.metrics import binarise, full_metrics, score, select_images
from search.output.model_folder import predictions

MOST = 2000  # images of a part, the first of its nested order
DEPTH_PERCENT = (5, 95)  # of an image's pixels, between which its depth ranges
FIGURES = ("score", "iou", "boundary_f", "mae_mask", "rmse_depth", "abs_rel", "checkerboard")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A run's model, and images of a part of its data.

    Attributes:
        model: On the CPU.
        pack: The images, at the size of the model.
        backgrounds: Of each image.
        sigma: Deviation of the validation depth, the yardstick of the run's scores.
    """

    model: Model
    pack: Pack
    backgrounds: tuple[str, ...]
    sigma: float

    def photo(self, place: int) -> UInt8[np.ndarray, "px px 3"]:
        """Return one of the images, as the model is shown it."""
        image: np.ndarray = self.pack.gather(np.array([place])).image[0]
        return image

    def predictions(self) -> Iterator[tuple[Batch, Tensor]]:
        """Yield the images in order, in batches, with what the model predicts."""
        at_once = choose_images_per_pass(self.model.config.model, self.pack.px)
        yield from predictions(self.model.network, Loader(self.pack, batch_size=at_once, stats=self.model.stats))


def open_part(run: Path, part: str = "val", *, most: int = MOST) -> Part:
    """Return a run's model and a part of its data, packed now where it is not yet.

    Args:
        run: The folder of a finished run.
        part: "val", which chose the model, "train", or "test", which a run reads but once: look at it last, and choose
            nothing by it.
        most: Images at the most.

    Raises:
        AnalysisError: No such run, model or part.
        DataError: The data are gone or have changed since.
    """
    model = load_model(run, device="cpu")
    notes = read_json(Path(run) / "run.json")
    if not {"data", "seed"} <= notes.keys():
        raise AnalysisError(f"{run}: run.json does not say what it was trained on; name the folder of a finished run")
    data_module = load_data_module(notes)
    sizes = data_module.sizes()
    if not sizes.get(part):
        raise AnalysisError(
            f"{run}: no part {part!r}; it has {', '.join(name for name, size in sizes.items() if size)}"
        )
    pack = data_module.pack(part, model.px, count=min(most, sizes[part]))
    background = {triplet.id: triplet.background for triplet in getattr(data_module.splits, part)}
    sigma = float(read_json(Path(run) / "best" / "config.json")["sigma_depth"])
    return Part(model=model, pack=pack, backgrounds=tuple(background[name] for name in pack.ids), sigma=sigma)


def image_errors(part: Part) -> pd.DataFrame:
    """Return a row for each image: what is in it, and how well the model did.

    Returns:
        `image` (its name), `background`, `mask_share` (true foreground, of the picture; empty without a mask),
        `depth_range` (of the true relative inverse depth, from the 5th to the 95th percentile of its pixels; empty
        where no depth is known), `score` as the run's but of this image alone, and every figure of
        models.metrics.full_metrics; those of what is not known are empty.
    """
    tables, done = [], 0
    with progress_bar("measuring images") as progress:
        for batch, prediction in part.predictions():
            tables.append(_figures(batch, prediction))
            done += len(batch)
            if progress:
                progress(done, len(part.pack))
    errors = pd.concat(tables, ignore_index=True)
    pairs = zip(errors["iou"], errors["rmse_depth"], strict=True)
    errors.insert(2, "score", [_score(iou, rmse, part.sigma) for iou, rmse in pairs])
    names = pd.DataFrame({"image": part.pack.ids, "background": part.backgrounds})
    return pd.concat([names, errors], axis=1)


def by_share(errors: pd.DataFrame, column: str, *, groups: int = 4) -> pd.DataFrame:
    """Return means over the images with the least of something, with more of it, and with the most, in equal groups.

    Args:
        errors: From image_errors.
        column: `mask_share`, `depth_range` or any other; images without it are left out.
        groups: How many; fewer where there are fewer images.

    Returns:
        `least` and `most` of the column in each group, `images`, and the means of FIGURES.
    """
    known = errors[errors[column].notna()]
    if known.empty:
        return pd.DataFrame(columns=["least", "most", "images", *FIGURES])
    group = pd.qcut(known[column].rank(method="first"), min(groups, len(known)), labels=False).rename("group")
    found = known.groupby(group)
    bounds = found[column].agg(least="min", most="max", images="size")
    table: pd.DataFrame = bounds.join(found[list(FIGURES)].mean())
    return table


def depth_range(depth: Float32[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"]) -> float:
    """Return how far a depth map reaches, outliers left out; nan where nothing is known."""
    if not valid.any():
        return float("nan")
    low, high = np.percentile(depth[valid], DEPTH_PERCENT)
    return float(high - low)


def _figures(batch: Batch, prediction: Tensor) -> pd.DataFrame:
    """Return a row for each image of a batch."""
    target = batch.target
    shares = binarise(target.mask).float().mean((1, 2, 3))
    depths = zip(target.depth[:, 0].numpy(), target.valid[:, 0].numpy(), strict=True)
    inside = {
        "mask_share": torch.where(target.mask_known, shares, torch.nan).numpy(),
        "depth_range": [depth_range(depth, valid) for depth, valid in depths],
    }
    figures = full_metrics(prediction, target)
    for name, values in figures.items():
        known = select_images(name, target)
        inside[name] = torch.where(known, values, torch.nan).numpy()
    return pd.DataFrame(inside)


def _score(iou: float, rmse: float, sigma: float) -> float:
    """Return the score of one image; nan where nothing of it is known."""
    known = [None if np.isnan(value) else value for value in (iou, rmse)]
    return float("nan") if known == [None, None] else score(known[0], known[1], sigma)
