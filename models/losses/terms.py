"""Terms of the loss: functions of predicted and true maps with one value per image, and the fast SSIM they use.

Maps are in [0, 1] and float32; the truth is read only where `valid`. `models.losses.registry` names them.

SSIM filters by matrix products instead of convolutions: a Gaussian window is separable, and a filter along rows is a
product with a band matrix. The values equal those of pytorch-msssim, which computes the reported metrics (a test
compares them); on one core, forward and backward are six times (SSIM) and four times (MS-SSIM) faster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.config import TASKS
from models.target import Maps, PerImage, Valid

WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_MIN_PX = 33
PROBABILITY_EPS = 1e-6
KINDS = ("pixel", "structural")


def choose_ssim_window(px: int) -> int:
    """Return the side of SSIM's Gaussian window in pixels: 11, or the largest odd number that fits `px`."""
    return min(WINDOW, px - 1 + px % 2)


def choose_ms_ssim_window(px: int) -> int:
    """Return the side of MS-SSIM's window in pixels, for at least MS_SSIM_MIN_PX: 5 at 80 px, 9 at 160 px.

    Five scales need px > (window - 1) * 16.
    """
    largest = (px - 1) // 16 + 1
    return min(WINDOW, largest - 1 + largest % 2)


@lru_cache(maxsize=64)
def build_gaussian_band(px: int, window: int, device: torch.device) -> Float[Tensor, "px out"]:
    """Return the matrix whose product with a row of `px` values is the filtered row of px - window + 1 values."""
    offsets = torch.arange(window, device=device, dtype=torch.float32) - window // 2
    kernel = torch.exp(-offsets.square() / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()
    band = torch.zeros(px, px - window + 1, device=device)
    for column in range(px - window + 1):
        band[column : column + window, column] = kernel
    return band


def compute_local_similarity(x: Maps, y: Maps, window: int) -> tuple[PerImage, PerImage]:
    """Return SSIM and its contrast-structure factor, both in [-1, 1] and averaged over the windows of each image.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861, equations 6 and 13.
    """
    rows, columns = (build_gaussian_band(n, window, x.device) for n in x.shape[2:])
    moments = torch.cat((x, y, x * x, y * y, x * y), 1)
    mean_x, mean_y, xx, yy, xy = (rows.T @ (moments @ columns)).unbind(1)
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    contrast = (2 * (xy - product) + C2) / (xx + yy - squares + C2)
    luminance = (2 * product + C1) / (squares + C1)
    return (luminance * contrast).mean((1, 2)), contrast.mean((1, 2))


def ssim(x: Maps, y: Maps) -> PerImage:
    """Structural similarity of each pair of float32 images in [0, 1]; 1 if they are equal."""
    return compute_local_similarity(x, y, choose_ssim_window(min(x.shape[2:])))[0]


def ms_ssim(x: Maps, y: Maps) -> PerImage:
    """Structural similarity over five scales, in [0, 1], of each pair of float32 images in [0, 1].

    Negative factors are clipped to 0 and pass no gradient.

    Source: Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216, equation 7.
    """
    window = choose_ms_ssim_window(min(x.shape[2:]))
    result = torch.ones(x.shape[0], device=x.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            padding = [n % 2 for n in x.shape[2:]]
            x, y = F.avg_pool2d(x, 2, padding=padding), F.avg_pool2d(y, 2, padding=padding)
        whole, contrast = compute_local_similarity(x, y, window)
        last = scale == len(SCALE_WEIGHTS) - 1
        result = result * (whole if last else contrast).relu() ** weight
    return result


@dataclass(frozen=True)
class Term:
    """A term of the loss."""

    function: Callable[[Maps, Maps, Valid], PerImage]  # value of each image from prediction, target and valid pixels
    kind: str  # one of KINDS: the field of a loss that may name the term
    searched_for: tuple[str, ...] = TASKS  # tasks for which the search tries the term
    min_px: int = 1  # smallest side of the images


def average_valid(values: Maps, valid: Valid) -> PerImage:
    """Return the mean of each image over its valid pixels; 0 (with gradient 0) if an image has none."""
    share = valid.to(values.dtype)
    return (values * share).sum((1, 2, 3)) / share.sum((1, 2, 3)).clamp_min(1)


def l1(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """Mean absolute error of each image, in [0, 1]."""
    return average_valid((pred - target).abs(), valid)


def mse(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """Mean squared error of each image, in [0, 1]."""
    return average_valid((pred - target).square(), valid)


def bce(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """Mean binary cross-entropy of each image in nats; predictions are clipped to 1e-6 from 0 and 1."""
    p = pred.clamp(PROBABILITY_EPS, 1 - PROBABILITY_EPS)
    return average_valid(-(target * p.log() + (1 - target) * torch.log1p(-p)), valid)


def dice(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """One minus the soft Dice coefficient of each image, in [0, 1); 0 for two empty masks.

    Source: Milletari et al. 2016, arXiv:1606.04797, denominator not squared, one pixel added.
    """
    share = valid.to(pred.dtype)
    both = (pred * target * share).sum((1, 2, 3))
    sides = ((pred + target) * share).sum((1, 2, 3))
    return 1 - (2 * both + 1) / (sides + 1)


def dissimilarity(similarity: Callable[[Maps, Maps], PerImage], pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """One minus a similarity of each image, divided by its share of valid pixels.

    The division keeps missing pixels from diluting the loss. Where the truth is unknown, both maps are set to the
    detached prediction, so they are equal there and pass no gradient; filling in a constant would create edges that the
    scene does not have. An image without valid pixels gives 0.
    """
    known, share = pred.detach(), valid.to(pred.dtype).mean((1, 2, 3))
    value = similarity(torch.where(valid, pred, known), torch.where(valid, target, known))
    return (1 - value) / share.clamp_min(1e-3) * (share > 0)


def ssim_loss(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """One minus SSIM of each image: see `dissimilarity`."""
    return dissimilarity(ssim, pred, target, valid)


def ms_ssim_loss(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """One minus MS-SSIM of each image: see `dissimilarity`."""
    return dissimilarity(ms_ssim, pred, target, valid)
