"""Building blocks that more than one network uses, and the padding that lets them take any size.

Owns: conv-norm-act, the stem, channel shuffle, upsampling, weight initialisation. Must not know: configs.

Convolutions have no bias (a norm follows) and pad with zeros to "same" size. The layer lists of stem and
upsampling follow the original study, whose counts of parameters they keep.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

UPSAMPLERS = ("pixel_shuffle", "conv_pixel_shuffle", "transposed", "bilinear")


def conv(cin: int, cout: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """A "same" convolution without bias; `groups` is lowered to what divides both numbers of channels."""
    padding = dilation * (kernel // 2)
    groups = math.gcd(groups, cin, cout)
    return nn.Conv2d(cin, cout, kernel, stride, padding, dilation, groups, bias=False)


class Norm(nn.BatchNorm2d):
    """Batch norm that uses its running moments where a batch has one value a channel: one image, shrunk to 1 x 1."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalised features."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class ConvNorm(nn.Sequential):
    """Convolution and batch norm; the activation comes after a merge."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, **options: int) -> None:
        super().__init__(conv(cin, cout, kernel, **options), Norm(cout))


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, **options: int) -> None:
        super().__init__(conv(cin, cout, kernel, **options), Norm(cout), nn.ReLU(inplace=True))


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
        """With n channels a group, channel g * n + i goes to i * groups + g."""
        groups = math.gcd(self.groups, x.shape[1])
        return F.channel_shuffle(x, groups) if groups > 1 else x


class UpsampleConv(nn.Sequential):
    """Doubles height and width and gives `cout` channels.

    `pixel_shuffle` has no parameters and gives cin / 4 channels, whatever `cout`: see `upsampled_channels`.
    """

    def __init__(self, kind: str, cin: int, cout: int, groups: int = 1) -> None:
        layers: dict[str, tuple[nn.Module, ...]] = {
            "pixel_shuffle": (nn.PixelShuffle(2),),
            "conv_pixel_shuffle": (ConvNormAct(cin, 4 * cout, groups=groups), nn.PixelShuffle(2)),
            "transposed": (nn.ConvTranspose2d(cin, cout, 3, stride=2, padding=1, output_padding=1),),
            "bilinear": (
                conv(cin, cout, 1),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            ),
        }
        super().__init__(*layers[kind])


def count_upsampled_channels(kind: str, cin: int, wanted: int) -> int:
    """Channels after `UpsampleConv(kind, cin, wanted)`."""
    return cin // 4 if kind == "pixel_shuffle" else wanted


def pad_to_multiple(image: Float[Tensor, "b c h w"], multiple: int) -> Float[Tensor, "b c H W"]:
    """Repeat the last row and column until `multiple` divides both sides; crop results back with [:h, :w]."""
    down, right = -image.shape[2] % multiple, -image.shape[3] % multiple
    if not (down or right):
        return image
    return F.pad(image, (0, right, 0, down), mode="replicate")


def initialise(module: nn.Module) -> None:
    """He initialisation of every convolution (fan out, ReLU), in place; norms start as the identity.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def merge(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b d h w"], how: str) -> Float[Tensor, "b e h w"]:
    """ReLU of the sum (`add`) or of the concatenation (`concat`) of two maps of equal size."""
    return F.relu(a + b if how == "add" else torch.cat((a, b), 1))
