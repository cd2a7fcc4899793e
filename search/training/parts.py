"""Batches in parts that fit into memory. Knows no network: whoever computes on the parts says how."""

from collections.abc import Callable
from typing import TypeVar

import torch

from data.loading.loaders import Batch

T = TypeVar("T")
_FULL = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class TrialOutOfMemoryError(RuntimeError):
    """Not even one image fits in memory; the message gives its size."""


class Parts:
    """Cuts batches into parts, and into smaller ones for good as soon as memory has run out.

    Attributes:
        at_once: Most images of a part; None leaves batches whole.
    """

    def __init__(self, at_once: int | None) -> None:
        self.at_once = at_once

    def cut(self, batch: Batch) -> list[Batch]:
        """Return as few parts of nearly equal size as `at_once` allows."""
        count = -(-len(batch) // (self.at_once or len(batch)))
        if count == 1:
            return [batch]
        return batch.split(count)

    def run(self, work: Callable[[list[Batch]], T], batch: Batch) -> T:
        """Return what `work` makes of the parts of `batch`.

        Args:
            work: Called anew, with parts half as large, each time memory runs out.
            batch: What to cut.

        Raises:
            DoesNotFit: A part of one image is still too much.
        """
        while True:
            try:
                return work(self.cut(batch))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self._halve(batch, str(error))
            # only here, behind the handler, is what the failed attempt held given back

    def _halve(self, batch: Batch, reason: str) -> None:
        tried = min(self.at_once or len(batch), len(batch))
        if tried == 1:
            px = batch.image.shape[-1]
            raise TrialOutOfMemoryError(f"not even one image of {px} px fits in memory: {reason.splitlines()[0]}")
        self.at_once = tried // 2


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch found no memory, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _FULL)
