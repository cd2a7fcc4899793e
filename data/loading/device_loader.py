"""Batches that are made on a GPU from packed integers, which stay in its memory if they fit."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt64
from torch import Tensor

from data.loading.augment import AugmentConfig
from data.loading.device_augment import change, is_expressible
from data.loading.loaders import Loader, Pixels, to_pixels, to_tensors
from data.pack.pack import Pack
from models.cost import measure_free_bytes

ROOM = 0.5  # largest share of the free memory of a GPU that the samples of a pack take
CHUNK = 2048  # samples that are copied to a GPU at once


def fits(pack: Pack, device: torch.device) -> bool:
    """Return whether a pack, with room to spare, fits into the memory that this process may use on a GPU."""
    return device.type == "cuda" and len(pack) * pack.record_bytes <= ROOM * measure_free_bytes(device)


class DeviceLoader(Loader):
    """A Loader that makes its batches on `device`, in the same order and from the same seeds of samples.

    Samples are kept on the device if they fit, else copied batch by batch, from pinned memory.
    """

    def __init__(self, pack: Pack, *, device: torch.device, **options: Any) -> None:
        super().__init__(pack, **options)
        self._device = device
        self._kept = self._copy_all() if fits(pack, device) else None

    def _load(self, indices: Int[np.ndarray, " b"], seeds: UInt64[np.ndarray, " b"]) -> Pixels:
        pixels = self._gather(indices)
        if self._config is not None:
            change(pixels, self._config, seeds, self._gather, self.count)
        return pixels

    def _gather(self, indices: Int[np.ndarray, " b"]) -> Pixels:
        if self._kept is None:
            return to_pixels(*self._copy(indices))
        rows = torch.from_numpy(indices).to(self._device, non_blocking=True)
        return to_pixels(*(tensor.index_select(0, rows) for tensor in self._kept))

    def _copy(self, indices: Int[np.ndarray, " b"]) -> list[Tensor]:
        tensors = to_tensors(self._pack.gather(indices))
        if self._device.type == "cuda":
            tensors = [tensor.pin_memory() for tensor in tensors]
        return [tensor.to(self._device, non_blocking=True) for tensor in tensors]

    def _copy_all(self) -> list[Tensor]:
        """Return all samples on the device; at most one chunk is in memory twice."""
        kept: list[Tensor] = []
        for start in range(0, self.count, CHUNK):
            parts = self._copy(np.arange(start, min(start + CHUNK, self.count)))
            kept = kept or [part.new_empty((self.count, *part.shape[1:])) for part in parts]
            for whole, part in zip(kept, parts, strict=True):
                whole[start : start + len(part)] = part
        return kept


def build_loader(pack: Pack, *, device: torch.device, augment: AugmentConfig | None = None, **options: Any) -> Loader:
    """Return a loader, with the arguments of Loader, that makes batches on a GPU if all augmentations can run there."""
    if device.type == "cpu" or not (augment is None or is_expressible(augment)):
        return Loader(pack, augment=augment, **options)
    return DeviceLoader(pack, device=device, augment=augment, **options)
