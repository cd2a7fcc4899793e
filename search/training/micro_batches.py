"""Run a network forward and backward in micro-batches that fit into memory, each divided among threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from data.loading.loaders import Batch
from models.losses.loss import Loss
from models.target import Counts

T = TypeVar("T")
Gradients = Sequence[Tensor | None]
MIN_PART = 4  # images of a thread's part: batch norm needs some
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
    With `shares_memory`, as on a GPU, a limit that was found holds for one epoch.

    `threads` of a CPU divide each micro-batch: each runs the network on its part, which is up to 1.7 times as fast as
    all of them in each operation. The parts have the same weights and batch statistics of their own; the running
    statistics are those of the first part, as in `DistributedDataParallel`. The result does not depend on the timing.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        bfloat16: bool,
        micro_batch_size: int | None,
        shares_memory: bool = False,
        threads: int = 1,
    ) -> None:
        self.model, self.bfloat16, self.micro_batch_size = model, bfloat16, micro_batch_size
        self._planned, self.shares_memory = micro_batch_size, shares_memory
        self.parameters = list(model.parameters())  # listed once: walking the modules costs 0.3 ms a step
        self.threads, self._pools = threads, dict[int, ThreadPoolExecutor]()
        self._replicas: list[nn.Module] = []

    def begin_epoch(self) -> None:
        """Try batches of the planned size again where another process may have caused the lack of memory."""
        self._replicas = []
        if self.shares_memory:
            self.micro_batch_size = self._planned

    def predict(self, batch: Batch) -> Tensor:
        """Return predictions in float32; raise TrialOutOfMemoryError if not even one image fits into memory."""
        return self._run(self._predict, batch)

    def backward(self, batch: Batch, loss: Loss) -> dict[str, Tensor]:
        """Replace the gradients of the network and the loss by those of a batch, and return the losses.

        Losses are means over images, so a micro-batch is weighted by its share of the images that have a mask, or
        depth. Batch norm and the adaptive balance see one micro-batch at a time.

        Raises:
            TrialOutOfMemoryError: Not even one image fits into memory.
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
        parts = [self._divide(micro_batch) for micro_batch in micro_batches]
        return torch.cat([prediction for each in parts for prediction in self._map(self._predict_part, each)])

    def _predict_part(self, part: Batch) -> Tensor:
        with torch.no_grad():  # the mode of the caller does not hold in other threads
            return self._forward(self.model, part)

    def _accumulate(self, loss: Loss, micro_batches: list[Batch]) -> dict[str, Tensor]:
        """Add up gradients and losses."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.zero_grad()
        labelled = torch.stack([micro_batch.target.count_labelled() for micro_batch in micro_batches]).sum(0)
        losses = [each for micro_batch in micro_batches for each in self._backward(micro_batch, loss, labelled)]
        return {name: sum((other[name] for other in losses[1:]), value) for name, value in losses[0].items()}

    def _backward(self, micro_batch: Batch, loss: Loss, labelled: Counts) -> list[dict[str, Tensor]]:
        """Add the gradients of a micro-batch and return the losses of its parts."""
        parts = self._divide(micro_batch)
        if len(parts) == 1:
            losses = loss(self._forward(self.model, micro_batch), micro_batch.target, labelled)
            losses.total.backward()
            return [{"total": losses.total.detach(), **losses.parts}]
        self._replicas += [replicate(self.model) for _ in range(len(self._replicas) + 1, len(parts))]
        parameters = [p for p in (*self.parameters, *loss.parameters()) if p.requires_grad]
        work = partial(self._differentiate, loss, parameters, labelled)
        found = self._map(work, parts, [self.model, *self._replicas])
        for _, gradients in found:
            add_gradients(parameters, gradients)
        return [losses for losses, _ in found]

    def _differentiate(
        self, loss: Loss, parameters: list[nn.Parameter], labelled: Counts, part: Batch, model: nn.Module
    ) -> tuple[dict[str, Tensor], Gradients]:
        """Return losses and gradients of a part; no other thread uses `model`."""
        losses = loss(self._forward(model, part), part.target, labelled)
        gradients = torch.autograd.grad(losses.total, parameters, allow_unused=True)
        return {"total": losses.total.detach(), **losses.parts}, gradients

    def _forward(self, model: nn.Module, batch: Batch) -> Tensor:
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=self.bfloat16):
            prediction: Tensor = model(batch.image)
        return prediction.float()

    def _divide(self, micro_batch: Batch) -> list[Batch]:
        """Divide a micro-batch among the threads, with at least MIN_PART images for each."""
        parts = min(self.threads, len(micro_batch) // MIN_PART)
        return micro_batch.split(parts) if parts > 1 else [micro_batch]

    def _map(self, function: Callable[..., T], parts: list[Batch], *more: Sequence[object]) -> list[T]:
        """Apply a function to each part, several in threads whose operations have an equal share of the threads."""
        if len(parts) == 1:
            return [function(parts[0], *(each[0] for each in more))]
        if len(parts) not in self._pools:
            share = max(1, self.threads // len(parts))
            pool = ThreadPoolExecutor(len(parts), initializer=torch.set_num_threads, initargs=(share,))
            self._pools[len(parts)] = pool
        return list(self._pools[len(parts)].map(function, parts, *more))


def replicate(model: nn.Module) -> nn.Module:
    """Return a copy of a network with the same parameters and with buffers of its own."""
    return deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def add_gradients(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Add gradients to those that parameters have; None adds nothing."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


def split_batch(batch: Batch, micro_batch_size: int | None) -> list[Batch]:
    """Split a batch into as few micro-batches of nearly equal size as the limit allows; None leaves it whole."""
    count = -(-len(batch) // (micro_batch_size or len(batch)))
    return [batch] if count == 1 else batch.split(count)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return True if torch ran out of memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Return True if the network runs in bfloat16.

    "auto" chooses it where the processor computes in it; else `precision` is "float32" or "bfloat16".
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
