"""A network's passes over batches, forward and backward, in parts that fit into memory. Knows no optimizer."""

import torch
from torch import Tensor, nn

from data.loading.loaders import Batch
from models.losses.loss import Loss
from models.target import Counts
from search.training.parts import Parts


class Passes:
    """What takes a batch through a network.

    Attributes:
        parts: How batches are cut.

    Args:
        model: The network, on its device.
        bfloat16: Whether it computes in bfloat16.
        at_once: Most images that go through it at once; None for whole batches, until memory runs out.
    """

    def __init__(self, model: nn.Module, *, bfloat16: bool, at_once: int | None) -> None:
        self.model, self.bfloat16, self.parts = model, bfloat16, Parts(at_once)

    def predict(self, batch: Batch) -> Tensor:
        """Return the predictions for a batch, in float32.

        Raises:
            DoesNotFit: There is no memory for even one image.
        """
        return self.parts.run(lambda parts: torch.cat([self._forward(part) for part in parts]), batch)

    def backward(self, batch: Batch, loss: Loss) -> dict[str, Tensor]:
        """Leave the gradients of a batch, and nothing of earlier ones, in network and loss; return the losses.

        Losses are means over images, so a part weighs its share of those that have a mask, or depth. What looks at a
        batch as a whole, which are batch norm and the adaptive balance, sees a part.

        Raises:
            DoesNotFit: There is no memory for even one image.
        """
        return self.parts.run(lambda parts: self._add_up(parts, loss), batch)

    def _add_up(self, parts: list[Batch], loss: Loss) -> dict[str, Tensor]:
        self.model.zero_grad()
        loss.zero_grad()
        whole = torch.stack([part.target.count_labelled() for part in parts]).sum(0)
        losses = [self._share(part, loss, whole) for part in parts]
        return {name: sum((other[name] for other in losses[1:]), first) for name, first in losses[0].items()}

    def _share(self, part: Batch, loss: Loss, whole: Counts) -> dict[str, Tensor]:
        losses = loss(self._forward(part), part.target, whole)
        losses.total.backward()
        return {"total": losses.total.detach(), **losses.parts}

    def _forward(self, batch: Batch) -> Tensor:
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=self.bfloat16):
            prediction: Tensor = self.model(batch.image)
        return prediction.float()
