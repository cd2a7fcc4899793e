"""Metrics of mask and depth: one value an image, then averaged, so that no figure depends on the batch size.

Owns: the figures, their sums over batches, `score`. Must not know: any network or training loss.
Figures of the mask are averages over the images that have one, those of the depth over the images in which some depth
is known; they are absent when there is none.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.losses.loss import l1, mse, structural, valid_mean
from models.losses.ssim import MS_SSIM_MIN_PX
from models.metrics.checkerboard import checkerboard
from models.target import Maps, PerImage, Target, Valid

MIN_DEPTH = 0.05
BOUNDARY_TOLERANCE = 0.0075
Binary = Bool[Tensor, "b 1 h w"]
PerImageMetrics = dict[str, PerImage]


def binarise(mask: Maps) -> Binary:
    """True above 0.5."""
    return mask > 0.5


def overlap(pred: Binary, true: Binary) -> tuple[PerImage, PerImage]:
    """IoU and Dice of each image, in [0, 1]; 1 when both masks are empty."""
    both = (pred & true).sum((1, 2, 3)).float()
    sides = pred.sum((1, 2, 3)).float() + true.sum((1, 2, 3)).float()
    empty = sides == 0
    iou = torch.where(empty, 1.0, both / (sides - both).clamp_min(1))
    return iou, torch.where(empty, 1.0, 2 * both / sides.clamp_min(1))


def find_boundary(mask: Binary) -> Binary:
    """The mask's pixels with a neighbour, of eight, outside it; the picture's edge is no boundary."""
    return mask & (F.max_pool2d((~mask).float(), 3, 1, 1) > 0)


def boundary_f(pred: Binary, true: Binary, tolerance: int | None = None) -> PerImage:
    """F-measure of the boundaries of each image, in [0, 1]; 1 when neither mask has one.

    Args:
        pred: Predicted mask.
        true: True mask.
        tolerance: Pixels, in the maximum norm; by default 0.75 % of the diagonal and at least 1.

    Source: Perazzi et al. 2016 (DAVIS), doi:10.1109/CVPR.2016.85, section 3.2, by dilation, not matching.
    """
    if tolerance is None:
        tolerance = max(1, round(BOUNDARY_TOLERANCE * math.hypot(*pred.shape[-2:])))
    ours, theirs = find_boundary(pred), find_boundary(true)
    near_ours, near_theirs = (F.max_pool2d(x.float(), 2 * tolerance + 1, 1, tolerance) for x in (ours, theirs))
    n_ours, n_theirs = ours.sum((1, 2, 3)), theirs.sum((1, 2, 3))
    precision = (ours * near_theirs).sum((1, 2, 3)) / n_ours.clamp_min(1)
    recall = (theirs * near_ours).sum((1, 2, 3)) / n_theirs.clamp_min(1)
    f = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    return torch.where((n_ours == 0) & (n_theirs == 0), 1.0, f)


def rmse(pred: Maps, true: Maps, valid: Valid) -> PerImage:
    """Root of the mean squared error over valid pixels of each image, in [0, 1]."""
    return mse(pred, true, valid).sqrt()


def relative_depth_metrics(pred: Maps, true: Maps, valid: Valid) -> PerImageMetrics:
    """abs_rel, log10, silog and delta1..3 of each image, of depths clipped to at least `MIN_DEPTH`.

    silog is the standard deviation of the difference of natural logarithms.

    Source: Eigen et al. 2014, arXiv:1406.2283, section 4.1 (silog with lambda = 1, its root taken).
    """
    p, t = pred.clamp_min(MIN_DEPTH), true.clamp_min(MIN_DEPTH)
    log_ratio = (p / t).log()
    mean = valid_mean(log_ratio, valid)
    std = valid_mean((log_ratio - mean[:, None, None, None]).square(), valid).sqrt()
    figures = {
        "abs_rel": valid_mean((p - t).abs() / t, valid),
        "log10": valid_mean(log_ratio.abs(), valid) / math.log(10),
        "silog": std,
    }
    for k in (1, 2, 3):
        close = (log_ratio.abs() < k * math.log(1.25)).float()
        figures[f"delta{k}"] = valid_mean(close, valid)
    return figures


def study_metrics(pred: Float[Tensor, "b 2 h w"], target: Target) -> PerImageMetrics:
    """SSIM of the depth, and the original study's two losses of each image.

    MSE(mask) + [1 - SSIM](depth), and 0.16 L1 + 0.84 [1 - MS-SSIM] summed over both; the second is absent
    below 33 px, where MS-SSIM has no five scales.
    """
    everywhere = torch.ones_like(target.valid)
    tasks = ((pred[:, :1], target.mask, everywhere), (pred[:, 1:], target.depth, target.valid))
    depth_ssim = structural("ssim", *tasks[1])
    figures = {"ssim_depth": 1 - depth_ssim, "study_mse_ssim": mse(*tasks[0]) + depth_ssim}
    if min(pred.shape[-2:]) >= MS_SSIM_MIN_PX:
        terms = [0.16 * l1(*t) + 0.84 * structural("ms_ssim", *t) for t in tasks]
        figures["study_l1_msssim"] = terms[0] + terms[1]
    return figures


def score_metrics(pred: Float[Tensor, "b 2 h w"], target: Target) -> PerImageMetrics:
    """The cheap figures of each image, for every epoch: iou, dice, mae_mask, rmse_depth, checkerboard."""
    iou, dice = overlap(binarise(pred[:, :1]), binarise(target.mask))
    mae = (pred[:, :1] - target.mask).abs().mean((1, 2, 3))
    depth_error = rmse(pred[:, 1:], target.depth, target.valid)
    figures = {"iou": iou, "dice": dice, "mae_mask": mae, "rmse_depth": depth_error}
    return figures | {"checkerboard": checkerboard(pred)}


def full_metrics(pred: Float[Tensor, "b 2 h w"], target: Target) -> PerImageMetrics:
    """All figures of each image, for the model that is kept."""
    figures = score_metrics(pred, target)
    figures["boundary_f"] = boundary_f(binarise(pred[:, :1]), binarise(target.mask))
    figures |= relative_depth_metrics(pred[:, 1:], target.depth, target.valid)
    return figures | study_metrics(pred, target)


RELATIVE = ("abs_rel", "log10", "silog", "delta1", "delta2", "delta3")
STUDY = ("study_mse_ssim", "study_l1_msssim")
NEED_MASK = frozenset(("iou", "dice", "mae_mask", "boundary_f", *STUDY))
NEED_DEPTH = frozenset(("rmse_depth", "ssim_depth", *RELATIVE, *STUDY))
MetricFunction = Callable[[Float[Tensor, "b 2 h w"], Target], PerImageMetrics]


def select_images(figure: str, target: Target) -> Bool[Tensor, " b"]:
    """True of the images that a figure is an average over: those of which all that it needs is known."""
    known = torch.ones_like(target.mask_known)
    if figure in NEED_MASK:
        known = known & target.mask_known
    return known & target.depth_known if figure in NEED_DEPTH else known


def score(iou: float | None, rmse_depth: float | None, sigma: float) -> float:
    """Mean of the IoU and of the depth's skill 1 - RMSE / sigma, or the one that is known; 1: perfection.

    0 is a constant guess.

    Args:
        iou: Mean over images, in [0, 1], or None when no mask is known.
        rmse_depth: Mean over images, or None when no depth is known.
        sigma: Standard deviation of the validation depth, above 0.

    Raises:
        ValueError: Neither is known.
    """
    skill = None if rmse_depth is None else 1 - rmse_depth / max(sigma, 1e-6)
    known = [value for value in (iou, skill) if value is not None]
    if not known:
        raise ValueError("neither a mask nor any depth is known: there is nothing to score")
    return sum(known) / len(known)


class MetricSums:
    """Adds up per-image figures over batches; each image counts once, whatever the batches."""

    def __init__(self, metrics: MetricFunction = score_metrics) -> None:
        self.metrics = metrics
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Int[Tensor, ""]] = {}

    @torch.no_grad()
    def update(self, pred: Float[Tensor, "b 2 h w"], target: Target) -> None:
        """Add a batch; nothing is copied off its device, so that a GPU need not wait."""
        with torch.autocast(pred.device.type, enabled=False):
            depth = torch.where(target.valid, target.depth.float(), 0)
            known_depth = Target(target.mask.float(), depth, target.valid, target.mask_known)
            figures = self.metrics(pred.float(), known_depth)
        for name, values in figures.items():
            known = select_images(name, target)
            self.sums[name] = self.sums.get(name, 0) + torch.where(known, values, 0).double().sum()
            self.counts[name] = self.counts.get(name, 0) + known.sum()

    def compute(self, sigma: float) -> dict[str, float]:
        """The means over all images so far, each over those that it needs; `score` first.

        Args:
            sigma: Standard deviation of the validation depth.

        Raises:
            ValueError: No image was added, or none of whose mask or depth anything is known.
        """
        if not self.sums:
            raise ValueError("no image was measured")
        counts = {name: int(count) for name, count in self.counts.items()}
        means = {name: float(self.sums[name]) / n for name, n in counts.items() if n}
        return {"score": score(means.get("iou"), means.get("rmse_depth"), sigma), **means}


def predict_constant(mask: Maps, mean_depth: float) -> Float[Tensor, "b 2 h w"]:
    """The prediction that knows nothing: an empty mask, and `mean_depth` everywhere, for as many images as `mask`."""
    return torch.cat((torch.zeros_like(mask), torch.full_like(mask, mean_depth)), 1)
