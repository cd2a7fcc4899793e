"""Random poses of people, as angles of their joints."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Angles in radians, left then right. Forward is positive; `out` is away from the body."""

    thigh: tuple[float, float]
    knee: tuple[float, float]
    arm: tuple[float, float]
    elbow: tuple[float, float]
    arm_out: tuple[float, float] = (0.15, 0.15)
    leg_out: float = 0.05
    lean: float = 0.0


def _standing(rng: np.random.Generator) -> Pose:
    swing = rng.uniform(-0.15, 0.25, 4).tolist()
    return Pose(
        thigh=(swing[0] * 0.5, swing[1] * 0.5),
        knee=(0.05, 0.1),
        arm=(swing[2], swing[3]),
        elbow=tuple(rng.uniform(0.05, 1.6, 2).tolist()),
        arm_out=tuple(rng.uniform(0.1, 0.6, 2).tolist()),
        leg_out=float(rng.uniform(0.02, 0.2)),
    )


def _striding(rng: np.random.Generator, reach: float) -> Pose:
    sign = float(rng.choice([-1, 1]))
    thigh = (sign * reach, -sign * reach * 0.7)
    bend = 0.2 + reach
    knee = (0.15, bend) if sign > 0 else (bend, 0.15)
    elbow = 0.3 + 1.4 * reach
    return Pose(thigh=thigh, knee=knee, arm=(-thigh[0], -thigh[1]), elbow=(elbow, elbow), lean=0.25 * reach)


def _walking(rng: np.random.Generator) -> Pose:
    return _striding(rng, float(rng.uniform(0.2, 0.5)))


def _running(rng: np.random.Generator) -> Pose:
    return _striding(rng, float(rng.uniform(0.6, 1.0)))


def _sitting(rng: np.random.Generator) -> Pose:
    thigh = tuple(rng.uniform(1.25, 1.6, 2).tolist())
    return Pose(
        thigh=thigh,
        knee=tuple(rng.uniform(1.0, 1.7, 2).tolist()),
        arm=tuple(rng.uniform(0.1, 0.9, 2).tolist()),
        elbow=tuple(rng.uniform(0.6, 1.6, 2).tolist()),
        leg_out=float(rng.uniform(0.02, 0.35)),
        lean=float(rng.uniform(-0.1, 0.3)),
    )


def _waving(rng: np.random.Generator) -> Pose:
    up = float(rng.uniform(2.2, 3.0))
    return Pose(
        thigh=(0.1, -0.1),
        knee=(0.1, 0.1),
        arm=(0.1, up),
        elbow=(0.3, float(rng.uniform(0.0, 0.7))),
        arm_out=(0.2, float(rng.uniform(0.1, 0.5))),
    )


def _stretching(rng: np.random.Generator) -> Pose:
    out = float(rng.uniform(0.8, 1.5))
    return Pose(
        thigh=tuple(rng.uniform(-0.3, 0.8, 2).tolist()),
        knee=tuple(rng.uniform(0.0, 1.2, 2).tolist()),
        arm=tuple(rng.uniform(-0.4, 2.8, 2).tolist()),
        elbow=tuple(rng.uniform(0, 0.8, 2).tolist()),
        arm_out=(out, out),
        leg_out=float(rng.uniform(0.1, 0.6)),
        lean=float(rng.uniform(-0.2, 0.5)),
    )


POSES = {
    "standing": _standing,
    "walking": _walking,
    "running": _running,
    "sitting": _sitting,
    "waving": _waving,
    "stretching": _stretching,
}
