"""`resnet18_ed`: a ResNet18 encoder with one of two decoders.

Without skips the decoder is two pixel shuffles with two convolutions each, and the logits are enlarged bilinearly. It
has the study's published count of 11,504,720 parameters at width 16: stem and encoder are those of its code, and the
decoder's convolutions were inferred from the count. With skips, the decoder is the U-shaped one of `unet`.

At width 64 the encoder is ResNet18 as published, with its 7x7 stem and pooling, so that published weights fit.

Source: He et al. 2015, arXiv:1512.03385, table 1 (18 layers); the study leaves out the 7x7 stem and its pooling.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from models.architectures.blocks import ConvNorm, ConvNormAct, Head, Stem
from models.architectures.network import Architecture
from models.architectures.pretrained import ENCODER_CHOICES, PretrainedConfig, PretrainedNetwork
from models.architectures.unet import DECODER_CHOICES, LIGHTEST_DECODER, build_decoders
from models.config import STEM_STRIDES, ImageMoments, OnlyIf, check_choice

LAYERS = 4
PUBLISHED_WIDTH = 64  # width at which the encoder is ResNet18 as published
IMAGENET = ImageMoments(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(PretrainedConfig):
    """Config of `resnet18_ed`; width 64 selects the published encoder with 64 to 512 channels and stem stride 2."""

    arch: str = "resnet18_ed"
    # True selects the U-shaped decoder, which alone uses `upsample`, `merge`, `groups` and `decoders`; False selects
    # the study's decoder without skips
    skips: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("weights", self.weights, ("none", "file"))
        if self.published:
            check_choice("stem_stride", self.stem_stride, (2,))

    @property
    def published(self) -> bool:
        """True if the encoder is the published ResNet18."""
        return self.width == PUBLISHED_WIDTH

    @property
    def image_moments(self) -> ImageMoments | None:
        """ImageNet's mean and std for the published encoder; None (those of the training data) for the study's."""
        return IMAGENET if self.published else None


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with an identity skip, or with a strided 1x1 skip if the shape changes."""

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
    """Two pixel shuffles, two convolutions after each; the logits are enlarged bilinearly, by `scale`."""

    def __init__(self, in_channels: int, config: ResNetConfig, scale: int) -> None:
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
        self.head = Head(sixteenth, config.head, scale=scale)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "b 2 H W"]:
        """Return values in [0, 1]."""
        y: Tensor = self.head(self.body(features[-1]))
        return y


class ResNet18(PretrainedNetwork):
    """Stem, four layers of two basic blocks with strides 1, 2, 2, 2, and a decoder.

    The published encoder pools after its stem; the decoder with skips also reads the features before the pooling.
    """

    config: ResNetConfig

    def __init__(self, config: ResNetConfig) -> None:
        base, stem_stride = (PUBLISHED_WIDTH, 4) if config.published else (4 * config.width, config.stem_stride)
        super().__init__(config, stride=stem_stride * 2 ** (LAYERS - 1))
        channels = [base * 2**k for k in range(LAYERS)]
        self.stem = (
            nn.Sequential(ConvNormAct(3, PUBLISHED_WIDTH, 7, stride=2))  # the published stem without its pooling
            if config.published
            else Stem(config.width, config.stem_stride)
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)  # used only by the published encoder
        self.layers = nn.ModuleList()
        for k, (before, after) in enumerate(zip([base, *channels], channels, strict=False)):
            blocks = BasicBlock(before, after, 2 if k else 1), BasicBlock(after, after, 1)
            self.layers.append(nn.Sequential(*blocks))
        skips = [base, *channels] if config.published else channels
        plain = nn.ModuleList([PlainDecoder(channels[-1], config, scale=self.stride // 4)])
        self.decoders = build_decoders(skips, config) if config.skips else plain
        self.initialise_weights()

    def encoder_modules(self) -> dict[str, nn.Module]:
        """Return the stem and the layers by name."""
        return {"stem": self.stem, "layers": self.layers}

    def published_layers(self) -> Iterator[str]:
        """Yield the names that torchvision and timm give the encoder's convolutions and norms."""
        yield from ("conv1", "bn1")
        for k in range(LAYERS):
            for i in range(2):
                shortcut = ("downsample.0", "downsample.1") if k and not i else ()
                yield from (f"layer{k + 1}.{i}.{layer}" for layer in ("conv1", "bn1", "conv2", "bn2", *shortcut))

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the features of the four layers, after those of the published stem."""
        features, x = [], self.stem(image)
        if self.config.published:
            features.append(x)
            x = self.pool(x)
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features


RESNET18_ED = Architecture(
    config=ResNetConfig,
    network=ResNet18,
    choices={
        "width": (4, 8, 16),  # the study used 16; --encoder-weights selects 64
        "stem_stride": STEM_STRIDES,  # 1: as in the study; 2: half the resolution, four times as many images per second
        "skips": (False, True),
        **{name: OnlyIf("skips", True, values) for name, values in DECODER_CHOICES.items()},
    },
    fixed=(
        "head",  # minmax forces a foreground into every image: score 0.17 instead of 0.48 on real composites
        "weights",  # set by --encoder-weights, which also makes the search try the fields below
        *ENCODER_CHOICES,
    ),
    encoders=({"width": PUBLISHED_WIDTH, "stem_stride": 2, "weights": "file"},),
    decoder_fields=("head", "skips", *DECODER_CHOICES, *ENCODER_CHOICES),
    lightest={"skips": True, **LIGHTEST_DECODER},
)
