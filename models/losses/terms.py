"""Terms of the loss: pure functions of predicted and true maps with one value per image.

Maps are in [0, 1] and float32; the truth is read only where `valid`. `models.losses.loss` names the terms of a config.
"""

from collections.abc import Callable

import torch

from models.losses.ssim import ms_ssim, ssim
from models.target import Maps, PerImage, Valid

PROBABILITY_EPS = 1e-6


def valid_mean(values: Maps, valid: Valid) -> PerImage:
    """Return the mean of each image over its valid pixels; 0 (with gradient 0) if an image has none."""
    share = valid.to(values.dtype)
    return (values * share).sum((1, 2, 3)) / share.sum((1, 2, 3)).clamp_min(1)


def l1(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """Mean absolute error of each image, in [0, 1]."""
    return valid_mean((pred - target).abs(), valid)


def mse(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """Mean squared error of each image, in [0, 1]."""
    return valid_mean((pred - target).square(), valid)


def bce(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """Mean binary cross-entropy of each image in nats; predictions are clipped to 1e-6 from 0 and 1."""
    p = pred.clamp(PROBABILITY_EPS, 1 - PROBABILITY_EPS)
    return valid_mean(-(target * p.log() + (1 - target) * torch.log1p(-p)), valid)


def dice(pred: Maps, target: Maps, valid: Valid, smooth: float = 1.0) -> PerImage:
    """One minus the soft Dice coefficient of each image, in [0, 1); 0 for two empty masks.

    Source: Milletari et al. 2016, arXiv:1606.04797, denominator not squared, `smooth` pixels added.
    """
    share = valid.to(pred.dtype)
    both = (pred * target * share).sum((1, 2, 3))
    sides = ((pred + target) * share).sum((1, 2, 3))
    return 1 - (2 * both + smooth) / (sides + smooth)


def dissimilarity(similarity: Callable[[Maps, Maps], PerImage], pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """One minus a similarity of each image, divided by its share of valid pixels, so that holes do not dilute it.

    Both maps get the detached prediction where the truth is unknown: they are equal there and pass no gradient. A
    constant in both would draw edges that the scene does not have. An image without valid pixels gives 0.
    """
    known, share = pred.detach(), valid.to(pred.dtype).mean((1, 2, 3))
    value = similarity(torch.where(valid, pred, known), torch.where(valid, target, known))
    return (1 - value) / share.clamp_min(1e-3) * (share > 0)


def ssim_loss(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """One minus SSIM of each image: see `dissimilarity`.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """
    return dissimilarity(ssim, pred, target, valid)


def ms_ssim_loss(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """One minus MS-SSIM of each image: see `dissimilarity`.

    Raises:
        ConfigError: The images are too small for five scales.

    Source: Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216.
    """
    return dissimilarity(ms_ssim, pred, target, valid)
