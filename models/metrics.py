"""Metrics of mask and depth: one value per image, then averaged, so that no metric depends on the batch size.

Metrics of the mask are averages over the images with a known mask, those of the depth over the images with some known
depth; a metric is absent if there are none. IoU, Dice and boundary F are averages over images that have foreground,
because an empty prediction of an empty mask would count as perfect; `false_area` covers the images without foreground.
pytorch-msssim computes the reported SSIM and MS-SSIM.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import lru_cache, partial

import pytorch_msssim
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.losses.terms import (
    MS_SSIM_MIN_PX,
    average_valid,
    choose_ms_ssim_window,
    choose_ssim_window,
    dissimilarity,
    l1,
    mse,
)
from models.metric_table import METRICS
from models.score import Score
from models.target import Maps, PerImage, Target, Valid

MIN_DEPTH = 0.05
BOUNDARY_TOLERANCE = 0.0075
RELATIVE = ("abs_rel", "log10", "silog", "delta1", "delta2", "delta3")
EXTRA = ("boundary_f", *RELATIVE)  # metrics that are measured each epoch only if the score needs them
Binary = Bool[Tensor, "b 1 h w"]
PerImageMetrics = dict[str, PerImage]


def binarise(mask: Maps) -> Binary:
    """Return True where a value exceeds 0.5."""
    return mask > 0.5


def overlap(pred: Binary, true: Binary) -> tuple[PerImage, PerImage]:
    """IoU and Dice of each image, in [0, 1]; 1 if both masks are empty."""
    both = (pred & true).sum((1, 2, 3)).float()
    sides = pred.sum((1, 2, 3)).float() + true.sum((1, 2, 3)).float()
    empty = sides == 0
    iou = torch.where(empty, 1.0, both / (sides - both).clamp_min(1))
    return iou, torch.where(empty, 1.0, 2 * both / sides.clamp_min(1))


def find_boundary(mask: Binary) -> Binary:
    """Return the mask's pixels with one of their eight neighbours outside it; the image's edge is no boundary."""
    return mask & (F.max_pool2d((~mask).float(), 3, 1, 1) > 0)


def boundary_f(pred: Binary, true: Binary, tolerance: int | None = None) -> PerImage:
    """F-measure of the boundaries of each image, in [0, 1]; 1 if neither mask has one.

    `tolerance` is in pixels, in the maximum norm; by default 0.75 % of the diagonal and at least 1.

    Source: Perazzi et al. 2016 (DAVIS), doi:10.1109/CVPR.2016.85, section 3.2, by dilation instead of matching.
    """
    if tolerance is None:
        tolerance = max(1, round(BOUNDARY_TOLERANCE * math.hypot(*pred.shape[-2:])))
    edges, true_edges = find_boundary(pred), find_boundary(true)
    near, near_true = (F.max_pool2d(x.float(), 2 * tolerance + 1, 1, tolerance) for x in (edges, true_edges))
    count, true_count = edges.sum((1, 2, 3)), true_edges.sum((1, 2, 3))
    precision = (edges * near_true).sum((1, 2, 3)) / count.clamp_min(1)
    recall = (true_edges * near).sum((1, 2, 3)) / true_count.clamp_min(1)
    f = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    return torch.where((count == 0) & (true_count == 0), 1.0, f)


def rmse(pred: Maps, true: Maps, valid: Valid) -> PerImage:
    """Root of the mean squared error over valid pixels of each image, in [0, 1]."""
    return mse(pred, true, valid).sqrt()


def compute_relative_depth_metrics(pred: Maps, true: Maps, valid: Valid) -> PerImageMetrics:
    """Return abs_rel, log10, silog and delta1..3 of each image, for depths clipped to at least `MIN_DEPTH`.

    silog is the std of the difference of natural logarithms.

    Source: Eigen et al. 2014, arXiv:1406.2283, section 4.1 (silog with lambda = 1, its root taken).
    """
    p, t = pred.clamp_min(MIN_DEPTH), true.clamp_min(MIN_DEPTH)
    log_ratio = (p / t).log()
    mean = average_valid(log_ratio, valid)
    metrics = {
        "abs_rel": average_valid((p - t).abs() / t, valid),
        "log10": average_valid(log_ratio.abs(), valid) / math.log(10),
        "silog": average_valid((log_ratio - mean[:, None, None, None]).square(), valid).sqrt(),
    }
    for k in (1, 2, 3):
        metrics[f"delta{k}"] = average_valid((log_ratio.abs() < k * math.log(1.25)).float(), valid)
    return metrics


def compute_reported_ssim(x: Maps, y: Maps) -> PerImage:
    """Return SSIM of each pair of float32 images in [0, 1] by pytorch-msssim; below 11 px its window is smaller."""
    window = choose_ssim_window(min(x.shape[2:]))
    values: PerImage = pytorch_msssim.ssim(x, y, data_range=1, size_average=False, win_size=window)
    return values


def compute_reported_ms_ssim(x: Maps, y: Maps) -> PerImage:
    """Return MS-SSIM of each pair of float32 images in [0, 1] by pytorch-msssim, with the largest window that fits."""
    window = choose_ms_ssim_window(min(x.shape[2:]))
    values: PerImage = pytorch_msssim.ms_ssim(x, y, data_range=1, size_average=False, win_size=window)
    return values


def compute_study_metrics(pred: Float[Tensor, "b 2 h w"], target: Target) -> PerImageMetrics:
    """Return SSIM of the depth, and the original study's two losses of each image.

    The losses are MSE(mask) + [1 - SSIM](depth), and 0.16 L1 + 0.84 [1 - MS-SSIM] summed over both tasks; the second is
    absent below 33 px, which is too small for five scales. They cover the known pixels only (see `dissimilarity`).
    """
    tasks = ((pred[:, :1], target.mask, target.mask_valid), (pred[:, 1:], target.depth, target.valid))
    depth_loss = dissimilarity(compute_reported_ssim, *tasks[1])
    metrics = {"ssim_depth": 1 - depth_loss, "study_mse_ssim": mse(*tasks[0]) + depth_loss}
    if min(pred.shape[-2:]) >= MS_SSIM_MIN_PX:
        terms = [0.16 * l1(*task) + 0.84 * dissimilarity(compute_reported_ms_ssim, *task) for task in tasks]
        metrics["study_l1_msssim"] = terms[0] + terms[1]
    return metrics


def compute_score_metrics(
    pred: Float[Tensor, "b 2 h w"], target: Target, needed: Collection[str] = ()
) -> PerImageMetrics:
    """Return the cheap metrics of each image, for every epoch, and those of EXTRA that are `needed`.

    `false_area` is the predicted foreground as a share of the image, for images without foreground.
    """
    known = target.mask_valid
    pred_mask, true_mask = binarise(pred[:, :1]) & known, binarise(target.mask) & known
    iou, dice = overlap(pred_mask, true_mask)
    found = {
        "iou": iou,
        "dice": dice,
        "mae_mask": l1(pred[:, :1], target.mask, known),
        "false_area": pred_mask.float().mean((1, 2, 3)),
        "rmse_depth": rmse(pred[:, 1:], target.depth, target.valid),
        "checkerboard": checkerboard(pred),
    }
    if "boundary_f" in needed:
        found["boundary_f"] = boundary_f(pred_mask, true_mask)
    if not set(RELATIVE).isdisjoint(needed):
        found |= compute_relative_depth_metrics(pred[:, 1:], target.depth, target.valid)
    return found


def compute_full_metrics(pred: Float[Tensor, "b 2 h w"], target: Target) -> PerImageMetrics:
    """Return all metrics of each image, for the final model."""
    return {**compute_score_metrics(pred, target, EXTRA), **compute_study_metrics(pred, target)}


MetricFunction = Callable[[Float[Tensor, "b 2 h w"], Target], PerImageMetrics]


def select_images(metric: str, target: Target) -> Bool[Tensor, " b"]:
    """Return True for the images that a metric is averaged over: those with all the labels that it needs."""
    about, known = METRICS[metric], torch.ones_like(target.mask_known)
    if "mask" in about.needs:
        known = known & target.mask_known
    if "depth" in about.needs:
        known = known & target.depth_known
    return known if about.foreground is None else known & (target.has_foreground == about.foreground)


class MetricSums:
    """Sums of per-image metrics over batches; each image counts once, however it is batched."""

    def __init__(self, score: Score, metrics: MetricFunction | None = None) -> None:
        self.score, self.metrics = score, metrics or partial(compute_score_metrics, needed=score.weights)
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Int[Tensor, ""]] = {}

    @torch.no_grad()
    def update(self, pred: Float[Tensor, "b 2 h w"], target: Target) -> None:
        """Add a batch; no values are copied from its device, so a GPU need not wait."""
        with torch.autocast(pred.device.type, enabled=False):
            depth = torch.where(target.valid, target.depth.float(), 0)
            as_float = replace(target, mask=target.mask.float(), depth=depth)
            metrics = self.metrics(pred.float(), as_float)
        for name, values in metrics.items():
            known = select_images(name, target)
            self.sums[name] = self.sums.get(name, 0) + torch.where(known, values, 0).double().sum()
            self.counts[name] = self.counts.get(name, 0) + known.sum()

    def compute(self) -> dict[str, float]:
        """Return the means over images with the required labels, `score` first; raise ValueError if there are none."""
        if not self.sums:
            raise ValueError("no image was measured")
        counts = {name: int(count) for name, count in self.counts.items()}
        means = {name: float(self.sums[name]) / n for name, n in counts.items() if n}
        return {"score": self.score.compute(means), **means}


def predict_constant(mask: Maps, mean_depth: float) -> Float[Tensor, "b 2 h w"]:
    """Return the baseline prediction, an empty mask and `mean_depth` everywhere, for as many images as `mask` has."""
    return torch.cat((torch.zeros_like(mask), torch.full_like(mask, mean_depth)), 1)


WINDOW = 16  # pixels: resolves the four frequencies, and detects a pattern that covers only part of an outline
LINES = 16  # rows and columns that are read; reading all would cost four times as much for a change of a tenth


@lru_cache(maxsize=8)
def build_waves(device: torch.device) -> Float[Tensor, "window parts"]:
    """Return cosines, then sines, of periods 8, 4, 8/3 and 2 pixels under a Hann window that sums to 1."""
    n = torch.arange(WINDOW, device=device, dtype=torch.float32)
    phase = 2 * torch.pi * n[:, None] * torch.tensor([1 / 8, 1 / 4, 3 / 8, 1 / 2], device=device)
    hann = (1 - torch.cos(2 * torch.pi * n / WINDOW)) / WINDOW
    return torch.cat((phase.cos(), phase.sin()), 1) * hann[:, None]


def cut_row_windows(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c n window"]:
    """Return stretches of `WINDOW` pixels of every n-th row; n is odd, which covers all phases of periods 2 and 4."""
    height, width = maps.shape[2:]
    return maps[:, :, :: height // LINES | 1, : width - width % WINDOW].reshape(*maps.shape[:2], -1, WINDOW)


def checkerboard(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Strength of the patterns of period 2 and 4 in each image, as their std in the unit of the maps.

    It is the power at these periods beyond that at the neighbouring periods 8 and 8/3: the spectrum of a scene,
    including edges, falls with the frequency, and only a pattern makes it rise again. A smooth map, a sharp outline or
    blocks of repeated pixels give 0, a black and white checkerboard gives 0.5, and stripes give 0.35. Patterns weaker
    than 0.01 are hidden by outlines. The maps are predictions of at least 16 px a side; the mean over channels is
    taken.

    Source: Odena et al. 2016, doi:10.23915/distill.00003, for the artefact; the metric is this project's.
    """
    maps = maps.float()
    windows = torch.cat((cut_row_windows(maps), cut_row_windows(maps.transpose(2, 3))), 2)
    parts = (windows @ build_waves(maps.device)).square().mean(2)
    eighth, quarter, three_eighths, half = (parts[..., :4] + parts[..., 4:]).unbind(2)
    at_four = 2 * (quarter - (eighth * three_eighths).sqrt()).clamp_min(0)  # half of a wave's power lies at -1 / 4
    at_two = (half - three_eighths).clamp_min(0)
    return (at_four + at_two).sqrt().mean(1)
