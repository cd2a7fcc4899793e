"""ResNet18 as encoder, two decoders to choose from.

Without skips the decoder is two pixel shuffles with two convolutions each, and the logits are enlarged
bilinearly: laid out so as to have the study's published count, 11,504,720 parameters at width 16 (stem and
encoder are as in its code, the decoder's convolutions were found from the count). With skips it is the
U-shaped decoder of `models.unet` with all its options.

Source: He et al. 2015, arXiv:1512.03385, table 1 (18 layers), without the 7x7 stem and its pooling.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.blocks import ConvNorm, ConvNormAct, Stem
from models.heads import Head
from models.network import Network
from models.unet import DecoderConfig, build_decoders

LAYERS = 4


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(DecoderConfig):
    """Config of `resnet18_ed`.

    Attributes:
        skips: True: the U-shaped decoder, which alone reads `upsample`, `merge`, `groups` and `decoders`.
            False: the study's, without skips.
    """

    arch: str = "resnet18_ed"
    skips: bool = False


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity, or around a strided 1x1 where the shape changes."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvNormAct(cin, cout, stride=stride), ConvNorm(cout, cout))
        same = stride == 1 and cin == cout
        self.shortcut = nn.Identity() if same else ConvNorm(cin, cout, 1, stride=stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Features at 1 / stride of the size."""
        y: Tensor = self.convs(x) + self.shortcut(x)
        return y.relu()


class PlainDecoder(nn.Module):
    """Two pixel shuffles, two convolutions after each; the last doubling is bilinear."""

    def __init__(self, cin: int, config: ResNetConfig) -> None:
        super().__init__()
        quarter, sixteenth = cin // 4, cin // 16
        self.body = nn.Sequential(
            nn.PixelShuffle(2),
            ConvNormAct(quarter, quarter),
            ConvNormAct(quarter, quarter),
            nn.PixelShuffle(2),
            ConvNormAct(sixteenth, sixteenth),
            ConvNormAct(sixteenth, sixteenth),
        )
        self.head = Head(sixteenth, config.head, scale=2 * config.stem_stride)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "b 2 H W"]:
        """Values in [0, 1]."""
        y: Tensor = self.head(self.body(features[-1]))
        return y


class ResNet18(Network):
    """Stem, four layers of two basic blocks with strides 1, 2, 2, 2, and a decoder."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config, stride=config.stem_stride * 2 ** (LAYERS - 1))
        base = 4 * config.width
        channels = [base * 2**k for k in range(LAYERS)]
        self.stem = Stem(config.width, config.stem_stride)
        self.layers = nn.ModuleList()
        for k, (cin, cout) in enumerate(zip([base, *channels], channels, strict=False)):
            blocks = BasicBlock(cin, cout, 2 if k else 1), BasicBlock(cout, cout, 1)
            self.layers.append(nn.Sequential(*blocks))
        plain = nn.ModuleList([PlainDecoder(channels[-1], config)])
        self.decoders = build_decoders(channels, config) if config.skips else plain
        self.start()

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Features of the four layers."""
        features, x = [], self.stem(image)
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features

    def decode(self, features: list[Tensor]) -> Float[Tensor, "b 2 h w"]:
        """Mask and depth in [0, 1]."""
        return torch.cat([decoder(features) for decoder in self.decoders], 1)
