"""The study's UNet-like network, what it wished for as options, and the decoder that `resnet18_ed` shares.

An encoder block runs three dilated paths and a 1x1 in parallel; the decoder upsamples by pixel shuffle and
concatenates 1x1-projected skips: the layers of the study's code, and its 2,317,200 parameters at width 16.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.blocks import (
    UPSAMPLERS,
    ChannelShuffle,
    ConvNorm,
    ConvNormAct,
    Stem,
    UpsampleConv,
    count_upsampled_channels,
    merge,
)
from models.config import ConfigError, ModelConfig, check_choice
from models.heads import OUTPUTS, Head
from models.network import Network

MERGES = ("concat", "add")
DECODERS = ("shared", "separate")
BLOCKS = ("dilated", "plain")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(ModelConfig):
    """What the U-shaped decoder can be told.

    Attributes:
        upsample: `pixel_shuffle` (the study's), `conv_pixel_shuffle`, `transposed`, `bilinear`.
        merge: How a skip joins: `concat` (the study's) or `add`.
        groups: Groups of the decoder's convolutions, with a channel shuffle between them.
        decoders: `shared` for mask and depth, or `separate`.
    """

    upsample: str = "pixel_shuffle"
    merge: str = "concat"
    groups: int = 1
    decoders: str = "shared"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("upsample", self.upsample, UPSAMPLERS)
        check_choice("merge", self.merge, MERGES)
        check_choice("groups", self.groups, (1, 2, 4, 8))
        check_choice("decoders", self.decoders, DECODERS)


@dataclass(frozen=True, kw_only=True)
class UNetConfig(DecoderConfig):
    """Config of `unet`.

    Attributes:
        levels: How often the encoder halves the size after the stem: 3 (the study's), 4 or 5.
        block: `dilated`: three parallel dilated paths (the study's); `plain`: two 3x3 convolutions.
        dilations: Of the three parallel paths; `plain` ignores them.
    """

    arch: str = "unet"
    levels: int = 3
    block: str = "dilated"
    dilations: tuple[int, ...] = (1, 2, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("levels", self.levels, (3, 4, 5))
        check_choice("block", self.block, BLOCKS)
        if len(self.dilations) != 3 or any(not isinstance(d, int) or d < 1 for d in self.dilations):
            raise ConfigError(f"dilations={list(self.dilations)!r} must be three whole numbers of at least 1")


class DilatedBlock(nn.Module):
    """Halves the size: a strided 1x1 and three dilated paths, a quarter of the channels each."""

    def __init__(self, cin: int, cout: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        quarter = cout // 4
        self.direct = ConvNorm(cin, quarter, 1, stride=2)
        self.paths = nn.ModuleList(
            nn.Sequential(ConvNormAct(cin, quarter, stride=2, dilation=d), ConvNorm(quarter, quarter, dilation=d))
            for d in dilations
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Features of half the height and width."""
        return torch.cat([self.direct(x), *(path(x) for path in self.paths)], 1).relu()


def build_plain_block(cin: int, cout: int) -> nn.Sequential:
    """Halves the size: two 3x3 convolutions, the first with stride 2."""
    return nn.Sequential(ConvNormAct(cin, cout, stride=2), ConvNormAct(cout, cout))


class DecoderLevel(nn.Module):
    """Upsample, two 3x3 convolutions, merge with the projected skip."""

    def __init__(self, cin: int, skip: int, config: DecoderConfig) -> None:
        super().__init__()
        mid = skip // 2 if config.merge == "concat" else skip
        groups = config.groups
        self.merge = config.merge
        self.up = UpsampleConv(config.upsample, cin, mid, groups)
        self.convs = nn.Sequential(
            ConvNormAct(count_upsampled_channels(config.upsample, cin, mid), mid, groups=groups),
            ChannelShuffle(groups),
            ConvNorm(mid, mid, groups=groups),
        )
        self.skip = ConvNorm(skip, mid, 1)
        self.shuffle = ChannelShuffle(groups)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b d H W"]) -> Float[Tensor, "b d H W"]:
        """Features of the skip's size and number of channels."""
        y: Tensor = self.shuffle(merge(self.convs(self.up(x)), self.skip(skip), self.merge))
        return y


class Decoder(nn.Module):
    """From encoder features, shallow to deep, to outputs at `stem_stride` times the first one's size."""

    def __init__(self, channels: list[int], config: DecoderConfig, outputs: tuple[str, ...] = OUTPUTS) -> None:
        super().__init__()
        deep_first = channels[::-1]
        self.levels = nn.ModuleList(DecoderLevel(cin, skip, config) for cin, skip in pairwise(deep_first))
        last = channels[0]
        self.refine = nn.Sequential(ConvNormAct(last, last), ConvNormAct(last, last))
        self.head = Head(last, config.head, outputs=outputs, scale=config.stem_stride, subpixel=True)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "b o H W"]:
        """Values in [0, 1]."""
        *skips, x = features
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = level(x, skip)
        y: Tensor = self.head(self.refine(x))
        return y


def build_decoders(channels: list[int], config: DecoderConfig) -> nn.ModuleList:
    """One decoder of two outputs, or two of one output each."""
    if config.decoders == "shared":
        return nn.ModuleList([Decoder(channels, config)])
    return nn.ModuleList([Decoder(channels, config, outputs=(name,)) for name in OUTPUTS])


class UNet(Network):
    """Encoder of 3 to 5 halvings, one decoder or two."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config, stride=config.stem_stride * 2**config.levels)
        channels = [4 * config.width * 2**k for k in range(config.levels + 1)]
        self.stem = Stem(config.width, config.stem_stride)
        self.blocks = nn.ModuleList(
            build_plain_block(cin, cout) if config.block == "plain" else DilatedBlock(cin, cout, config.dilations)
            for cin, cout in pairwise(channels)
        )
        self.decoders = build_decoders(channels, config)
        self.start()

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Features of the stem and of each block."""
        features = [self.stem(image)]
        for block in self.blocks:
            features.append(block(features[-1]))
        return features

    def decode(self, features: list[Tensor]) -> Float[Tensor, "b 2 h w"]:
        """Mask and depth in [0, 1]."""
        return torch.cat([decoder(features) for decoder in self.decoders], 1)
