"""The optimizer of a trial."""

from typing import Any

import torch
from torch import nn

from models.architectures.network import Network
from search.config.trial import OptimConfig

FACTOR = "lr_factor"  # entry of a parameter group; absent if the factor is 1


def build_optimizer(config: OptimConfig, modules: list[nn.Module]) -> torch.optim.Optimizer:
    """Build an optimizer that decays weight matrices and kernels only, not biases, norms or loss balances.

    Parts of a network with a learning-rate factor get their own parameter groups.
    """
    factors = [pair for module in modules if isinstance(module, Network) for pair in module.lr_factors().items()]
    scaled = {id(p): factor for part, factor in factors for p in part.parameters()}
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = _split_by_decay([p for p in parameters if id(p) not in scaled], config.weight_decay)
    for factor in sorted(set(scaled.values())):
        own = _split_by_decay([p for p in parameters if scaled.get(id(p)) == factor], config.weight_decay)
        groups += [{**group, FACTOR: factor} for group in own]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=True)


def _split_by_decay(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return one group of the weights that decay, and one group of all others."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups, each with its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)
