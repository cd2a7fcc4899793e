"""`unet`: the study's UNet-like network with the options that it planned, and the decoder that `resnet18_ed` shares.

An encoder block runs three dilated paths and a 1x1 convolution in parallel; the decoder upsamples by pixel shuffle and
concatenates skips after a 1x1 projection. These are the layers of the study's code, with its 2,317,200 parameters at
width 16.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.architectures.blocks import (
    UPSAMPLERS,
    ChannelShuffle,
    ConvNorm,
    ConvNormAct,
    Head,
    Stem,
    UpsampleConv,
    count_upsampled_channels,
    merge,
)
from models.architectures.network import Architecture, Network
from models.config import STEM_STRIDES, TASKS, ConfigError, ModelConfig, check_choice

MERGES = ("concat", "add")
DECODERS = ("shared", "separate")
BLOCKS = ("dilated", "plain")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(ModelConfig):
    """Options of the U-shaped decoder."""

    upsample: str = "pixel_shuffle"  # `pixel_shuffle` (the study's), `conv_pixel_shuffle`, `transposed`, `bilinear`
    merge: str = "concat"  # way of merging a skip: `concat` (the study's) or `add`
    groups: int = 1  # groups of the decoder's convolutions, with a channel shuffle between convolutions
    decoders: str = "shared"  # `shared` by mask and depth, or `separate`

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("upsample", self.upsample, UPSAMPLERS)
        check_choice("merge", self.merge, MERGES)
        check_choice("groups", self.groups, (1, 2, 4, 8))
        check_choice("decoders", self.decoders, DECODERS)


DECODER_CHOICES: dict[str, tuple[Any, ...]] = {
    "upsample": UPSAMPLERS,
    "merge": MERGES,
    "groups": (1, 2, 4),  # the narrowest level has 8 channels, which 8 groups would not mix at all
    "decoders": DECODERS,
}
LIGHTEST_DECODER = {"groups": 4, "merge": "add", "upsample": "pixel_shuffle"}


@dataclass(frozen=True, kw_only=True)
class UNetConfig(DecoderConfig):
    """Config of `unet`."""

    arch: str = "unet"
    levels: int = 3  # halvings of the size after the stem: 3 (the study's), 4 or 5
    block: str = "dilated"  # `dilated`: three parallel dilated paths (the study's); `plain`: two 3x3 convolutions
    dilations: tuple[int, ...] = (1, 2, 4)  # dilations of the three parallel paths; `plain` ignores them

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("levels", self.levels, (3, 4, 5))
        check_choice("block", self.block, BLOCKS)
        if len(self.dilations) != 3 or any(not isinstance(d, int) or d < 1 for d in self.dilations):
            raise ConfigError(f"dilations={list(self.dilations)!r} must be three whole numbers of at least 1")


class DilatedBlock(nn.Module):
    """Halve the size by a strided 1x1 convolution and three dilated paths, each with a quarter of the channels."""

    def __init__(self, in_channels: int, out_channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        quarter = out_channels // 4
        self.direct = ConvNorm(in_channels, quarter, 1, stride=2)
        self.paths = nn.ModuleList(
            nn.Sequential(
                ConvNormAct(in_channels, quarter, stride=2, dilation=d), ConvNorm(quarter, quarter, dilation=d)
            )
            for d in dilations
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return features of half the height and width."""
        return torch.cat([self.direct(x), *(path(x) for path in self.paths)], 1).relu()


class DecoderLevel(nn.Module):
    """Upsample, apply two 3x3 convolutions, and merge with the projected skip."""

    def __init__(self, in_channels: int, skip_channels: int, config: DecoderConfig) -> None:
        super().__init__()
        channels = skip_channels // 2 if config.merge == "concat" else skip_channels
        upsampled = count_upsampled_channels(config.upsample, in_channels, channels)
        groups = config.groups
        self.merge = config.merge
        self.up = UpsampleConv(config.upsample, in_channels, channels, groups)
        self.convs = nn.Sequential(
            ConvNormAct(upsampled, channels, groups=groups),
            ChannelShuffle(groups),
            ConvNorm(channels, channels, groups=groups),
        )
        self.skip = ConvNorm(skip_channels, channels, 1)
        self.shuffle = ChannelShuffle(groups)

    def forward(self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b d H W"]) -> Float[Tensor, "b d H W"]:
        """Return features with the size and number of channels of the skip."""
        y: Tensor = self.shuffle(merge(self.convs(self.up(x)), self.skip(skip), self.merge))
        return y


class Decoder(nn.Module):
    """Decode features, given from shallow to deep, at `stem_stride` times the size of the first."""

    def __init__(
        self, channels: list[int], config: DecoderConfig, outputs: tuple[str, ...] = TASKS, *, bias: bool
    ) -> None:
        super().__init__()
        deep_first = channels[::-1]
        self.levels = nn.ModuleList(DecoderLevel(deep, skip, config) for deep, skip in pairwise(deep_first))
        last = channels[0]
        self.refine = nn.Sequential(ConvNormAct(last, last), ConvNormAct(last, last))
        self.head = Head(last, config.head, outputs=outputs, scale=config.stem_stride, subpixel=True, bias=bias)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "b o H W"]:
        """Return values in [0, 1]."""
        *skips, x = features
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = level(x, skip)
        y: Tensor = self.head(self.refine(x))
        return y


def build_decoders(channels: list[int], config: DecoderConfig, *, bias: bool = False) -> nn.ModuleList:
    """Build one decoder with two outputs, or two with one output each; `bias` gives their heads a bias."""
    if config.decoders == "shared":
        return nn.ModuleList([Decoder(channels, config, bias=bias)])
    return nn.ModuleList([Decoder(channels, config, outputs=(name,), bias=bias) for name in TASKS])


class UNet(Network):
    """An encoder with 3 to 5 halvings, and one or two decoders."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config, stride=config.stem_stride * 2**config.levels)
        channels = [4 * config.width * 2**k for k in range(config.levels + 1)]
        self.stem = Stem(config.width, config.stem_stride)
        self.blocks = nn.ModuleList(
            nn.Sequential(ConvNormAct(before, after, stride=2), ConvNormAct(after, after))
            if config.block == "plain"
            else DilatedBlock(before, after, config.dilations)
            for before, after in pairwise(channels)
        )
        self.decoders = build_decoders(channels, config)
        self.initialise_weights()

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the features of the stem and of each block."""
        features = [self.stem(image)]
        for block in self.blocks:
            features.append(block(features[-1]))
        return features


UNET = Architecture(
    config=UNetConfig,
    network=UNet,
    choices={
        "width": (4, 6, 8, 12, 16),  # the study used 16; networks of width below 4 learn nothing
        "stem_stride": STEM_STRIDES,  # 1: as in the study; 2: half the resolution, four times as many images per second
        "block": BLOCKS,
        "levels": (3, 4),  # the study's two values; a fifth level would shrink an image of 80 px to 3 px
        **DECODER_CHOICES,
    },
    fixed=(
        "head",  # minmax forces a foreground into every image: score 0.17 instead of 0.48 on real composites
        "dilations",  # the study's
    ),
    decoder_fields=("head", *DECODER_CHOICES),
    lightest={"block": "plain", "levels": 3, **LIGHTEST_DECODER},
)
