"""The model that comes out: weights, config, figures on data it never saw, and pictures to judge it by.

Owns the folder best/. Knows neither Ray nor the search.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from data.loading.loaders import Batch, Loader
from data.pack.pack import Pack
from data.pack.stats import Stats
from data.reading.depth import DepthScale
from data.runtime.progress import Progress, ShowProgress, progress_bar
from data.visualize import render_comparison, stack_rows
from models.build import build_model
from models.cost import choose_images_per_pass
from models.metrics.metrics import MetricSums, full_metrics, predict_constant
from models.network import Network
from search.config.trial import TrialConfig
from search.output.model_card import write_card
from search.records.files import write_json

SAMPLES = 8
COLUMNS = ("image", "true mask", "predicted mask", "true depth", "predicted depth", "|difference|")


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """The trained network and what it needs to be used again.

    Attributes:
        config: Its configuration.
        weights: Its state dict, on the CPU.
        stats: Normalisation of its images.
        sigma: Deviation of the validation depth; the yardstick of the score.
        px: Side of the images it was trained on.
        scale: What its depth means in metres; None where the data did not tell.
        trial_id: Its row in trials.csv.
        trained_on: Data and training in plain values, for its README; empty where that is not known.
    """

    config: TrialConfig
    weights: dict[str, torch.Tensor]
    stats: Stats
    sigma: float
    px: int
    trial_id: str
    scale: DepthScale | None = None
    trained_on: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> Network:
        """Return the network in evaluation mode."""
        model = build_model(self.config.model)
        model.load_state_dict(self.weights)
        return model.eval()


def write_best(
    winner: TrainedModel,
    folder: Path,
    splits: dict[str, Pack],
    *,
    sizes: dict[str, int],
    deadline: float | None,
    leaks: bool = False,
    more: Mapping[str, Any] = MappingProxyType({}),
    show: ShowProgress = progress_bar,
) -> dict[str, Any]:
    """Write model.safetensors, config.json, metrics.json, README.md and samples.png.

    Args:
        winner: The model.
        folder: best/ of the run folder; made here.
        splits: Packs by name ("val", "test"; test only where there is one).
        sizes: How many images each split has in all.
        deadline: Seconds since the epoch after which no further image is measured (metrics.json says how many were).
        leaks: Whether validation shares backgrounds with training (`--split random`).
        more: What metrics.json says beside the figures.
        show: What shows how far the measuring has come.

    Returns:
        The content of metrics.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_model(winner, folder)
    model = winner.model().on("cpu")
    at_once = choose_images_per_pass(winner.config.model, winner.px)
    loaders = {name: Loader(pack, batch_size=at_once, stats=winner.stats) for name, pack in splits.items()}
    share = fair_shares(deadline, 1 + len(loaders))
    metrics: dict[str, Any] = {"trial_id": winner.trial_id, "px": winner.px, "sigma_depth": winner.sigma}
    for name, loader in loaders.items():
        with show(f"measuring {winner.trial_id} on {name}") as progress:
            figures = measure(model, loader, winner.stats, winner.sigma, deadline=next(share), progress=progress)
        metrics[name] = {**figures, "of_images": sizes[name]}
    if leaks and "test" in metrics:
        both = [name for name in ("score", "iou") if name in metrics["val"] and name in metrics["test"]]
        metrics["validation_flatters_by"] = {name: metrics["val"][name] - metrics["test"][name] for name in both}
    metrics |= {**more, "note": _note(metrics, leaks, winner.stats)}
    write_json(folder / "metrics.json", metrics)
    write_card(folder)
    shown = "test" if "test" in splits else "val"
    draw_samples(model, loaders[shown], splits[shown], folder / "samples.png", deadline=next(share))
    return metrics


def _note(metrics: dict[str, Any], leaks: bool, stats: Stats) -> str:
    """Return what the reader of the figures must know, in one line; "" where nothing."""
    notes = [] if "test" in metrics else ["no test part in this data set: there are no test figures"]
    trained = {"mask": ("iou", stats.mask_known, "depth"), "depth": ("rmse_depth", stats.depth_known, "mask")}
    for task, (figure, share, other) in trained.items():
        lacking = [part for part in ("val", "test") if part in metrics and figure not in metrics[part]]
        if share and lacking:
            notes.append(f"no {task} is known in {' and '.join(lacking)}: the score there is that of the {other} alone")
    if leaks:
        notes.append("validation shares backgrounds with training (--split random) and flatters")
    if "validation_flatters_by" in metrics:
        val, test = metrics["val"]["score"], metrics["test"]["score"]
        notes[-1] += f" by {val - test:.3f}: score {val:.3f}, but {test:.3f} on backgrounds it never saw"
    return "; ".join(notes)


def save_model(winner: TrainedModel, folder: Path) -> None:
    """Write the weights and all that is needed to build and feed the network."""
    tensors = {name: tensor.contiguous() for name, tensor in winner.weights.items()}
    partial = folder / "model.safetensors.partial"
    save_file(tensors, partial, metadata={"format": "pt", "trial_id": winner.trial_id})
    partial.replace(folder / "model.safetensors")
    scale = asdict(winner.scale) if winner.scale else None
    about = {"trial_id": winner.trial_id, "px": winner.px, "sigma_depth": winner.sigma, "depth_scale": scale}
    made = {"stats": winner.stats.to_dict(), "config": winner.config.to_dict(), "trained_on": dict(winner.trained_on)}
    write_json(folder / "config.json", {**about, **made})


def measure(
    model: nn.Module,
    loader: Loader,
    stats: Stats,
    sigma: float,
    *,
    deadline: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the model's figures on a split and, beside them, those of the constant guess on the same images.

    Args:
        model: In evaluation mode, on the CPU.
        loader: Of the split.
        stats: Of the data the model was trained on; their mean depth is the constant guess.
        sigma: Deviation of the validation depth; the yardstick of the score.
        deadline: Seconds since the epoch after which no further batch is measured.
        progress: Told (images measured, images in all).
    """
    sums, images = MetricSums(full_metrics), 0
    guess, mean_depth = MetricSums(), stats.depth_mean or 0.5
    for batch, prediction in predictions(model, loader):
        sums.update(prediction, batch.target)
        guess.update(predict_constant(batch.target.mask, mean_depth), batch.target)
        images += len(batch)
        if progress:
            progress(images, loader.count)
        if deadline is not None and time.time() > deadline:
            break
    return {"images": images, **sums.compute(sigma), "constant_guess": guess.compute(sigma)}


@torch.inference_mode()
def predictions(model: nn.Module, loader: Loader) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Yield each batch with the model's prediction, float32."""
    for batch in loader.epoch(0):
        yield batch, model(batch.image.to(memory_format=torch.channels_last)).float()


def draw_samples(model: nn.Module, loader: Loader, pack: Pack, path: Path, *, deadline: float | None = None) -> None:
    """Draw image, true and predicted mask and depth, and the absolute difference, a row per sample.

    A true mask that is not known is half grey, depth that is not known black.

    Args:
        model: In evaluation mode, on the CPU.
        loader: Of the pack.
        pack: The samples; the first SAMPLES are drawn.
        path: Of the picture.
        deadline: Seconds since the epoch after which no further row is drawn; one always is.
    """
    rows: list[list[np.ndarray]] = []
    for batch, prediction in predictions(model, loader):
        raw = pack.gather(np.arange(len(rows), len(rows) + len(batch)))
        rows += render_comparison(raw, prediction.numpy())
        if len(rows) >= SAMPLES or (deadline is not None and time.time() > deadline):
            break
    partial = path.with_name("partial." + path.name)
    cv2.imwrite(str(partial), np.vstack([_header(pack.px), stack_rows(rows[:SAMPLES])])[..., ::-1])
    partial.replace(path)


def fair_shares(deadline: float | None, parts: int) -> Iterator[float | None]:
    """Yield the moment by which each of `parts` measurements should end, the last of them at `deadline`."""
    begin = time.time()
    for i in range(parts):
        yield None if deadline is None else begin + (deadline - begin) * (i + 1) / parts


def _header(px: int) -> np.ndarray:
    strip = np.full((22, px * len(COLUMNS), 3), 255, np.uint8)
    for i, name in enumerate(COLUMNS):
        size = min(0.45, px / 300)
        cv2.putText(strip, name, (i * px + 3, 15), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
