"""Load batches of tensors from a pack; order and augmentation depend on a seed and the number of the epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor

from data.loading.augment import Augment, AugmentConfig, paste_foregrounds
from data.pack.pack import Pack, RawBatch
from data.pack.stats import Stats
from data.values.depth import DEPTH_STEPS
from models.target import Target

SMALLEST_STD = 1 / 255  # smallest std of a channel: a blank data set must not divide by zero


@dataclass
class Batch:
    """Samples ready for a network."""

    image: Float[Tensor, "b 3 h w"]  # RGB minus the data set's mean, divided by its std
    target: Target  # True mask and depth; both are 0 where unknown

    def __len__(self) -> int:
        return len(self.image)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, the image first, each with one row per sample."""
        return self.image, *self.target.tensors

    def to(self, device: torch.device | str) -> "Batch":
        """Copy the batch to a device, the image with channels last in memory."""
        image = self.image.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        return Batch(image, self.target.to(device))

    def split(self, count: int) -> list["Batch"]:
        """Split into `count` batches of nearly equal size, which share the memory of this one."""
        columns = (tensor.tensor_split(count) for tensor in self.tensors)
        return [Batch(image, Target(*target)) for image, *target in zip(*columns, strict=True)]


@dataclass
class Pixels:
    """Samples in float32 with the values of a pack; augmentation on a device changes them."""

    image: Float[Tensor, "b 3 h w"]  # RGB, 0 to 255
    mask: Float[Tensor, "b 1 h w"]  # 0 to 255
    depth: Float[Tensor, "b 1 h w"]  # codes: 0 = unknown, 1 (far) to 65535 (near)
    mask_known: Bool[Tensor, " b"]
    mask_valid: Bool[Tensor, "b 1 h w"] | None = None  # as in RawBatch

    def normalise(self, stats: Stats) -> Batch:
        """Return a batch with normalised images, channels last in memory; this changes the planes in place."""
        image = self.image.permute(0, 2, 3, 1).contiguous()
        scale, shift = _build_normalisation_row(stats, image.shape[2], image.device)
        image.flatten(2).mul_(scale).sub_(shift)
        valid = self.depth != 0
        depth = self.depth.sub_(1.0).mul_(1 / DEPTH_STEPS).clamp_min_(0.0)
        target = Target(self.mask.mul_(1 / 255), depth, valid, self.mask_known, self.mask_valid)
        return Batch(image.permute(0, 3, 1, 2), target)


class Loader:
    """Iterates over a pack in epochs of batches.

    A sample depends on (seed, epoch, sample) alone, not on its batch or on earlier epochs. `stats` are the statistics
    of the training data, for validation too. `drop_last` still keeps a smaller batch if it is the only one.
    """

    def __init__(
        self,
        pack: Pack,
        *,
        batch_size: int,
        stats: Stats,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
    ) -> None:
        self.count, self.batch_size, self.stats = len(pack), batch_size, stats
        self._pack, self._config, self._seed, self._shuffle = pack, augment, seed, shuffle
        whole = drop_last and self.count > batch_size
        self._length = self.count // batch_size if whole else -(-self.count // batch_size)
        self._augment: Augment | None = None

    def __len__(self) -> int:
        return self._length

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of epoch `number` (from 0)."""
        seeds = np.random.default_rng([self._seed, number, 0]).integers(2**63, size=self.count, dtype=np.uint64)
        order = np.arange(self.count)
        if self._shuffle:
            np.random.default_rng([self._seed, number, 1]).shuffle(order)
        for start in range(0, self._length * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self._load(chosen, seeds[chosen]).normalise(self.stats)

    def stop_augmenting(self) -> None:
        """Stop augmentation from the next batch on, even in the middle of an epoch."""
        self._config = None

    def _load(self, indices: Int[np.ndarray, " b"], seeds: UInt64[np.ndarray, " b"]) -> Pixels:
        """Return samples, augmented by their seeds."""
        raw = self._pack.gather(indices)
        if self._config is not None:
            if self._config.copy_paste:
                paste_foregrounds(raw, seeds, self._pack, self._config.copy_paste)
            self._augment = self._augment or Augment(self._config)
            raw = self._augment.change(raw, seeds)
        return to_pixels(*to_tensors(raw))


def to_tensors(raw: RawBatch) -> list[Tensor]:
    """Return packed samples as tensors for `to_pixels`; depth codes as int16, which all devices can select from."""
    arrays = (raw.image, raw.mask, raw.depth.view(np.int16), raw.mask_known, raw.mask_valid)
    return [torch.from_numpy(array) for array in arrays if array is not None]


def to_pixels(
    image: Tensor, mask: Tensor, depth: Tensor, mask_known: Tensor, mask_valid: Tensor | None = None
) -> Pixels:
    """Return samples in float32 from tensors of packed values."""
    planes = (mask[:, None].to(torch.float32), depth[:, None].view(torch.uint16).to(torch.float32))
    valid = None if mask_valid is None else mask_valid[:, None]
    return Pixels(image.to(torch.float32).permute(0, 3, 1, 2), *planes, mask_known, valid)


@lru_cache(maxsize=16)
def _build_normalisation_row(
    stats: Stats, px: int, device: torch.device
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """Return scale and shift for a whole image row: 8 times faster than 3 channels at a time."""
    std = torch.tensor(stats.image_std).clamp_min(SMALLEST_STD)
    scale, shift = (1 / (255 * std)).repeat(px), (torch.tensor(stats.image_mean) / std).repeat(px)
    return scale.to(device), shift.to(device)
