"""The average of a network's weights over the recent steps of a training."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

DECAY = 3  # step t of n has a weight of about (t / n) ** DECAY: most of the average is the last quarter of the steps


class WeightAverage:
    """A copy of a network that averages its weights and batch-norm statistics, with polynomial decay.

    Its span grows with the training, so it suits trainings of any length, also those that a time limit ends.

    Source: Shamir and Zhang 2013, arXiv:1212.1824, section 4.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.steps = copy.deepcopy(model).requires_grad_(requires_grad=False), 0
        self._averages, self._values = _list_values(self.model), _list_values(model)

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights of the network, after a step."""
        self.steps += 1
        torch._foreach_lerp_(self._averages, self._values, (DECAY + 1) / (self.steps + DECAY))

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which `load_state_dict` continues."""
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.steps = state["steps"]


def _list_values(model: nn.Module) -> list[Tensor]:
    """Return the weights and statistics of a network, which are updated in place."""
    return [value for value in model.state_dict().values() if value.is_floating_point()]
