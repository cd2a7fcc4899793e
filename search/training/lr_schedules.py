"""The learning-rate policies, as functions of progress in [0, 1].

A policy returns the learning rate as a fraction of its peak. Progress is the larger of steps done / steps planned and
time used / time allowed, so the rate has annealed when a training reaches its time limit.
"""

import math
from collections.abc import Callable

from search.config.trial import ScheduleConfig

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
    return _FUNCTIONS[config.policy](min(max(progress, 0.0), 1.0), config)


_FUNCTIONS: dict[str, Callable[[float, ScheduleConfig], float]] = {
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
