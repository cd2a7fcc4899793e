"""The output layer: maps features to mask and depth, and is the only place that brings them into [0, 1]."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.architectures.blocks import conv

OUTPUTS = ("mask", "depth")
PRIOR_LOGITS = {"mask": -2.0, "depth": 0.0}  # a mask covers about an eighth of an image, sigmoid(-2) = 0.12


def minmax(logits: Float[Tensor, "b c h w"], eps: float = 1e-6) -> Float[Tensor, "b c h w"]:
    """Scale each map so that its smallest value is 0 and its largest 1; a constant map becomes 0, not 0 / 0.

    Args:
        logits: Any real values.
        eps: Lower bound of the divisor.
    """
    low = logits.amin((2, 3), keepdim=True)
    high = logits.amax((2, 3), keepdim=True)
    return (logits - low) / (high - low).clamp_min(eps)


class Head(nn.Module):
    """1x1 convolution to logits, which are enlarged by `scale`, shifted by the prior and mapped into [0, 1].

    The features are not negative and the convolution has no bias, as in the study. Without the fixed prior all weights
    of the mask fall below 0 first, because most of the image is background, and a small network then takes many times
    longer to predict any foreground. `minmax` is not affected by the prior.

    Logits are cast from half precision first: bfloat16 has no number between 0.996 and 1.
    """

    offset: Tensor

    def __init__(
        self,
        in_channels: int,
        kind: str,
        *,
        outputs: tuple[str, ...] = OUTPUTS,
        scale: int = 1,
        subpixel: bool = False,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.scale = scale
        self.subpixel = subpixel and scale > 1
        self.project = conv(in_channels, len(outputs) * (scale**2 if self.subpixel else 1), 1)
        offset = torch.tensor([PRIOR_LOGITS[name] for name in outputs]).view(1, -1, 1, 1)
        self.outputs = outputs
        self.register_buffer("offset", offset)

    def set_prior(self, means: dict[str, float]) -> None:
        """Start from the mean of each output over the training data; the offset is saved with the weights.

        Args:
            means: Mean of "mask" and "depth", each clipped to 0.02 and 0.98.
        """
        values = torch.tensor([means[name] for name in self.outputs])
        self.offset.copy_(torch.logit(values, eps=0.02).view(1, -1, 1, 1))

    def start_small(self) -> None:
        """Start with logits near the prior for all features."""
        nn.init.normal_(self.project.weight, std=0.02)

    def logits(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o H W"]:
        """Return real values at full size, in at least float32."""
        y: Tensor = self.project(x)
        y = y.float() if y.element_size() < 4 else y
        if self.subpixel:
            y = F.pixel_shuffle(y, self.scale)
        elif self.scale > 1:
            y = F.interpolate(y, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return y + self.offset.to(y.dtype)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o H W"]:
        """Return values in [0, 1]."""
        y = self.logits(x)
        return minmax(y) if self.kind == "minmax" else y.sigmoid()
