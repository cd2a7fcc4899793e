"""`atrous` and `residual`, the study's first networks: a stem, three dilated bottlenecks at half size, one upsampling.

`residual` adds an identity around each bottleneck. The layers and the parameter count are those of the study's code:
893,792 at width 32 with pixel shuffle (dilations 2, 3, 4; receptive field 80). With the transposed convolution
(dilations 2, 4, 8; receptive field 120), `atrous` has 974,816 parameters; the study gives no count for it.
"""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor, nn

from models.architectures.blocks import ConvNormAct, Head, Stem, UpsampleConv
from models.architectures.network import Architecture, Network
from models.config import STEM_STRIDES, Choices, ConfigError, ModelConfig, check_choice

ATROUS_UPSAMPLERS = ("pixel_shuffle", "transposed")


@dataclass(frozen=True, kw_only=True)
class AtrousConfig(ModelConfig):
    """Config of `atrous`."""

    arch: str = "atrous"
    width: int = 32
    dilations: tuple[int, ...] = (2, 3, 4)  # dilation of each bottleneck, in order
    upsample: str = "pixel_shuffle"  # `pixel_shuffle` (after a 1x1 convolution) or `transposed`

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("upsample", self.upsample, ATROUS_UPSAMPLERS)
        if not self.dilations or any(not isinstance(d, int) or d < 1 for d in self.dilations):
            raise ConfigError(f"dilations={list(self.dilations)!r} must be whole numbers of at least 1")


@dataclass(frozen=True, kw_only=True)
class ResidualConfig(AtrousConfig):
    """Config of `residual`: atrous bottlenecks with identity skips, which add no parameters."""

    arch: str = "residual"


class AtrousBottleneck(nn.Sequential):
    """A 1x1 convolution to `width` channels, then two dilated 3x3 convolutions to 2 and 4 times `width`."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__(
            ConvNormAct(4 * width, width, 1),
            ConvNormAct(width, 2 * width, dilation=dilation),
            ConvNormAct(2 * width, 4 * width, dilation=dilation),
        )


class Atrous(Network):
    """Both networks of this file; a `ResidualConfig` adds identity skips to the bottlenecks."""

    def __init__(self, config: AtrousConfig) -> None:
        super().__init__(config, stride=2 * config.stem_stride)
        w = config.width
        self.skips = isinstance(config, ResidualConfig)
        self.stem = Stem(w, config.stem_stride)
        self.pool = nn.MaxPool2d(2)
        self.blocks = nn.ModuleList(AtrousBottleneck(w, d) for d in config.dilations)
        if config.upsample == "pixel_shuffle":
            self.up: nn.Module = nn.Sequential(ConvNormAct(4 * w, 16 * w, 1), nn.PixelShuffle(2))
        else:
            self.up = UpsampleConv("transposed", 4 * w, 4 * w)
        self.refine = nn.Sequential(ConvNormAct(4 * w, 4 * w), ConvNormAct(4 * w, 8 * w))
        self.head = Head(8 * w, config.head, scale=config.stem_stride, subpixel=True)
        self.initialise_weights()

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return only the deepest features, at 1 / `stride` of the size."""
        x = self.pool(self.stem(image))
        for block in self.blocks:
            x = x + block(x) if self.skips else block(x)
        return [x]

    def decode(self, features: list[Tensor]) -> Float[Tensor, "b 2 h w"]:
        """Return mask and depth in [0, 1]."""
        y: Tensor = self.head(self.refine(self.up(features[-1])))
        return y


ATROUS_CHOICES: Choices = {
    "width": (4, 8, 16, 32),  # the study used 16 and 32
    "stem_stride": STEM_STRIDES,  # 1: as in the study; 2: half the resolution, four times as many images per second
    "dilations": ((2, 4, 8), (2, 3, 4)),  # the study's first and second network
    "upsample": ATROUS_UPSAMPLERS,
}
ATROUS = Architecture(
    config=AtrousConfig,
    network=Atrous,
    choices=ATROUS_CHOICES,
    fixed=("head",),  # minmax forces a foreground into every image: score 0.17 instead of 0.48 on real composites
    decoder_fields=("head", "upsample"),
)
RESIDUAL = replace(ATROUS, config=ResidualConfig)
