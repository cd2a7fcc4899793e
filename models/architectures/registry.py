"""The architectures by name: builds configs from plain values, and networks from configs."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from models.architectures.atrous import ATROUS, RESIDUAL
from models.architectures.efficientnet_lite import EFFICIENTNET_LITE
from models.architectures.network import Architecture, Network
from models.architectures.pretrained import PretrainedNetwork, convert_weights
from models.architectures.resnet import RESNET18_ED
from models.architectures.unet import UNET
from models.config import ConfigError, ModelConfig

REGISTERED = (UNET, RESNET18_ED, RESIDUAL, ATROUS, EFFICIENTNET_LITE)
ARCHITECTURES = {architecture.name: architecture for architecture in REGISTERED}


def register_architecture(architecture: Architecture) -> None:
    """Add an architecture of a plugin; raise ConfigError if its name is taken."""
    if architecture.name in ARCHITECTURES:
        raise ConfigError(f"there is already an architecture {architecture.name!r}; rename it")
    ARCHITECTURES[architecture.name] = architecture


def get_architecture(name: Any) -> Architecture:
    """Return the architecture of that name; raise ConfigError, which lists the names, if there is none."""
    if name not in ARCHITECTURES:
        raise ConfigError(f"arch={name!r} is not one of {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[name]


def parse_model_config(fields: Mapping[str, Any]) -> ModelConfig:
    """Build the config that `fields` describes; `fields["arch"]` selects its class.

    Raise ConfigError, with the possible names, if `arch` or another key is unknown, or if a value is not allowed.
    """
    return get_architecture(fields.get("arch")).config.from_dict(fields)


def match_encoder(weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Find the encoder for published weights with the names of timm or torchvision.

    Return the config fields that select the encoder, and its tensors under the network's names. Raise ConfigError if
    the weights fit no encoder, or not the best-fitting one.
    """
    fields, network = max(_list_encoders(), key=lambda encoder: _count_fitting(encoder[1], weights))
    if not _count_fitting(network, weights):
        known = "timm's tf_efficientnet_lite0 to 4, or ResNet18 of torchvision or timm"
        raise ConfigError(f"no tensor has a name and shape of {known}")
    return fields, convert_weights(network, weights, network.published_layers())


def _list_encoders() -> Iterator[tuple[dict[str, Any], PretrainedNetwork]]:
    for architecture in REGISTERED:
        for fields in architecture.encoders:
            with torch.device("meta"):
                network = architecture.network(architecture.config.from_dict(fields))
            assert isinstance(network, PretrainedNetwork)
            yield {"arch": architecture.name, **fields}, network


def _count_fitting(network: PretrainedNetwork, weights: Mapping[str, Tensor]) -> int:
    """Return how many tensors of the encoder the weights contain with the right shape."""
    own, names = network.state_dict(), network.name_tensors(network.published_layers())
    return sum(other in weights and weights[other].shape == own[name].shape for name, other in names.items())


def build_model(config: ModelConfig) -> Network:
    """Build the network of `config` with fresh weights from torch's global generator; see `load_pretrained`.

    Its forward takes a normalised image (B, 3, H, W) with H, W >= 16; it returns mask and depth in [0, 1], (B, 2, H,
    W).
    """
    return get_architecture(config.arch).network(config)
