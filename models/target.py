"""Ground truth of predictions, and which of its pixels are known."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Maps = Float[Tensor, "b 1 h w"]
Valid = Bool[Tensor, "b 1 h w"]
PerImage = Float[Tensor, " b"]
Counts = Int[Tensor, "2"]


@dataclass
class Target:
    """Mask and depth of a batch of images."""

    mask: Maps  # foreground in [0, 1]; read only for images whose mask is known
    depth: Maps  # relative inverse depth in [0, 1], near = 1; read only where `valid`
    valid: Valid  # True where depth is known
    mask_known: Bool[Tensor, " b"]  # True for the images whose mask is known
    mask_pixels: Valid | None = None  # True where the mask is known. None: everywhere in the images whose mask is known

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors in the order of the attributes, each with one row per image."""
        tensors = (self.mask, self.depth, self.valid, self.mask_known)
        return tensors if self.mask_pixels is None else (*tensors, self.mask_pixels)

    @property
    def mask_valid(self) -> Valid:
        """The counterpart of `valid` for masks: False over images whose mask is not known, and at ignored pixels."""
        pixels = torch.ones_like(self.valid) if self.mask_pixels is None else self.mask_pixels
        return self.mask_known[:, None, None, None] & pixels

    @property
    def depth_known(self) -> Bool[Tensor, " b"]:
        """True for the images with at least one valid pixel of depth."""
        return self.valid.flatten(1).any(1)

    @property
    def has_foreground(self) -> Bool[Tensor, " b"]:
        """True for the images whose mask is above 0.5 at some known pixel."""
        return ((self.mask > 0.5) & self.mask_valid).flatten(1).any(1)

    def count_labelled(self) -> Counts:
        """Count the images with a known mask, and those with some known depth."""
        return torch.stack((self.mask_known.sum(), self.depth_known.sum()))

    def to(self, device: torch.device | str) -> "Target":
        """Copy the tensors to a device, without waiting for the copy."""
        return Target(*(tensor.to(device, non_blocking=True) for tensor in self.tensors))
