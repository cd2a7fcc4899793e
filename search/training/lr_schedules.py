"""The learning-rate policies, as functions of progress in [0, 1].

A policy returns the learning rate as a fraction of its peak; `Trainer._prepare_step` multiplies it by the peak,
`OptimConfig.lr`. Progress is the larger of steps done / steps planned and time used / time limit, so the rate has
annealed when a training reaches its time limit.
"""

import math
from collections.abc import Callable

from search.config.trial import ScheduleConfig

Policy = Callable[[float], float]


def one_cycle(progress: float, config: ScheduleConfig) -> float:
    """Rise by a half cosine from the floor to 1 during the warm-up, then fall by a half cosine back to the floor.

    Source: Smith and Topin 2018, arXiv:1708.07120 (cosine form as in fastai).
    """
    if progress < config.warmup:
        return _half_cosine(config.floor, 1.0, progress / config.warmup)
    return _half_cosine(1.0, config.floor, (progress - config.warmup) / (1.0 - config.warmup))


def triangular2(progress: float, config: ScheduleConfig) -> float:
    """Rise and fall linearly in each cycle between the floor and a peak that halves each time.

    Source: Smith 2017, arXiv:1506.01186, policy "triangular2".
    """
    cycle = min(int(progress * config.cycles), config.cycles - 1)
    position = progress * config.cycles - cycle
    triangle = 1.0 - abs(2.0 * position - 1.0)
    return config.floor + (1.0 - config.floor) * triangle * 0.5**cycle


def cosine(progress: float, config: ScheduleConfig) -> float:
    """Rise linearly from the floor to 1 during the warm-up, then fall by a half cosine to the floor.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
    """
    if progress < config.warmup:
        return config.floor + (1.0 - config.floor) * progress / config.warmup
    return _half_cosine(1.0, config.floor, (progress - config.warmup) / (1.0 - config.warmup))


def one_cycle_then_triangular2(progress: float, config: ScheduleConfig) -> float:
    """Run one cycle over the first half of the progress, then triangular2 at half the peak."""
    if progress < 0.5:
        return one_cycle(2 * progress, config)
    return max(config.floor, 0.5 * triangular2(2 * progress - 1, config))


def exponential(progress: float, *, floor: float) -> float:
    """Rise from `floor` to 1 by the same factor in each step; used only by the range test.

    Source: Smith 2017, arXiv:1506.01186, section 3.3; exponential as in Howard and Gugger 2020, arXiv:2002.04688.
    """
    return float(floor ** (1.0 - progress))


_FUNCTIONS: dict[str, Callable[[float, ScheduleConfig], float]] = {
    "one_cycle": one_cycle,
    "triangular2": triangular2,
    "cosine": cosine,
    "constant": lambda progress, config: 1.0,
    "one_cycle+triangular2": one_cycle_then_triangular2,
}


def compute_peak_fraction(config: ScheduleConfig, progress: float) -> float:
    """Return the learning rate as a fraction of its peak; progress is clipped to [0, 1]."""
    return _FUNCTIONS[config.policy](min(max(progress, 0.0), 1.0), config)


def _half_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * part))
