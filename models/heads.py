"""From features to mask and depth in [0, 1]. The range of the outputs lives here and nowhere else."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.blocks import conv


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
    """1x1 convolution to logits, enlarged by `scale`, brought into [0, 1].

    Logits leave half precision before the range is applied: bfloat16 knows no number between 0.996 and 1.
    """

    def __init__(
        self, cin: int, kind: str, *, outputs: int = 2, scale: int = 1, subpixel: bool = False
    ) -> None:
        super().__init__()
        self.kind = kind
        self.scale = scale
        self.subpixel = subpixel and scale > 1
        self.project = conv(cin, outputs * (scale**2 if self.subpixel else 1), 1)

    def start_small(self) -> None:
        """Start with logits near 0: every output 0.5, whatever the features."""
        nn.init.normal_(self.project.weight, std=0.01)

    def logits(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o H W"]:
        """Real values at full size, in at least float32."""
        y = self.project(x)
        y = y.float() if y.element_size() < 4 else y
        if self.subpixel:
            return F.pixel_shuffle(y, self.scale)
        if self.scale > 1:
            return F.interpolate(y, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return y

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o H W"]:
        """Values in [0, 1]."""
        y = self.logits(x)
        return minmax(y) if self.kind == "minmax" else y.sigmoid()
