"""What every network is: an encoder, a decoder, and the padding that lets it take any size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.blocks import initialise, pad_to_multiple
from models.config import ModelConfig
from models.heads import Head


class Network(nn.Module):
    """Base of the families; `encode` and `decode` see only sizes that `stride` divides.

    Attributes:
        config: What it was built from.
        stride: How many pixels of the image one deepest feature steps.
    """

    def __init__(self, config: ModelConfig, stride: int) -> None:
        super().__init__()
        self.config = config
        self.stride = stride

    def start(self) -> None:
        """Fresh weights: He initialisation, and heads that say the prior everywhere."""
        initialise(self)
        for module in self.modules():
            if isinstance(module, Head):
                module.start_small()

    def set_prior(self, *, mask: float, depth: float) -> None:
        """Let every head start from the mean mask and the mean depth of the training data, both in [0, 1]."""
        for module in self.modules():
            if isinstance(module, Head):
                module.set_prior({"mask": mask, "depth": depth})

    def on(self, device: torch.device | str) -> "Network":
        """Move to a device, weights in channels-last order, which convolutions prefer."""
        self.to(device)
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Features from shallow to deep."""
        raise NotImplementedError

    def decode(self, features: list[Tensor]) -> Float[Tensor, "b 2 h w"]:
        """Mask and depth in [0, 1] at the size that was encoded."""
        raise NotImplementedError

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2 h w"]:
        """Mask and depth in [0, 1] at the image's own size, in float32 or wider."""
        height, width = image.shape[2:]
        return self.decode(self.encode(pad_to_multiple(image, self.stride)))[..., :height, :width]
