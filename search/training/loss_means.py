"""Mean losses over the batches of an epoch, in which some images may lack a label."""

from collections import Counter
from typing import Any

from torch import Tensor


class LossMeans:
    """Mean losses of an epoch.

    The loss of a task is a mean over the images of a batch that are labelled for it, so each batch is weighted by their
    share. A task without labelled images in the whole epoch is left out.
    """

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.weights: Counter[str] = Counter()

    def update(self, losses: dict[str, Tensor], shares: dict[str, Any]) -> None:
        """Add the losses of a batch, given the share of its images that is labelled for each task."""
        self.sums.update({name: loss * shares[_task(name)] for name, loss in losses.items()})
        self.weights.update(shares)

    @property
    def total(self) -> float:
        """Sum of the total losses so far; not finite if any of them is not."""
        return float(self.sums["total"])

    def compute(self) -> dict[str, float]:
        """Return the means as `train_<loss>`."""
        weights = {name: float(self.weights[_task(name)]) for name in self.sums}
        return {f"train_{name}": float(value) / weights[name] for name, value in self.sums.items() if weights[name]}


def _task(loss: str) -> str:
    """Return the task of a named loss: "mask", "depth", or "total" for their sum."""
    return loss.partition("_")[0]
