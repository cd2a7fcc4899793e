"""Building blocks shared by the networks: convolutions, stem, upsampling, padding, and the output layer.

Convolutions have no bias (a norm follows) and pad with zeros to "same" size. The stem and the upsampling layers follow
the original study and keep its parameter counts. Only `Head` maps features into [0, 1].
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from models.config import TASKS

UPSAMPLERS = ("pixel_shuffle", "conv_pixel_shuffle", "transposed", "bilinear")


def conv(
    in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Build a "same" convolution without bias; `groups` is lowered to a divisor of both numbers of channels."""
    padding = dilation * (kernel // 2)
    groups = math.gcd(groups, in_channels, out_channels)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)


class Norm(nn.BatchNorm2d):
    """Batch norm that uses its running statistics if a batch has a single value per channel (one 1x1 image)."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return normalised features."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class ConvNorm(nn.Sequential):
    """Convolution and batch norm; the activation follows after a merge."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, **options: int) -> None:
        super().__init__(conv(in_channels, out_channels, kernel, **options), Norm(out_channels))


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, **options: int) -> None:
        convolution = conv(in_channels, out_channels, kernel, **options)
        super().__init__(convolution, Norm(out_channels), nn.ReLU(inplace=True))


class Stem(nn.Sequential):
    """Three 3x3 convolutions to 1, 2 and 4 times `width` channels; the first one or two have stride 2."""

    def __init__(self, width: int, stride: int = 1) -> None:
        first, second = (2 if stride > 1 else 1), (2 if stride > 2 else 1)
        super().__init__(
            ConvNormAct(3, width, stride=first),
            ConvNormAct(width, 2 * width, stride=second),
            ConvNormAct(2 * width, 4 * width),
        )


class ChannelShuffle(nn.Module):
    """Interleave the channels of `groups` groups, so that the next grouped convolution sees all of them.

    Source: Zhang et al. 2018 (ShuffleNet), arXiv:1707.01083, section 3.1.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """With n channels per group, move channel g * n + i to i * groups + g."""
        groups = math.gcd(self.groups, x.shape[1])
        return F.channel_shuffle(x, groups) if groups > 1 else x


class UpsampleConv(nn.Sequential):
    """Double height and width, and return `out_channels` channels.

    `pixel_shuffle` has no parameters and returns in_channels / 4 channels: see `count_upsampled_channels`.
    """

    def __init__(self, kind: str, in_channels: int, out_channels: int, groups: int = 1) -> None:
        layers: dict[str, tuple[nn.Module, ...]] = {
            "pixel_shuffle": (nn.PixelShuffle(2),),
            "conv_pixel_shuffle": (ConvNormAct(in_channels, 4 * out_channels, groups=groups), nn.PixelShuffle(2)),
            "transposed": (nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),),
            "bilinear": (
                conv(in_channels, out_channels, 1),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            ),
        }
        super().__init__(*layers[kind])


def count_upsampled_channels(kind: str, in_channels: int, out_channels: int) -> int:
    """Return the number of channels after `UpsampleConv(kind, in_channels, out_channels)`."""
    return in_channels // 4 if kind == "pixel_shuffle" else out_channels


def pad_to_multiple(image: Float[Tensor, "b c h w"], multiple: int) -> Float[Tensor, "b c H W"]:
    """Repeat the last row and column until `multiple` divides both sides; [:h, :w] crops results back."""
    down, right = -image.shape[2] % multiple, -image.shape[3] % multiple
    if not (down or right):
        return image
    return F.pad(image, (0, right, 0, down), mode="replicate")


def initialise(module: nn.Module) -> None:
    """Apply He initialisation (fan out, ReLU) to every convolution, in place; norms start as the identity.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def merge(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b d h w"], how: str) -> Float[Tensor, "b e h w"]:
    """Return the ReLU of the sum (`add`) or of the concatenation (`concat`) of two maps of equal size."""
    return F.relu(a + b if how == "add" else torch.cat((a, b), 1))


PRIOR_LOGITS = {"mask": -2.0, "depth": 0.0}  # a mask covers about an eighth of an image, sigmoid(-2) = 0.12


def minmax(logits: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Scale each map so that its smallest value is 0 and its largest 1; a constant map becomes 0, not 0 / 0."""
    low = logits.amin((2, 3), keepdim=True)
    high = logits.amax((2, 3), keepdim=True)
    return (logits - low) / (high - low).clamp_min(1e-6)


class Head(nn.Module):
    """1x1 convolution to logits, which are enlarged by `scale`, shifted by the prior and mapped into [0, 1].

    The features are not negative and the convolution has no bias, as in the study, unless `bias` is true. The prior is
    fixed. Without it, training first drives all mask weights negative, because most of an image is background, and a
    small network then takes many times longer to predict any foreground. The prior does not affect `minmax`.

    Logits in half precision are first cast to float32, because bfloat16 has no number between 0.996 and 1.
    """

    offset: Tensor

    def __init__(
        self,
        in_channels: int,
        kind: str,
        *,
        outputs: tuple[str, ...] = TASKS,
        scale: int = 1,
        subpixel: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.scale = scale
        self.subpixel = subpixel and scale > 1
        self.project = nn.Conv2d(in_channels, len(outputs) * (scale**2 if self.subpixel else 1), 1, bias=bias)
        offset = torch.tensor([PRIOR_LOGITS[name] for name in outputs]).view(1, -1, 1, 1)
        self.outputs = outputs
        self.register_buffer("offset", offset)

    def set_prior(self, means: dict[str, float]) -> None:
        """Set the prior to the means of "mask" and "depth", clipped to [0.02, 0.98]; it is saved with the weights."""
        values = torch.tensor([means[name] for name in self.outputs])
        self.offset.copy_(torch.logit(values, eps=0.02).view(1, -1, 1, 1))

    def start_small(self) -> None:
        """Initialise the weights so that the logits are near the prior for all features."""
        nn.init.normal_(self.project.weight, std=0.02)

    def logits(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o H W"]:
        """Return logits at full size, in float32 or wider."""
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
