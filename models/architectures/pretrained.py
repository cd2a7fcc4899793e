"""Networks whose encoder may start from published weights, and the conversion of published tensors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.architectures.blocks import Norm
from models.architectures.network import Network
from models.architectures.unet import DecoderConfig
from models.config import ConfigError, Range, Values, check_choice

WEIGHTS = ("none", "imagenet", "file")
ENCODER_CHOICES: dict[str, Values] = {
    "encoder_lr": Range(0.03, 1.0, log=True),  # from an encoder that hardly changes to the decoder's rate
    "freeze_norm": (False, True),
}


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(DecoderConfig):
    """Options of an encoder that may start from published weights."""

    # initial weights of the encoder: `none` (random), `imagenet` (from an installed package), or `file` (from
    # --encoder-weights)
    weights: str = "none"
    encoder_lr: float = 1.0  # factor on the learning rate of the encoder, above 0 and at most 1
    freeze_norm: bool = False  # True keeps the published running statistics of the encoder's batch norms

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("weights", self.weights, WEIGHTS)
        if not 0.0 < self.encoder_lr <= 1.0:
            raise ConfigError(f"encoder_lr={self.encoder_lr!r} must be above 0 and at most 1")


class PretrainedNetwork(Network):
    """A network whose encoder may start from published weights."""

    config: PretrainedConfig

    def encoder_modules(self) -> dict[str, nn.Module]:
        """Return the modules of the encoder by their names in the network."""
        raise NotImplementedError

    def published_layers(self) -> Iterable[str]:
        """Return timm's or torchvision's names of the encoder's convolutions and norms, in the encoder's order."""
        raise NotImplementedError

    def load_pretrained(self, file: Path | None = None) -> None:
        """Load the encoder's weights from a file of `convert_weights`, unless it starts from random weights."""
        if self.config.weights != "file":
            return
        if file is None:
            raise ConfigError("weights='file' needs a file: name it with --encoder-weights")
        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{file}: cannot be read ({error}); start or resume the run again") from error
        own = self.state_dict()
        self.load_state_dict(own | {name: tensor for name, tensor in tensors.items() if name in own})

    def lr_factors(self) -> dict[nn.Module, float]:
        """Return the factor on the learning rate of the encoder, unless it is 1."""
        factor = self.config.encoder_lr
        return {} if factor == 1.0 else dict.fromkeys(self.encoder_modules().values(), factor)

    def train(self, mode: bool = True) -> "PretrainedNetwork":
        """Set training mode; frozen modules and frozen batch norms stay in evaluation mode."""
        super().train(mode)
        norms = [m for part in self.encoder_modules().values() for m in part.modules() if isinstance(m, Norm)]
        for module in [*self.frozen_modules(), *(norms if self.config.freeze_norm else [])]:
            module.eval()
        return self

    def frozen_modules(self) -> list[nn.Module]:
        """Return the modules of the encoder that keep their weights and stay in evaluation mode."""
        return []

    def name_tensors(self, layers: Iterable[str]) -> dict[str, str]:
        """Return the published name of each tensor of the encoder, whose convolutions and norms are named `layers`."""
        parts = tuple(f"{part}." for part in self.encoder_modules())
        own = [name for name, module in self.named_modules() if isinstance(module, nn.Conv2d | Norm)]
        published = dict(zip((name for name in own if name.startswith(parts)), layers, strict=False))
        names = [name.rpartition(".") for name in self.state_dict()]
        return {f"{layer}.{leaf}": f"{published[layer]}.{leaf}" for layer, _, leaf in names if layer in published}


def convert_weights(
    network: PretrainedNetwork, weights: Mapping[str, Tensor], layers: Iterable[str]
) -> dict[str, Tensor]:
    """Return the encoder's tensors under the network's names, from a published state dict.

    `layers` are the published names of the encoder's convolutions and norms, in order. Raise ConfigError, which names
    the tensor, if one is missing, has another shape or is not finite.
    """
    own, converted = network.state_dict(), {}
    for name, published in network.name_tensors(layers).items():
        needed = tuple(own[name].shape)
        if published not in weights:
            if name.endswith("num_batches_tracked"):  # absent from older files
                converted[name] = torch.zeros((), dtype=torch.long)
                continue
            raise ConfigError(f"the weights have no tensor {published} {needed}")
        tensor = weights[published]
        if tuple(tensor.shape) != needed:
            raise ConfigError(f"{published} of the weights is {tuple(tensor.shape)}; the encoder needs {needed}")
        if not tensor.isfinite().all():
            raise ConfigError(f"{published} of the weights has values that are not finite")
        converted[name] = tensor.to(own[name].dtype).contiguous()
    return converted
