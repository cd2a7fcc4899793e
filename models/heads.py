"""From features to mask and depth in [0, 1]. The range of the outputs lives here and nowhere else."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.blocks import conv

OUTPUTS = ("mask", "depth")
PRIOR_LOGITS = {"mask": -2.0, "depth": 0.0}  # a mask covers about an eighth of a picture, sigmoid(-2) = 0.12


def minmax(logits: Float[Tensor, "b c h w"], eps: float = 1e-6) -> Float[Tensor, "b c h w"]:
    """Scale each map so that its smallest value is 0 and its largest 1; a constant map gives 0, not 0 / 0.

    Args:
        logits: Any real values.
        eps: Smallest range that is divided by.
    """
    low = logits.amin((2, 3), keepdim=True)
    high = logits.amax((2, 3), keepdim=True)
    return (logits - low) / (high - low).clamp_min(eps)


class Head(nn.Module):
    """1x1 convolution to logits, enlarged by `scale`, moved to the prior, brought into [0, 1].

    The features are not negative and the convolution has, as in the study, no bias: without the fixed prior every
    weight of the mask first falls below 0, where the background is most of the picture, and a small network then
    needs many times longer to say "foreground" at all. `minmax` is blind to it.

    Logits leave half precision before the range is applied: bfloat16 knows no number between 0.996 and 1.
    """

    offset: Tensor

    def __init__(
        self,
        cin: int,
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
        self.project = conv(cin, len(outputs) * (scale**2 if self.subpixel else 1), 1)
        offset = torch.tensor([PRIOR_LOGITS[name] for name in outputs]).view(1, -1, 1, 1)
        self.outputs = outputs
        self.register_buffer("offset", offset)

    def set_prior(self, means: dict[str, float]) -> None:
        """Start from the mean value of each output over the training data; the offset is kept with the weights.

        Args:
            means: Mean of "mask" and "depth", each held within 0.02 and 0.98.
        """
        values = torch.tensor([means[name] for name in self.outputs])
        self.offset.copy_(torch.logit(values, eps=0.02).view(1, -1, 1, 1))

    def start_small(self) -> None:
        """Start with logits near the prior, whatever the features."""
        nn.init.normal_(self.project.weight, std=0.02)

    def logits(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o H W"]:
        """Real values at full size, in at least float32."""
        y: Tensor = self.project(x)
        y = y.float() if y.element_size() < 4 else y
        if self.subpixel:
            y = F.pixel_shuffle(y, self.scale)
        elif self.scale > 1:
            y = F.interpolate(y, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return y + self.offset.to(y.dtype)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o H W"]:
        """Values in [0, 1]."""
        y = self.logits(x)
        return minmax(y) if self.kind == "minmax" else y.sigmoid()
