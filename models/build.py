"""The registry of architectures: builds configs from plain values, and networks from configs."""

from collections.abc import Mapping
from typing import Any

from models.architectures.atrous import ATROUS, RESIDUAL
from models.architectures.efficientnet_lite import EFFICIENTNET_LITE
from models.architectures.network import Architecture, Network
from models.architectures.resnet import RESNET18_ED
from models.architectures.unet import UNET
from models.config import ConfigError, ModelConfig

REGISTERED = (UNET, RESNET18_ED, RESIDUAL, ATROUS, EFFICIENTNET_LITE)
ARCHITECTURES = {architecture.name: architecture for architecture in REGISTERED}


def get_architecture(name: Any) -> Architecture:
    """Return the architecture of that name.

    Raises:
        ConfigError: There is none; the message lists the names.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(f"arch={name!r} is not one of {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[name]


def parse_model_config(fields: Mapping[str, Any]) -> ModelConfig:
    """Build the config that `fields` describes; `fields["arch"]` selects its class.

    Raises:
        ConfigError: `arch` is missing or unknown (lists the names), a key is unknown (gives the nearest), or a value
            is not allowed.
    """
    return get_architecture(fields.get("arch")).config.from_dict(fields)


def build_model(config: ModelConfig) -> Network:
    """Build the network of `config` with fresh weights from torch's global generator; see `load_pretrained`.

    Its forward takes a normalised image (B, 3, H, W) with H, W >= 16 and returns mask and depth, (B, 2, H, W) in
    [0, 1].

    Raises:
        ConfigError: `config` belongs to no architecture.
    """
    return get_architecture(config.arch).network(config)
