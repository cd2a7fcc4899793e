"""Losses: pure functions of one value an image, and the weighted sum that returns its named parts.

Owns: pixel and structural losses of mask and depth, their mix. Must not know: any network.
Everything is computed in float32 whatever autocast says; depth is read only where it is valid, masks only of images
that have one. A task's loss is the mean over the images of a batch that have it: a batch with few masks gives them the
weight of many, so that neither task fades where the other is known more often.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.config import ConfigError, PlainConfig, check_choice
from models.losses.balance import BALANCES, build_balance
from models.losses.ssim import ms_ssim, ms_ssim_window, ssim
from models.target import Counts, Maps, PerImage, Target, Valid

PIXEL = ("l1", "mse", "bce")
STRUCTURAL = ("none", "dice", "ssim", "ms_ssim")
PROBABILITY_EPS = 1e-6


def valid_mean(values: Maps, valid: Valid) -> PerImage:
    """Mean of each image over its valid pixels; 0 (with gradient 0) where an image has none."""
    share = valid.to(values.dtype)
    return (values * share).sum((1, 2, 3)) / share.sum((1, 2, 3)).clamp_min(1)


def l1(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """Mean absolute error of each image, in [0, 1]."""
    return valid_mean((pred - target).abs(), valid)


def mse(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """Mean squared error of each image, in [0, 1]."""
    return valid_mean((pred - target).square(), valid)


def bce(pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """Mean binary cross-entropy of each image in nats; predictions are held 1e-6 away from 0 and 1."""
    p = pred.clamp(PROBABILITY_EPS, 1 - PROBABILITY_EPS)
    return valid_mean(-(target * p.log() + (1 - target) * torch.log1p(-p)), valid)


def dice(pred: Maps, target: Maps, valid: Valid, smooth: float = 1.0) -> PerImage:
    """One minus the soft Dice coefficient of each image, in [0, 1); empty against empty gives 0.

    Source: Milletari et al. 2016, arXiv:1606.04797, denominator not squared, `smooth` pixels added.
    """
    share = valid.to(pred.dtype)
    both = (pred * target * share).sum((1, 2, 3))
    sides = ((pred + target) * share).sum((1, 2, 3))
    return 1 - (2 * both + smooth) / (sides + smooth)


def filled(pred: Maps, target: Maps, valid: Valid) -> tuple[Maps, Maps]:
    """Both maps with the prediction, cut from the graph, where the truth is not known: equal, no gradient.

    A constant in both would draw edges that the scene has not.
    """
    known = pred.detach()
    return torch.where(valid, pred, known), torch.where(valid, target, known)


def structural(kind: str, pred: Maps, target: Maps, valid: Valid) -> PerImage:
    """One minus SSIM or MS-SSIM of each image, divided by its share of valid pixels: holes do not dilute it.

    Args:
        kind: `ssim` or `ms_ssim`.
        pred: In [0, 1].
        target: In [0, 1], read only where `valid`.
        valid: True where the truth is known; an image without any gives 0.

    Raises:
        ConfigError: The image is too small for MS-SSIM.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861; Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216.
    """
    similarity = ssim if kind == "ssim" else ms_ssim
    share = valid.to(pred.dtype).mean((1, 2, 3))
    value = similarity(*filled(pred, target, valid))
    return (1 - value) / share.clamp_min(1e-3) * (share > 0)


@dataclass(frozen=True, kw_only=True)
class LossConfig(PlainConfig):
    """What a trial minimises: per task alpha * pixel + (1 - alpha) * structural, then a weighted sum.

    Attributes:
        mask_pixel: `l1`, `mse` or `bce`; `depth_pixel` alike.
        mask_structural: `none`, `dice`, `ssim` or `ms_ssim`; `depth_structural` alike.
        mask_alpha: Share of the pixel loss in [0, 1] unless the structural is `none`; `depth_alpha` alike.
        mask_weight: Above 0.
        balance: `fixed`, `adaptive` (the study's) or `uncertainty`: see `models.losses.balance`.
        balance_max: At least 1; the adaptive factor's largest value.
    """

    mask_pixel: str = "bce"
    mask_structural: str = "dice"
    mask_alpha: float = 0.5
    depth_pixel: str = "l1"
    depth_structural: str = "ssim"
    depth_alpha: float = 0.5
    mask_weight: float = 1.0
    balance: str = "fixed"
    balance_max: float = 4.0

    def __post_init__(self) -> None:
        for task in ("mask", "depth"):
            check_choice(f"{task}_pixel", getattr(self, f"{task}_pixel"), PIXEL)
            check_choice(f"{task}_structural", getattr(self, f"{task}_structural"), STRUCTURAL)
            alpha = getattr(self, f"{task}_alpha")
            if not 0 <= alpha <= 1:
                raise ConfigError(f"{task}_alpha={alpha!r} must lie between 0 and 1")
        check_choice("balance", self.balance, BALANCES)
        if not self.mask_weight > 0:
            raise ConfigError(f"mask_weight={self.mask_weight!r} must be above 0")
        if not self.balance_max >= 1:
            raise ConfigError(f"balance_max={self.balance_max!r} must be at least 1")


class Losses(NamedTuple):
    """`total` is what to minimise; `parts` are its named terms, unweighted and detached."""

    total: Float[Tensor, ""]
    parts: dict[str, Tensor]


class Loss(nn.Module):
    """The loss of one `LossConfig`; a module, as the uncertainty balance has parameters to optimise."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.balance = build_balance(config.balance, config.balance_max)

    def task(
        self, task: str, pred: Maps, target: Maps, valid: Valid, images: Int[Tensor, ""]
    ) -> dict[str, Float[Tensor, ""]]:
        """Means over the `images` that have something valid, 0 without any: the task's mix and its terms."""
        pixel_kind, kind = getattr(self.config, f"{task}_pixel"), getattr(self.config, f"{task}_structural")
        images = images.clamp_min(1)
        pixel = {"l1": l1, "mse": mse, "bce": bce}[pixel_kind](pred, target, valid).sum() / images
        if kind == "none":
            return {task: pixel, f"{task}_pixel": pixel}
        per_image = dice(pred, target, valid) if kind == "dice" else structural(kind, pred, target, valid)
        alpha = getattr(self.config, f"{task}_alpha")
        other = per_image.sum() / images
        return {task: alpha * pixel + (1 - alpha) * other, f"{task}_pixel": pixel, f"{task}_structural": other}

    def forward(self, pred: Float[Tensor, "b 2 h w"], target: Target, whole: Counts | None = None) -> Losses:
        """The weighted sum and its parts.

        Args:
            pred: Mask and depth in [0, 1].
            target: True mask and depth.
            whole: Labelled images of the batch that this is a part of; the totals and parts of all its parts add up
                to those of the batch. None: this is the whole batch.
        """
        with torch.autocast(pred.device.type, enabled=False):
            known, valid, images = target.mask_valid, target.valid, target.count_labelled()
            mask, depth = torch.where(known, target.mask.float(), 0), torch.where(valid, target.depth.float(), 0)
            shares = images / (images if whole is None else whole).clamp_min(1)
            of_mask = self.task("mask", pred[:, :1].float(), mask, known, images[0])
            of_depth = self.task("depth", pred[:, 1:].float(), depth, valid, images[1])
            total, weight = self.balance(of_mask["mask"], of_depth["depth"], self.config.mask_weight, shares)
        shared = [(of_mask, shares[0]), (of_depth, shares[1]), ({"mask_factor": weight}, shares[0])]
        return Losses(total, {name: term.detach() * share for terms, share in shared for name, term in terms.items()})


def build_loss(config: LossConfig, px: int) -> Loss:
    """The loss of `config`, to be called as loss(pred, target) on maps of `px` pixels a side.

    Raises:
        ConfigError: `px` is too small for MS-SSIM.
    """
    if "ms_ssim" in (config.mask_structural, config.depth_structural):
        ms_ssim_window(px)
    return Loss(config)
