"""Run a network forward and backward in micro-batches that fit into memory."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from data.loading.loaders import Batch
from models.losses.loss import Loss
from models.target import Counts

T = TypeVar("T")
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class TrialOutOfMemoryError(RuntimeError):
    """Not even one image fits into memory; the message gives its size."""


class MicroBatchRunner:
    """Runs a network on batches, split into smaller micro-batches as soon as memory has run out.

    At most `micro_batch_size` images go through the network at once; None runs whole batches until memory runs out.
    With `shares_memory`, as on a GPU, a limit found after an out-of-memory error lasts for one epoch.
    """

    def __init__(
        self, model: nn.Module, *, bfloat16: bool, micro_batch_size: int | None, shares_memory: bool = False
    ) -> None:
        self.model, self.bfloat16, self.micro_batch_size = model, bfloat16, micro_batch_size
        self._planned, self.shares_memory = micro_batch_size, shares_memory
        self.parameters = list(model.parameters())  # listed once: walking the modules costs 0.3 ms a step

    def begin_epoch(self) -> None:
        """Try batches of the planned size again if another process may have caused the lack of memory."""
        if self.shares_memory:
            self.micro_batch_size = self._planned

    def predict(self, batch: Batch) -> Tensor:
        """Return predictions in float32; raise TrialOutOfMemoryError if not even one image fits into memory."""
        return self._run(self._predict, batch)

    def backward(self, batch: Batch, loss: Loss) -> dict[str, Tensor]:
        """Replace the gradients of the network and the loss by those of a batch, and return the losses.

        Losses are means over images, so a micro-batch is weighted by its share of the images that have a mask, or
        depth. Batch norm and the adaptive balance see one micro-batch at a time. Raise TrialOutOfMemoryError as
        `predict`.
        """
        return self._run(partial(self._accumulate, loss), batch)

    def _run(self, work: Callable[[list[Batch]], T], batch: Batch) -> T:
        """Apply `work` to the micro-batches of a batch, and again to smaller ones each time memory runs out."""
        while True:
            try:
                return work(split_batch(batch, self.micro_batch_size))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(batch, str(error))
            # Retry outside the except block: the traceback would keep the failed tensors alive.

    def _halve(self, batch: Batch, reason: str) -> None:
        tried = min(self.micro_batch_size or len(batch), len(batch))
        if tried == 1:
            px = batch.image.shape[-1]
            raise TrialOutOfMemoryError(f"not even one image of {px} px fits in memory: {reason.splitlines()[0]}")
        self.micro_batch_size = tried // 2

    def _predict(self, micro_batches: list[Batch]) -> Tensor:
        return torch.cat([self._forward(micro_batch) for micro_batch in micro_batches])

    def _accumulate(self, loss: Loss, micro_batches: list[Batch]) -> dict[str, Tensor]:
        """Add up gradients and losses."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.zero_grad()
        labelled = torch.stack([micro_batch.target.count_labelled() for micro_batch in micro_batches]).sum(0)
        first, *others = [self._backward(micro_batch, loss, labelled) for micro_batch in micro_batches]
        return {name: sum((losses[name] for losses in others), value) for name, value in first.items()}

    def _backward(self, micro_batch: Batch, loss: Loss, labelled: Counts) -> dict[str, Tensor]:
        losses = loss(self._forward(micro_batch), micro_batch.target, labelled)
        losses.total.backward()
        return {"total": losses.total.detach(), **losses.parts}

    def _forward(self, batch: Batch) -> Tensor:
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=self.bfloat16):
            prediction: Tensor = self.model(batch.image)
        return prediction.float()


def split_batch(batch: Batch, micro_batch_size: int | None) -> list[Batch]:
    """Split a batch into as few micro-batches of nearly equal size as the limit allows; None leaves it whole."""
    count = -(-len(batch) // (micro_batch_size or len(batch)))
    return [batch] if count == 1 else batch.split(count)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return True if torch ran out of memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Return True if the network runs in bfloat16.

    `precision` is "float32", "bfloat16" or "auto", which uses bfloat16 if the hardware supports it.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
