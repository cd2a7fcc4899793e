"""Balances that add the losses of mask and depth: fixed, by the study's adaptive factor, or learnt."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Scalar = Float[Tensor, ""]
Shares = Float[Tensor, "2"]  # parts of a batch's images with a mask, and of those with depth, that a micro-batch holds


class Fixed(nn.Module):
    """The sum mask_weight * mask + depth."""

    def forward(self, mask: Scalar, depth: Scalar, mask_weight: float, shares: Shares) -> tuple[Scalar, Scalar]:
        """Return the sum, each task times its share, and the factor of the mask's loss."""
        return mask_weight * mask * shares[0] + depth * shares[1], torch.full_like(mask.detach(), mask_weight)


class Adaptive(nn.Module):
    """A sum in which clamp(depth / mask, 1, largest), without gradient, also multiplies the mask's loss.

    The factor is 1 if no depth is known, and has no effect if no mask is known.

    Source: the original study's adaptive loss.
    """

    def __init__(self, largest: float) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, mask: Scalar, depth: Scalar, mask_weight: float, shares: Shares) -> tuple[Scalar, Scalar]:
        """Return the sum, each task times its share, and the factor of the mask's loss."""
        ratio = depth.detach() / mask.detach().clamp_min(1e-12)
        factor = mask_weight * ratio.clamp(1, self.largest)
        return factor * mask * shares[0] + depth * shares[1], factor


class Uncertainty(nn.Module):
    """A sum in which each loss is weighted by exp(-s) plus a penalty s, the learnt log-variance of the task.

    tanh holds s within (-bound, bound); beyond a hard clamp it would get no gradient to return with. A task without
    any label adds no penalty, so its s stays.

    Source: Kendall et al. 2018, arXiv:1705.07115, equation 7, with the same form for both tasks.
    """

    def __init__(self, bound: float = 4.0) -> None:
        super().__init__()
        self.bound = bound
        self.raw = nn.Parameter(torch.zeros(2))

    def forward(self, mask: Scalar, depth: Scalar, mask_weight: float, shares: Shares) -> tuple[Scalar, Scalar]:
        """Return the sum, which may be negative, and the mask's factor relative to the depth's."""
        s = self.bound * torch.tanh(self.raw.float() / self.bound)
        mask, depth = mask * shares[0], depth * shares[1]
        total = mask_weight * (-s[0]).exp() * mask + (-s[1]).exp() * depth + (s * shares).sum()
        return total, mask_weight * (s[1] - s[0]).exp().detach()


BALANCES: dict[str, Callable[[float], nn.Module]] = {
    "fixed": lambda largest: Fixed(),
    "adaptive": Adaptive,
    "uncertainty": lambda largest: Uncertainty(),
}


def build_balance(kind: str, largest: float) -> nn.Module:
    """Build the balance named `kind`, one of `BALANCES`; `largest` is the adaptive factor's upper bound."""
    return BALANCES[kind](largest)
