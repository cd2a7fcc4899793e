"""How the losses of mask and depth come into one sum: fixed, the study's adaptive factor, or learnt."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

BALANCES = ("fixed", "adaptive", "uncertainty")
Scalar = Float[Tensor, ""]
Shares = Float[Tensor, "2"]  # of a batch's images with a mask, and of those with depth: what a part of it holds


class Fixed(nn.Module):
    """mask_weight * mask + depth."""

    def forward(self, mask: Scalar, depth: Scalar, mask_weight: float, shares: Shares) -> tuple[Scalar, Scalar]:
        """The sum, each task by its share, and the factor that the mask's loss was given."""
        return mask_weight * mask * shares[0] + depth * shares[1], torch.full_like(mask.detach(), mask_weight)


class Adaptive(nn.Module):
    """The mask's loss is also multiplied by clamp(depth / mask, 1, largest), a constant to the gradient.

    Where no depth is known, that is 1; where no mask is, there is nothing to multiply.

    Source: the original study's adaptive loss.
    """

    def __init__(self, largest: float) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, mask: Scalar, depth: Scalar, mask_weight: float, shares: Shares) -> tuple[Scalar, Scalar]:
        """The sum, each task by its share, and the factor that the mask's loss was given."""
        ratio = depth.detach() / mask.detach().clamp_min(1e-12)
        factor = mask_weight * ratio.clamp(1, self.largest)
        return factor * mask * shares[0] + depth * shares[1], factor


class Uncertainty(nn.Module):
    """Each loss weighs exp(-s) and pays s, with a learnt log-variance s held within (-bound, bound) by tanh.

    A hard clamp would have no gradient to come back with. A task of which nothing is known does not pay: its s stays.

    Source: Kendall et al. 2018, arXiv:1705.07115, equation 7, both tasks with the same form.
    """

    def __init__(self, bound: float = 4.0) -> None:
        super().__init__()
        self.bound = bound
        self.raw = nn.Parameter(torch.zeros(2))

    def forward(self, mask: Scalar, depth: Scalar, mask_weight: float, shares: Shares) -> tuple[Scalar, Scalar]:
        """The sum (may be negative), each task by its share, and the mask's factor relative to the depth's."""
        s = self.bound * torch.tanh(self.raw.float() / self.bound)
        mask, depth = mask * shares[0], depth * shares[1]
        total = mask_weight * (-s[0]).exp() * mask + (-s[1]).exp() * depth + (s * shares).sum()
        return total, mask_weight * (s[1] - s[0]).exp().detach()


def build_balance(kind: str, largest: float) -> nn.Module:
    """The balance named `kind`, one of `BALANCES`; `largest` is the adaptive factor's upper bound."""
    if kind == "adaptive":
        return Adaptive(largest)
    return Uncertainty() if kind == "uncertainty" else Fixed()
