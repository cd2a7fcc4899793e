"""The loss of a trial: its terms mixed for each task, the balance of mask and depth, and their sum.

Everything is computed in float32, with or without autocast. Each task's loss is averaged over the images labelled for
it, so partially labelled batches do not down-weight that task.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.config import TASKS, ConfigError
from models.losses.registry import LossConfig
from models.losses.terms import KINDS
from models.target import Counts, Maps, Target, Valid

Scalar = Float[Tensor, ""]
BOUND = 4.0  # largest magnitude of a learnt log-variance
Shares = Float[Tensor, "2"]  # a micro-batch's fractions of the batch's images with a mask and with depth


class Balance(nn.Module):
    """The sum of the mask and depth losses, each multiplied by its share, with a factor on the mask loss.

    - `fixed`: the factor is the mask's weight.
    - `adaptive`, as in the original study: the mask's weight times clamp(depth / mask, 1, largest), without gradient.
      The clamp is 1 if no depth is known, and has no effect if no mask is known.
    - `uncertainty`: each loss is weighted by exp(-s) plus a penalty s, the learnt log-variance of the task. tanh keeps
      s within (-BOUND, BOUND); a hard clamp would have no gradient beyond its limits. A task without any label adds no
      penalty, so its s does not change. The sum may be negative.

    Source: Kendall et al. 2018, arXiv:1705.07115, equation 7, with the same form for both tasks.
    """

    def __init__(self, kind: str, *, mask_weight: float, largest: float) -> None:
        super().__init__()
        self.kind, self.mask_weight, self.largest = kind, mask_weight, largest
        if kind == "uncertainty":
            self.raw = nn.Parameter(torch.zeros(2))

    def forward(self, mask: Scalar, depth: Scalar, shares: Shares) -> tuple[Scalar, Scalar]:
        """Return the sum and the factor of the mask's loss relative to the depth's."""
        if self.kind == "uncertainty":
            s = BOUND * torch.tanh(self.raw.float() / BOUND)
            mask, depth = mask * shares[0], depth * shares[1]
            total = self.mask_weight * (-s[0]).exp() * mask + (-s[1]).exp() * depth + (s * shares).sum()
            return total, self.mask_weight * (s[1] - s[0]).exp().detach()
        factor = torch.full_like(mask.detach(), self.mask_weight)
        if self.kind == "adaptive":
            factor = self.mask_weight * (depth.detach() / mask.detach().clamp_min(1e-12)).clamp(1, self.largest)
        return factor * mask * shares[0] + depth * shares[1], factor


class Losses(NamedTuple):
    """The losses of a batch, or of a micro-batch, whose losses add up to those of its batch.

    `total` is the value to minimise. `parts` are detached: the mixed loss of each task before the balance ("mask",
    "depth"), its terms ("mask_pixel", "mask_structural"), and the factor of the balance on the mask ("mask_factor"),
    each multiplied by the micro-batch's share of the labelled images.
    """

    total: Scalar
    parts: dict[str, Scalar]


class Loss(nn.Module):
    """The loss of one `LossConfig`; a module, because the uncertainty balance has parameters to optimise."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.balance = Balance(config.balance, mask_weight=config.mask_weight, largest=config.balance_max)

    def compute_task(
        self, task: str, pred: Maps, target: Maps, valid: Valid, images: Int[Tensor, ""]
    ) -> dict[str, Scalar]:
        """Return the task's mixed loss and its terms, as means over the `images` with valid pixels; 0 without any."""
        pixel_term, structural_term = self.config.get_terms(task)
        images = images.clamp_min(1)
        pixel = pixel_term.function(pred, target, valid).sum() / images
        if structural_term is None:
            return {task: pixel, f"{task}_pixel": pixel}
        alpha = getattr(self.config, f"{task}_alpha")
        other = structural_term.function(pred, target, valid).sum() / images
        return {task: alpha * pixel + (1 - alpha) * other, f"{task}_pixel": pixel, f"{task}_structural": other}

    def forward(self, pred: Float[Tensor, "b 2 h w"], target: Target, whole: Counts | None = None) -> Losses:
        """Return the weighted sum and its parts, from mask and depth in [0, 1].

        `whole` counts the labelled images of the whole batch if `pred` is one of its micro-batches: their losses then
        add up to those of the batch. None means that `pred` is the whole batch.
        """
        with torch.autocast(pred.device.type, enabled=False):
            known, valid, images = target.mask_valid, target.valid, target.count_labelled()
            mask, depth = torch.where(known, target.mask.float(), 0), torch.where(valid, target.depth.float(), 0)
            shares = images / (images if whole is None else whole).clamp_min(1)
            of_mask = self.compute_task("mask", pred[:, :1].float(), mask, known, images[0])
            of_depth = self.compute_task("depth", pred[:, 1:].float(), depth, valid, images[1])
            total, factor = self.balance(of_mask["mask"], of_depth["depth"], shares)
        shared = [(of_mask, shares[0]), (of_depth, shares[1]), ({"mask_factor": factor}, shares[0])]
        return Losses(total, {name: term.detach() * share for terms, share in shared for name, term in terms.items()})


def build_loss(config: LossConfig, px: int) -> Loss:
    """Build a loss for `px` pixels, called with (pred, target); raise ConfigError if a term needs larger maps."""
    for task in TASKS:
        for kind, term in zip(KINDS, config.get_terms(task), strict=True):
            if term and px < term.min_px:
                field = f"{task}_{kind}"
                name = getattr(config, field)
                raise ConfigError(f"{field}={name} needs at least {term.min_px} px a side, not {px}; use another term")
    return Loss(config)
