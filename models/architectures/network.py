"""Base class of the networks (encoder, decoder, padding to any size), and `Architecture`, their registry entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.architectures.blocks import Head, initialise, pad_to_multiple
from models.config import Choices, ConfigError, ModelConfig, check_choices


def set_memory_format(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out the weights of convolutions in a memory format."""
    convert: Callable[..., nn.Module] = module.to  # not every release of torch declares this argument
    convert(memory_format=memory_format)


class Network(nn.Module):
    """Base of the networks; `encode` and `decode` get sizes that `stride`, that of the deepest features, divides."""

    decoders: nn.ModuleList

    def __init__(self, config: ModelConfig, stride: int) -> None:
        super().__init__()
        self.config = config
        self.stride = stride

    def initialise_weights(self) -> None:
        """Initialise the weights: He initialisation, and heads that predict the prior everywhere."""
        initialise(self)
        for module in self.modules():
            if isinstance(module, Head):
                module.start_small()

    def load_pretrained(self, file: Path | None = None) -> None:
        """Load published weights if the config asks for them, if needed from a `file` that `match_encoder` has written.

        Saved models contain their weights and need no such call.
        """

    def lr_factors(self) -> dict[nn.Module, float]:
        """Return learning-rate factors of parts of the network; other parts have factor 1."""
        return {}

    def set_prior(self, *, mask: float, depth: float) -> None:
        """Set the prior of every head to the mean mask and the mean depth of the training data, both in [0, 1]."""
        for module in self.modules():
            if isinstance(module, Head):
                module.set_prior({"mask": mask, "depth": depth})

    def move_to(self, device: torch.device | str) -> "Network":
        """Move to a device, with weights in the channels-last order that convolutions prefer."""
        set_memory_format(self.to(device), torch.channels_last)
        return self

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return features from shallow to deep."""
        raise NotImplementedError

    def decode(self, features: list[Tensor]) -> Float[Tensor, "b 2 h w"]:
        """Return mask and depth in [0, 1] at the size of the encoded image, from all `decoders`."""
        return torch.cat([decoder(features) for decoder in self.decoders], 1)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2 h w"]:
        """Return mask and depth in [0, 1] at the image's own size, in float32 or wider."""
        height, width = image.shape[2:]
        return self.decode(self.encode(pad_to_multiple(image, self.stride)))[..., :height, :width]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A config, its network, and the values that the search tries; ConfigError if they do not fit each other."""

    config: type[ModelConfig]  # class of the config; the default of its `arch` is the architecture's name
    network: Callable[[Any], Network]  # builds the network from a config
    # searched fields in the order in which they are suggested, with `width` (ascending) and `stem_stride`
    choices: Choices
    fixed: tuple[str, ...] = ()  # fields that the search leaves at their defaults
    # fields that do not affect the encoder, nor the receptive field of its deepest features
    decoder_fields: tuple[str, ...] = ("head",)
    # fields of each encoder whose weights can be read from a file; empty if there is no such encoder
    encoders: tuple[Mapping[str, Any], ...] = ()
    # fields of the cheapest network, other than width and stem stride
    lightest: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choices(self.config, self.choices, self.fixed)
        for name in ("width", "stem_stride"):
            if not isinstance(self.choices.get(name), tuple):
                raise ConfigError(f"{self.name}: choices must list values of {name}")
        for fields in (self.lightest, *self.encoders):
            self.config.from_dict(fields)

    @property
    def name(self) -> str:
        """Name in the registry and in configs."""
        return str(self.config.__dataclass_fields__["arch"].default)
