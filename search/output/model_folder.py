"""Write a model folder such as best/: weights, config, metrics on unseen data, model card and sample pictures."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from data.loading.device_loader import build_loader
from data.loading.loaders import Batch, Loader
from data.loading.visualize import render_comparison, stack_rows
from data.pack.pack import Pack
from data.pack.stats import Stats
from data.runtime.files import write_atomically
from data.runtime.progress import Progress, ShowProgress, no_progress, progress_bar
from data.values.depth import DepthScale
from models.architectures.network import Network
from models.architectures.registry import build_model
from models.cost import choose_images_per_pass, find_device
from models.metrics import MetricSums, compute_full_metrics, predict_constant
from models.score import Score
from search.config.plugins import list_plugins
from search.config.trial import TrialConfig
from search.output.model_card import write_card
from search.records.run_dir import write_json

SAMPLES = 8
COLUMNS = ("image", "true mask", "predicted mask", "true depth", "predicted depth", "mask/depth error")


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A trained network with everything needed to use it."""

    config: TrialConfig
    weights: dict[str, torch.Tensor]  # state dict on the CPU
    stats: Stats  # statistics that normalise the images
    score: Score  # computes the score from metrics
    px: int  # side of the training images
    trial_id: str  # the model's row in trials.csv
    scale: DepthScale | None = None  # conversion of depth to metres; None if the data define none
    # data and training as plain values for the model card; empty if unknown
    trained_on: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> Network:
        """Return the network in evaluation mode."""
        model = build_model(self.config.model)
        model.load_state_dict(self.weights)
        return model.eval()


def write_model_folder(
    trained: TrainedModel,
    folder: Path,
    splits: dict[str, Pack],
    *,
    sizes: dict[str, int],
    deadline: float | None,
    leaks: bool = False,
    more: Mapping[str, Any] = MappingProxyType({}),
    show: ShowProgress = progress_bar,
) -> dict[str, Any]:
    """Write model.safetensors, config.json, metrics.json, README.md, samples.png; return the content of metrics.json.

    `splits` are packs: "val", and "test" if the data have one; `sizes` counts all images of each. After `deadline`, a
    moment of time.monotonic(), no further image is measured. `leaks` is True if validation shares backgrounds with
    training (`--split random`). `more` is added to metrics.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_model(trained, folder)
    model = trained.model().move_to(device := find_device())
    size = choose_images_per_pass(trained.config.model, trained.px, device)
    loaders = {n: build_loader(p, device=device, batch_size=size, stats=trained.stats) for n, p in splits.items()}
    share = divide_time(deadline, 1 + len(loaders))
    metrics: dict[str, Any] = {"trial_id": trained.trial_id, "px": trained.px, "sigma_depth": trained.score.sigma}
    metrics["score_weights"] = dict(trained.score.weights)
    for name, loader in loaders.items():
        with show(f"measuring {trained.trial_id} on {name}") as progress:
            measured = measure(model, loader, trained.stats, trained.score, deadline=next(share), progress=progress)
        metrics[name] = {**measured, "of_images": sizes[name]}
    if leaks and "test" in metrics:
        both = [name for name in ("score", "iou") if name in metrics["val"] and name in metrics["test"]]
        metrics["validation_minus_test"] = {name: metrics["val"][name] - metrics["test"][name] for name in both}
    metrics |= {**more, "note": _note(metrics, leaks, trained.stats)}
    write_json(folder / "metrics.json", metrics)
    write_card(folder)
    shown = "test" if "test" in splits else "val"
    draw_samples(model, loaders[shown], splits[shown], folder / "samples.png", deadline=next(share))
    return metrics


def _note(metrics: dict[str, Any], leaks: bool, stats: Stats) -> str:
    """Return a line with caveats about the metrics; "" if there are none."""
    notes = [] if "test" in metrics else ["no test split in this data set: there are no test metrics"]
    trained = {"mask": ("iou", stats.mask_known, "depth"), "depth": ("rmse_depth", stats.depth_known, "mask")}
    for task, (metric, share, other) in trained.items():
        missing = [split for split in ("val", "test") if split in metrics and metric not in metrics[split]]
        if share and missing:
            notes.append(f"no {task} is known in {' and '.join(missing)}: the score there covers only the {other}")
    if leaks:
        notes.append("validation shares backgrounds with training (--split random) and is too optimistic")
    if "validation_minus_test" in metrics:
        val, test = metrics["val"]["score"], metrics["test"]["score"]
        notes[-1] += f" by {val - test:.3f}: score {val:.3f}, but {test:.3f} on unseen backgrounds"
    return "; ".join(notes)


def save_model(trained: TrainedModel, folder: Path) -> None:
    """Write model.safetensors and config.json, from which the network is rebuilt."""
    tensors = {name: tensor.contiguous() for name, tensor in trained.weights.items()}
    content = save(tensors, metadata={"format": "pt", "trial_id": trained.trial_id})
    write_atomically(folder / "model.safetensors", lambda file: file.write(content))
    scale = asdict(trained.scale) if trained.scale else None
    about = {"trial_id": trained.trial_id, "px": trained.px, "sigma_depth": trained.score.sigma, "depth_scale": scale}
    about["score_weights"] = dict(trained.score.weights)
    about |= {"stats": trained.stats.to_dict(), "config": trained.config.to_dict()}
    about |= {"trained_on": dict(trained.trained_on), "plugins": list_plugins()}
    write_json(folder / "config.json", about)


def measure(
    model: nn.Module,
    loader: Loader,
    stats: Stats,
    score: Score,
    *,
    deadline: float | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Return the metrics of a model on a split, and those of a constant guess on the same images.

    The constant guess is the mean depth of `stats` with an empty mask. After `deadline` no further batch is measured;
    `progress` is called with (images measured, images in all).
    """
    sums, images = MetricSums(score, compute_full_metrics), 0
    guess, mean_depth = MetricSums(score), stats.depth_mean or 0.5
    for batch, prediction in predict_batches(model, loader):
        sums.update(prediction, batch.target)
        guess.update(predict_constant(batch.target.mask, mean_depth), batch.target)
        images += len(batch)
        progress(images, loader.count)
        if deadline is not None and time.monotonic() > deadline:
            break
    return {"images": images, **sums.compute(), "constant_guess": guess.compute()}


@torch.inference_mode()
def predict_batches(model: nn.Module, loader: Loader) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Yield each batch with the model's prediction, float32, both on the device of the model."""
    device = next(model.parameters()).device
    for batch in loader.epoch(0):
        batch = batch.to(device)
        yield batch, model(batch.image).float()


def draw_samples(model: nn.Module, loader: Loader, pack: Pack, path: Path, *, deadline: float | None = None) -> None:
    """Draw a row for each of SAMPLES images: image, true and predicted mask and depth, the larger of their errors.

    An unknown true mask is mid grey, unknown depth is black. After `deadline` no further row is drawn, but at least one
    row always is.
    """
    rows: list[list[np.ndarray]] = []
    for batch, prediction in predict_batches(model, loader):
        raw = pack.gather(np.arange(len(rows), len(rows) + len(batch)))
        rows += render_comparison(raw, prediction.cpu().numpy())
        if len(rows) >= SAMPLES or (deadline is not None and time.monotonic() > deadline):
            break
    picture = np.vstack([_header(pack.px), stack_rows(rows[:SAMPLES])])[..., ::-1]
    content = cv2.imencode(path.suffix, picture)[1].tobytes()
    write_atomically(path, lambda file: file.write(content))


def divide_time(deadline: float | None, parts: int) -> Iterator[float | None]:
    """Yield the deadline of each of `parts` measurements, which share the time until `deadline` equally."""
    begin = time.monotonic()
    for i in range(parts):
        yield None if deadline is None else begin + (deadline - begin) * (i + 1) / parts


def _header(px: int) -> np.ndarray:
    strip = np.full((22, px * len(COLUMNS), 3), 255, np.uint8)
    for i, name in enumerate(COLUMNS):
        size = min(0.45, px / 300)
        cv2.putText(strip, name, (i * px + 3, 15), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
