"""The optimizer of a trial, and the learning-rate policies as functions of progress in [0, 1].

A policy returns the learning rate as a fraction of its peak. Progress is the larger of steps done / steps planned and
time used / time allowed, so a training that reaches its time limit has annealed.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from models.architectures.network import Network
from search.config.trial import OptimConfig, ScheduleConfig

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
    """Return a group of the weights that decay, and one of the others."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups, each with its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)


Policy = Callable[[float], float]


def one_cycle(progress: float, *, warmup: float, floor: float) -> float:
    """Rise by a half cosine from `floor` to 1 during `warmup`, then fall by a half cosine back to `floor`.

    Source: Smith and Topin 2018, arXiv:1708.07120 (cosine form as in fastai).
    """
    if progress < warmup:
        return _half_cosine(floor, 1.0, progress / warmup)
    return _half_cosine(1.0, floor, (progress - warmup) / (1.0 - warmup))


def triangular2(progress: float, *, cycles: int, floor: float) -> float:
    """Rise and fall linearly `cycles` times between `floor` and a peak that halves each time.

    Source: Smith 2017, arXiv:1506.01186, policy "triangular2".
    """
    cycle = min(int(progress * cycles), cycles - 1)
    position = progress * cycles - cycle
    triangle = 1.0 - abs(2.0 * position - 1.0)
    return floor + (1.0 - floor) * triangle * 0.5**cycle


def cosine(progress: float, *, warmup: float, floor: float) -> float:
    """Rise linearly from `floor` to 1 during `warmup`, then fall by a half cosine to `floor`.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
    """
    if progress < warmup:
        return floor + (1.0 - floor) * progress / warmup
    return _half_cosine(1.0, floor, (progress - warmup) / (1.0 - warmup))


def exponential(progress: float, *, floor: float) -> float:
    """Rise from `floor` to 1 by the same factor in each step; used only by the range test.

    Source: Smith 2017, arXiv:1506.01186, section 3.3; the exponential form as in Howard and Gugger 2020,
    arXiv:2002.04688.
    """
    return float(floor ** (1.0 - progress))


def one_cycle_then_triangular2(progress: float, *, warmup: float, cycles: int, floor: float) -> float:
    """Run one cycle over the first half of the progress, then triangular2 at half the peak."""
    if progress < 0.5:
        return one_cycle(2 * progress, warmup=warmup, floor=floor)
    return max(floor, 0.5 * triangular2(2 * progress - 1, cycles=cycles, floor=floor))


def compute_lr_factor(config: ScheduleConfig, progress: float) -> float:
    """Return the learning rate as a fraction of its peak; progress is clipped to [0, 1]."""
    return _POLICIES[config.policy](min(max(progress, 0.0), 1.0), config)


_POLICIES: dict[str, Callable[[float, ScheduleConfig], float]] = {
    "one_cycle": lambda p, c: one_cycle(p, warmup=c.warmup, floor=c.floor),
    "triangular2": lambda p, c: triangular2(p, cycles=c.cycles, floor=c.floor),
    "cosine": lambda p, c: cosine(p, warmup=c.warmup, floor=c.floor),
    "constant": lambda p, c: 1.0,
    "one_cycle+triangular2": lambda p, c: one_cycle_then_triangular2(
        p, warmup=c.warmup, cycles=c.cycles, floor=c.floor
    ),
}


def _half_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * part))
