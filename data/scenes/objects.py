"""Random toys, furniture and other objects with moving parts, as figures of limbs; their side is towards the viewer."""

from collections.abc import Callable

import numpy as np

from data.scenes.materials import bare_metal, painted, rubber
from data.scenes.parts import Figure, Part, ball, rod, slab, turned, vector
from data.scenes.textures import draw_colour, plain_material, rgb
from data.scenes.vehicles import bicycle, car, plane, pram

STILL = np.eye(3, dtype=np.float32)


def thing(rng: np.random.Generator) -> Figure:
    """A random object."""
    return MAKERS[str(rng.choice(list(MAKERS)))](rng)


def _chair(rng: np.random.Generator) -> Figure:
    cloth, legs = painted(rng), painted(rng, shine=0.3)
    parts: list[Part] = [
        slab(cloth, (0, 0.45, 0), (0.24, 0.03, 0.24)),
        slab(cloth, (-0.23, 0.75, 0), (0.03, 0.25, 0.22), roll=float(rng.uniform(0, 0.2))),
    ]
    parts += [rod(legs, (x, 0.43, z), (x * 1.1, 0.0, z * 1.1), 0.025) for x in (-0.2, 0.2) for z in (-0.2, 0.2)]
    if rng.random() < 0.5:
        parts += [rod(legs, (-0.22, 0.66, z), (0.2, 0.66, z), 0.025) for z in (-0.23, 0.23)]
    return Figure(name="chair", parts=tuple(parts), height_m=float(rng.uniform(0.9, 1.1)))


def _teddy(rng: np.random.Generator) -> Figure:
    fur, pale = painted(rng, shine=0.0), painted(rng, shine=0.0)
    dark = plain_material(rgb(0.05, 0.05, 0.05), rng, grain=0.0, shine=0.5)
    parts: list[Part] = [
        ball(fur, (0, 0.35, 0), (0.22, 0.26, 0.19)),
        ball(pale, (0, 0.33, -0.1), (0.15, 0.18, 0.12)),
        ball(fur, (0, 0.74, 0), (0.2, 0.18, 0.18)),
        ball(pale, (0, 0.69, -0.15), (0.09, 0.07, 0.08)),
        ball(dark, (0, 0.72, -0.23), (0.03, 0.02, 0.02)),
    ]
    for side in (-1, 1):
        parts += [
            ball(fur, (side * 0.16, 0.9, 0), (0.075, 0.075, 0.04)),
            ball(dark, (side * 0.07, 0.79, -0.16), (0.025, 0.025, 0.02)),
        ]
        up = float(rng.uniform(-0.2, 0.25))
        parts.append(rod(fur, (side * 0.18, 0.5, 0), (side * 0.38, 0.4 + up, -0.08), 0.08, 0.07))
        parts.append(
            rod(fur, (side * 0.13, 0.18, -0.02), (side * 0.24, 0.08, -float(rng.uniform(0.0, 0.3))), 0.1, 0.095)
        )
    return Figure(name="teddy", parts=tuple(parts), height_m=float(rng.uniform(0.5, 1.2)))


def _guitar(rng: np.random.Generator) -> Figure:
    wood, dark, top = (
        painted(rng, shine=0.4),
        plain_material(rgb(0.12, 0.08, 0.06), rng, grain=0.2),
        plain_material(draw_colour(rng, (0.04, 0.1), (0.3, 0.8), (0.5, 0.9)), rng),
    )
    parts: list[Part] = [
        ball(wood, (0, 0.2, 0), (0.21, 0.19, 0.07)),
        ball(wood, (0, 0.42, 0), (0.16, 0.15, 0.065)),
        ball(top, (0, 0.22, -0.04), (0.17, 0.16, 0.05)),
        ball(dark, (0, 0.32, -0.065), (0.06, 0.06, 0.02)),
        slab(dark, (0, 0.72, -0.05), (0.028, 0.3, 0.015)),
        slab(wood, (0, 1.06, -0.05), (0.045, 0.07, 0.015)),
        slab(dark, (0, 0.14, -0.08), (0.07, 0.015, 0.012)),
    ]
    tilt = turned(roll=float(rng.uniform(-1.2, 1.2)))
    return Figure(name="guitar", parts=tuple(part.moved(tilt, vector(0, 0, 0)) for part in parts), height_m=1.0)


def _robot(rng: np.random.Generator) -> Figure:
    steel, trim, eye = (
        painted(rng, shine=0.4),
        painted(rng, shine=0.4),
        plain_material(draw_colour(rng, saturation=(0.6, 1.0), value=(0.9, 1.0)), rng, glow=0.6),
    )
    parts: list[Part] = [
        slab(steel, (0, 0.52, 0), (0.17, 0.19, 0.12)),
        slab(trim, (0, 0.54, -0.12), (0.1, 0.08, 0.02)),
        slab(steel, (0, 0.85, 0), (0.13, 0.1, 0.11)),
        rod(trim, (0, 0.7, 0), (0, 0.78, 0), 0.05),
        rod(trim, (0, 0.95, 0), (0, 1.05, 0), 0.012),
        ball(eye, (0, 1.06, 0), (0.025, 0.025, 0.025)),
    ]
    for side in (-1, 1):
        parts.append(ball(eye, (side * 0.055, 0.87, -0.11), (0.03, 0.03, 0.02)))
        lift, swing = float(rng.uniform(-0.9, 1.2)), float(rng.uniform(-0.3, 0.3))
        elbow = (side * (0.22 + 0.16 * float(np.cos(lift))), 0.64 + 0.16 * float(np.sin(lift)), 0.0)
        parts += [
            rod(trim, (side * 0.2, 0.64, 0), elbow, 0.05, 0.04),
            rod(steel, elbow, (elbow[0] + side * 0.05, elbow[1] - 0.1, -0.14), 0.045),
        ]
        parts += [
            rod(trim, (side * 0.09, 0.34, 0), (side * 0.1, 0.1, swing * 0.5), 0.055),
            slab(steel, (side * 0.1, 0.05, swing * 0.5 - 0.03), (0.07, 0.045, 0.1)),
        ]
    return Figure(name="robot", parts=tuple(parts), height_m=float(rng.uniform(0.8, 1.8)))


def _suitcase(rng: np.random.Generator) -> Figure:
    shell, metal, tyre = painted(rng, shine=0.3), bare_metal(rng), rubber(rng)
    wide, high = float(rng.uniform(0.2, 0.34)), float(rng.uniform(0.3, 0.42))
    parts: list[Part] = [
        slab(shell, (0, high + 0.08, 0), (wide, high, 0.13)),
        slab(metal, (0, high + 0.08, -0.12), (wide * 1.01, 0.015, 0.02)),
    ]
    parts += [rod(metal, (x, high * 2, 0.1), (x, high * 2 + 0.3, 0.1), 0.014) for x in (-0.1, 0.1)]
    parts.append(rod(tyre, (-0.1, high * 2 + 0.3, 0.1), (0.1, high * 2 + 0.3, 0.1), 0.022))
    parts += [ball(tyre, (x, 0.05, z), (0.05, 0.05, 0.03)) for x in (-wide * 0.8, wide * 0.8) for z in (-0.1, 0.1)]
    return Figure(name="suitcase", parts=tuple(parts), height_m=float(rng.uniform(0.6, 1.0)))


MAKERS: dict[str, Callable[[np.random.Generator], Figure]] = {
    "car": car,
    "bicycle": bicycle,
    "chair": _chair,
    "teddy": _teddy,
    "guitar": _guitar,
    "plane": plane,
    "robot": _robot,
    "pram": pram,
    "suitcase": _suitcase,
}
