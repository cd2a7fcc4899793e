"""`resnet18_ed`: a ResNet18 encoder with one of two decoders.

Without skips the decoder is two pixel shuffles with two convolutions each, and the logits are enlarged bilinearly. It
has the study's published count of 11,504,720 parameters at width 16: stem and encoder are as in its code, the
decoder's convolutions were inferred from the count. With skips it is the U-shaped decoder of `unet`.

Source: He et al. 2015, arXiv:1512.03385, table 1 (18 layers), without the 7x7 stem and its pooling.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from models.architectures.blocks import ConvNorm, ConvNormAct, Head, Stem
from models.architectures.network import Architecture, Network
from models.architectures.unet import DECODER_CHOICES, LIGHTEST_DECODER, DecoderConfig, build_decoders
from models.config import STEM_STRIDES, OnlyIf

LAYERS = 4


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(DecoderConfig):
    """Config of `resnet18_ed`."""

    arch: str = "resnet18_ed"
    # True selects the U-shaped decoder, the only one that reads `upsample`, `merge`, `groups` and `decoders`;
    # False selects the study's, without skips
    skips: bool = False


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity, or around a strided 1x1 if the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvNormAct(in_channels, out_channels, stride=stride), ConvNorm(out_channels, out_channels)
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else ConvNorm(in_channels, out_channels, 1, stride=stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return features at 1 / stride of the size."""
        y: Tensor = self.convs(x) + self.shortcut(x)
        return y.relu()


class PlainDecoder(nn.Module):
    """Two pixel shuffles, two convolutions after each; the last doubling is bilinear."""

    def __init__(self, in_channels: int, config: ResNetConfig) -> None:
        super().__init__()
        quarter, sixteenth = in_channels // 4, in_channels // 16
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
        """Return values in [0, 1]."""
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
        for k, (before, after) in enumerate(zip([base, *channels], channels, strict=False)):
            blocks = BasicBlock(before, after, 2 if k else 1), BasicBlock(after, after, 1)
            self.layers.append(nn.Sequential(*blocks))
        plain = nn.ModuleList([PlainDecoder(channels[-1], config)])
        self.decoders = build_decoders(channels, config) if config.skips else plain
        self.start()

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the features of the four layers."""
        features, x = [], self.stem(image)
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features


RESNET18_ED = Architecture(
    config=ResNetConfig,
    network=ResNet18,
    choices={
        "width": (4, 8, 16),  # the study: 16; a ResNet18 of the usual width 64 is four times our 16
        "stem_stride": STEM_STRIDES,  # 1: the study; 2: half the resolution, four times as many images per second
        "skips": (False, True),
        **{name: OnlyIf("skips", True, values) for name, values in DECODER_CHOICES.items()},
    },
    fixed=("head",),  # minmax forces a foreground into every image: score 0.17 instead of 0.48 on real composites
    decoder_fields=("head", "skips", *DECODER_CHOICES),
    lightest={"skips": True, **LIGHTEST_DECODER},
)
