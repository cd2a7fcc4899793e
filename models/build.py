"""The registry of architectures: from plain values to a config, from a config to a network."""

from collections.abc import Callable, Mapping
from typing import Any

from models.atrous import Atrous, AtrousConfig, ResidualConfig
from models.config import ConfigError, ModelConfig
from models.network import Network
from models.resnet import ResNet18, ResNetConfig
from models.unet import UNet, UNetConfig

ARCHITECTURES: dict[str, tuple[type[ModelConfig], Callable[[Any], Network]]] = {
    "atrous": (AtrousConfig, Atrous),
    "residual": (ResidualConfig, Atrous),
    "resnet18_ed": (ResNetConfig, ResNet18),
    "unet": (UNetConfig, UNet),
}


def parse_model_config(fields: Mapping[str, Any]) -> ModelConfig:
    """The config that `fields` describes, `fields["arch"]` choosing its class.

    Raises:
        ConfigError: No or an unknown `arch` (lists the names), an unknown key (names the nearest) or a
            forbidden value.
    """
    arch = fields.get("arch")
    if arch not in ARCHITECTURES:
        raise ConfigError(f"arch={arch!r} is not one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch][0].from_dict(fields)


def build_model(config: ModelConfig) -> Network:
    """The network of `config` with fresh weights from torch's global generator.

    Its forward takes a normalised image (B, 3, H, W), any H, W >= 16, and gives mask and depth, (B, 2, H, W)
    in [0, 1].

    Raises:
        ConfigError: `config` belongs to no architecture.
    """
    if config.arch not in ARCHITECTURES:
        raise ConfigError(f"arch={config.arch!r} is not one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[config.arch][1](config)
