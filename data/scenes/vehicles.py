"""Random vehicles, as figures of limbs; they drive to the right (x)."""

from itertools import pairwise

import numpy as np

from data.scenes.materials import bare_metal, painted, rubber
from data.scenes.parts import Figure, Limb, Part, ball, rod, slab, turned, vector
from data.scenes.textures import Material, plain_material, rgb


def car(rng: np.random.Generator) -> Figure:
    """A car."""
    paint, glass = painted(rng, shine=0.4), plain_material(rgb(0.25, 0.32, 0.38), rng, grain=0.05, shine=0.5)
    tyre, hub = rubber(rng), bare_metal(rng)
    high, cabin = float(rng.uniform(0.13, 0.18)), float(rng.uniform(0.2, 0.34))
    parts: list[Part] = [
        slab(paint, (0, 0.28, 0), (0.62, high, 0.26)),
        slab(glass, (-0.06, 0.28 + high + 0.12, 0), (cabin, 0.13, 0.22)),
        slab(paint, (-0.06, 0.28 + high + 0.25, 0), (cabin * 0.95, 0.03, 0.22)),
        rod(paint, (-0.06 + cabin, 0.28 + high + 0.24, 0.2), (cabin + 0.12, 0.28 + high, 0.2), 0.025),
        rod(paint, (-0.06 + cabin, 0.28 + high + 0.24, -0.2), (cabin + 0.12, 0.28 + high, -0.2), 0.025),
        ball(plain_material(rgb(0.98, 0.95, 0.8), rng, glow=0.3), (0.62, 0.3, -0.17), (0.03, 0.05, 0.05)),
        ball(plain_material(rgb(0.8, 0.1, 0.1), rng), (-0.62, 0.3, -0.17), (0.03, 0.05, 0.05)),
    ]
    for x in (-0.37, 0.37):
        for z in (-0.25, 0.25):
            parts += _wheel(tyre, hub, x, 0.15, z, 0.15)
    return Figure(name="car", parts=tuple(parts), height_m=float(rng.uniform(2.2, 2.8)))


def bicycle(rng: np.random.Generator) -> Figure:
    """A bicycle."""
    frame, tyre = painted(rng, shine=0.4), rubber(rng)
    pedal, seat, head, back, front = (
        (0.0, 0.3, 0.0),
        (-0.12, 0.66, 0.0),
        (0.3, 0.68, 0.0),
        (-0.42, 0.3, 0.0),
        (0.42, 0.3, 0.0),
    )
    joints = ((pedal, seat), (pedal, head), (seat, head), (back, pedal), (back, seat), (head, front))
    parts: list[Part] = [rod(frame, start, end, 0.022) for start, end in joints]
    for x, y, _ in (back, front):
        parts += _ring(tyre, x, y, 0.28, 0.022)
        parts += [
            rod(bare_metal(rng), (x - 0.27 * c, y - 0.27 * s, 0), (x + 0.27 * c, y + 0.27 * s, 0), 0.007)
            for c, s in ((1.0, 0.0), (0.5, 0.87), (-0.5, 0.87))
        ]
    parts += [
        rod(tyre, (-0.2, 0.69, 0), (-0.02, 0.69, 0), 0.04, 0.025),
        rod(tyre, (0.28, 0.8, -0.2), (0.28, 0.8, 0.2), 0.02),
    ]
    parts.append(rod(frame, head, (0.28, 0.8, 0), 0.02))
    return Figure(name="bicycle", parts=tuple(parts), height_m=float(rng.uniform(1.2, 1.5)))


def plane(rng: np.random.Generator) -> Figure:
    """An aeroplane, banking."""
    paint, trim, glass = painted(rng, shine=0.3), painted(rng), plain_material(rgb(0.2, 0.28, 0.35), rng, shine=0.6)
    parts: list[Part] = [
        rod(paint, (-0.5, 0.04, 0), (0.35, 0, 0), 0.05, 0.1),
        ball(paint, (0.38, 0, 0), (0.2, 0.1, 0.1)),
        ball(glass, (0.3, 0.08, 0), (0.1, 0.06, 0.06)),
        slab(trim, (-0.48, 0.14, 0), (0.08, 0.12, 0.015), roll=0.3),
        slab(trim, (-0.48, 0.06, 0), (0.07, 0.012, 0.2)),
    ]
    sweep, rise = float(rng.uniform(0.0, 0.35)), float(rng.uniform(0.0, 0.12))
    parts += [
        Limb(
            start=vector(0.08, -0.02, side * 0.08),
            end=vector(0.08 - sweep, rise, side * 0.7),
            thick=0.05,
            thin=0.03,
            material=trim,
        )
        for side in (-1, 1)
    ]
    tilt = turned(yaw=float(rng.uniform(-0.6, 0.6)), pitch=float(rng.uniform(-0.6, 0.6)))
    return Figure(
        name="plane",
        parts=tuple(part.moved(tilt, vector(0, 0, 0)) for part in parts),
        height_m=float(rng.uniform(2.0, 4.0)),
    )


def pram(rng: np.random.Generator) -> Figure:
    """A pram."""
    cloth, metal, tyre = painted(rng), bare_metal(rng), rubber(rng)
    parts: list[Part] = [
        ball(cloth, (0, 0.55, 0), (0.38, 0.2, 0.2)),
        ball(cloth, (-0.2, 0.66, 0), (0.24, 0.24, 0.21)),
        rod(metal, (0.3, 0.6, -0.15), (0.62, 0.95, -0.15), 0.02),
        rod(metal, (0.3, 0.6, 0.15), (0.62, 0.95, 0.15), 0.02),
        rod(tyre, (0.62, 0.95, -0.17), (0.62, 0.95, 0.17), 0.03),
    ]
    for z in (-0.18, 0.18):
        parts += [
            rod(metal, (-0.25, 0.15, z), (0.2, 0.5, z), 0.018),
            rod(metal, (0.25, 0.15, z), (-0.2, 0.5, z), 0.018),
        ]
        for x in (-0.27, 0.27):
            parts += _wheel(tyre, metal, x, 0.14, z, 0.14)
    return Figure(name="pram", parts=tuple(parts), height_m=1.1)


def _wheel(tyre: Material, hub: Material, x: float, y: float, z: float, radius: float) -> list[Part]:
    return [
        ball(tyre, (x, y, z), (radius, radius, 0.06)),
        ball(hub, (x, y, z), (radius * 0.55, radius * 0.55, 0.075)),
    ]


def _ring(material: Material, x: float, y: float, radius: float, thick: float) -> list[Part]:
    angles = np.linspace(0, 2 * np.pi, 13).tolist()
    points = [(x + radius * float(np.cos(a)), y + radius * float(np.sin(a)), 0.0) for a in angles]
    return [rod(material, start, end, thick) for start, end in pairwise(points)]
