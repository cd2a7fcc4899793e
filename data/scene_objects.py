"""Random objects with moving parts: vehicles, furniture, toys, as figures of limbs. Their side is towards the viewer."""

from collections.abc import Callable

import numpy as np

from data.scene_figures import Ball, Figure, Limb, Part, Slab, turned, vector
from data.scene_textures import Material, draw_colour, plain_material, rgb

STILL = np.eye(3, dtype=np.float32)


def thing(rng: np.random.Generator) -> Figure:
    """A random object."""
    return MAKERS[str(rng.choice(list(MAKERS)))](rng)


def _paint(rng: np.random.Generator, period: float = 0.15, shine: float = 0.15) -> Material:
    first, second = (draw_colour(rng, saturation=(0.0, 0.95), value=(0.1, 0.98)) for _ in range(2))
    pattern = str(rng.choice(["plain", "plain", "plain", "stripes", "checker", "spots", "plaid"]))
    offset = tuple(rng.uniform(0, 50, 2).tolist())
    return Material(colours=(first, second), pattern=pattern, period=period, grain=0.2, turn=float(rng.choice([0.0, np.pi / 2, 0.7])), offset=offset, shine=shine)


def _slab(material: Material, centre: tuple[float, float, float], half: tuple[float, float, float], roll: float = 0.0) -> Slab:
    return Slab(centre=vector(*centre), half=vector(*half), material=material, axes=turned(roll=roll))


def _ball(material: Material, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Ball:
    return Ball(centre=vector(*centre), radii=vector(*radii), material=material, axes=STILL)


def _rod(material: Material, start: tuple[float, float, float], end: tuple[float, float, float], thick: float, thin: float | None = None) -> Limb:
    return Limb(start=vector(*start), end=vector(*end), thick=thick, thin=thick if thin is None else thin, material=material)


def _rubber(rng: np.random.Generator) -> Material:
    return plain_material(rgb(0.15, 0.15, 0.16), rng, grain=0.2, period=0.2)


def _metal(rng: np.random.Generator) -> Material:
    return plain_material(rgb(*(float(rng.uniform(0.45, 0.85)),) * 3), rng, grain=0.1, shine=0.5)


def _wheel(tyre: Material, hub: Material, x: float, y: float, z: float, radius: float) -> list[Part]:
    return [_ball(tyre, (x, y, z), (radius, radius, 0.06)), _ball(hub, (x, y, z), (radius * 0.55, radius * 0.55, 0.075))]


def _ring(material: Material, x: float, y: float, radius: float, thick: float) -> list[Part]:
    angles = np.linspace(0, 2 * np.pi, 13).tolist()
    points = [(x + radius * float(np.cos(a)), y + radius * float(np.sin(a)), 0.0) for a in angles]
    return [_rod(material, start, end, thick) for start, end in zip(points, points[1:], strict=False)]


def _car(rng: np.random.Generator) -> Figure:
    paint, glass = _paint(rng, shine=0.4), plain_material(rgb(0.25, 0.32, 0.38), rng, grain=0.05, shine=0.5)
    tyre, hub = _rubber(rng), _metal(rng)
    high, cabin = float(rng.uniform(0.13, 0.18)), float(rng.uniform(0.2, 0.34))
    parts: list[Part] = [
        _slab(paint, (0, 0.28, 0), (0.62, high, 0.26)),
        _slab(glass, (-0.06, 0.28 + high + 0.12, 0), (cabin, 0.13, 0.22)),
        _slab(paint, (-0.06, 0.28 + high + 0.25, 0), (cabin * 0.95, 0.03, 0.22)),
        _rod(paint, (-0.06 + cabin, 0.28 + high + 0.24, 0.2), (cabin + 0.12, 0.28 + high, 0.2), 0.025),
        _rod(paint, (-0.06 + cabin, 0.28 + high + 0.24, -0.2), (cabin + 0.12, 0.28 + high, -0.2), 0.025),
        _ball(plain_material(rgb(0.98, 0.95, 0.8), rng, glow=0.3), (0.62, 0.3, -0.17), (0.03, 0.05, 0.05)),
        _ball(plain_material(rgb(0.8, 0.1, 0.1), rng), (-0.62, 0.3, -0.17), (0.03, 0.05, 0.05)),
    ]
    for x in (-0.37, 0.37):
        for z in (-0.25, 0.25):
            parts += _wheel(tyre, hub, x, 0.15, z, 0.15)
    return Figure(name="car", parts=tuple(parts), height_m=float(rng.uniform(2.2, 2.8)))


def _bicycle(rng: np.random.Generator) -> Figure:
    frame, tyre = _paint(rng, shine=0.4), _rubber(rng)
    pedal, seat, head, back, front = (0.0, 0.3, 0.0), (-0.12, 0.66, 0.0), (0.3, 0.68, 0.0), (-0.42, 0.3, 0.0), (0.42, 0.3, 0.0)
    joints = ((pedal, seat), (pedal, head), (seat, head), (back, pedal), (back, seat), (head, front))
    parts: list[Part] = [_rod(frame, start, end, 0.022) for start, end in joints]
    for x, y, _ in (back, front):
        parts += _ring(tyre, x, y, 0.28, 0.022)
        parts += [_rod(_metal(rng), (x - 0.27 * c, y - 0.27 * s, 0), (x + 0.27 * c, y + 0.27 * s, 0), 0.007) for c, s in ((1.0, 0.0), (0.5, 0.87), (-0.5, 0.87))]
    parts += [_rod(tyre, (-0.2, 0.69, 0), (-0.02, 0.69, 0), 0.04, 0.025), _rod(tyre, (0.28, 0.8, -0.2), (0.28, 0.8, 0.2), 0.02)]
    parts.append(_rod(frame, head, (0.28, 0.8, 0), 0.02))
    return Figure(name="bicycle", parts=tuple(parts), height_m=float(rng.uniform(1.2, 1.5)))


def _chair(rng: np.random.Generator) -> Figure:
    cloth, legs = _paint(rng), _paint(rng, shine=0.3)
    parts: list[Part] = [_slab(cloth, (0, 0.45, 0), (0.24, 0.03, 0.24)), _slab(cloth, (-0.23, 0.75, 0), (0.03, 0.25, 0.22), roll=float(rng.uniform(0, 0.2)))]
    parts += [_rod(legs, (x, 0.43, z), (x * 1.1, 0.0, z * 1.1), 0.025) for x in (-0.2, 0.2) for z in (-0.2, 0.2)]
    if rng.random() < 0.5:
        parts += [_rod(legs, (-0.22, 0.66, z), (0.2, 0.66, z), 0.025) for z in (-0.23, 0.23)]
    return Figure(name="chair", parts=tuple(parts), height_m=float(rng.uniform(0.9, 1.1)))


def _teddy(rng: np.random.Generator) -> Figure:
    fur, pale = _paint(rng, shine=0.0), _paint(rng, shine=0.0)
    dark = plain_material(rgb(0.05, 0.05, 0.05), rng, grain=0.0, shine=0.5)
    parts: list[Part] = [
        _ball(fur, (0, 0.35, 0), (0.22, 0.26, 0.19)), _ball(pale, (0, 0.33, -0.1), (0.15, 0.18, 0.12)), _ball(fur, (0, 0.74, 0), (0.2, 0.18, 0.18)),
        _ball(pale, (0, 0.69, -0.15), (0.09, 0.07, 0.08)), _ball(dark, (0, 0.72, -0.23), (0.03, 0.02, 0.02)),
    ]  # fmt: skip
    for side in (-1, 1):
        parts += [_ball(fur, (side * 0.16, 0.9, 0), (0.075, 0.075, 0.04)), _ball(dark, (side * 0.07, 0.79, -0.16), (0.025, 0.025, 0.02))]
        up = float(rng.uniform(-0.2, 0.25))
        parts.append(_rod(fur, (side * 0.18, 0.5, 0), (side * 0.38, 0.4 + up, -0.08), 0.08, 0.07))
        parts.append(_rod(fur, (side * 0.13, 0.18, -0.02), (side * 0.24, 0.08, -float(rng.uniform(0.0, 0.3))), 0.1, 0.095))
    return Figure(name="teddy", parts=tuple(parts), height_m=float(rng.uniform(0.5, 1.2)))


def _guitar(rng: np.random.Generator) -> Figure:
    wood, dark, top = _paint(rng, shine=0.4), plain_material(rgb(0.12, 0.08, 0.06), rng, grain=0.2), plain_material(draw_colour(rng, (0.04, 0.1), (0.3, 0.8), (0.5, 0.9)), rng)
    parts: list[Part] = [
        _ball(wood, (0, 0.2, 0), (0.21, 0.19, 0.07)), _ball(wood, (0, 0.42, 0), (0.16, 0.15, 0.065)), _ball(top, (0, 0.22, -0.04), (0.17, 0.16, 0.05)),
        _ball(dark, (0, 0.32, -0.065), (0.06, 0.06, 0.02)), _slab(dark, (0, 0.72, -0.05), (0.028, 0.3, 0.015)), _slab(wood, (0, 1.06, -0.05), (0.045, 0.07, 0.015)),
        _slab(dark, (0, 0.14, -0.08), (0.07, 0.015, 0.012)),
    ]  # fmt: skip
    tilt = turned(roll=float(rng.uniform(-1.2, 1.2)))
    return Figure(name="guitar", parts=tuple(part.moved(tilt, vector(0, 0, 0)) for part in parts), height_m=1.0)


def _plane(rng: np.random.Generator) -> Figure:
    paint, trim, glass = _paint(rng, shine=0.3), _paint(rng), plain_material(rgb(0.2, 0.28, 0.35), rng, shine=0.6)
    parts: list[Part] = [
        _rod(paint, (-0.5, 0.04, 0), (0.35, 0, 0), 0.05, 0.1), _ball(paint, (0.38, 0, 0), (0.2, 0.1, 0.1)), _ball(glass, (0.3, 0.08, 0), (0.1, 0.06, 0.06)),
        _slab(trim, (-0.48, 0.14, 0), (0.08, 0.12, 0.015), roll=0.3), _slab(trim, (-0.48, 0.06, 0), (0.07, 0.012, 0.2)),
    ]  # fmt: skip
    sweep, rise = float(rng.uniform(0.0, 0.35)), float(rng.uniform(0.0, 0.12))
    parts += [Limb(start=vector(0.08, -0.02, side * 0.08), end=vector(0.08 - sweep, rise, side * 0.7), thick=0.05, thin=0.03, material=trim) for side in (-1, 1)]
    tilt = turned(yaw=float(rng.uniform(-0.6, 0.6)), pitch=float(rng.uniform(-0.6, 0.6)))
    return Figure(name="plane", parts=tuple(part.moved(tilt, vector(0, 0, 0)) for part in parts), height_m=float(rng.uniform(2.0, 4.0)))


def _robot(rng: np.random.Generator) -> Figure:
    steel, trim, eye = _paint(rng, shine=0.4), _paint(rng, shine=0.4), plain_material(draw_colour(rng, saturation=(0.6, 1.0), value=(0.9, 1.0)), rng, glow=0.6)
    parts: list[Part] = [
        _slab(steel, (0, 0.52, 0), (0.17, 0.19, 0.12)), _slab(trim, (0, 0.54, -0.12), (0.1, 0.08, 0.02)), _slab(steel, (0, 0.85, 0), (0.13, 0.1, 0.11)),
        _rod(trim, (0, 0.7, 0), (0, 0.78, 0), 0.05), _rod(trim, (0, 0.95, 0), (0, 1.05, 0), 0.012), _ball(eye, (0, 1.06, 0), (0.025, 0.025, 0.025)),
    ]  # fmt: skip
    for side in (-1, 1):
        parts.append(_ball(eye, (side * 0.055, 0.87, -0.11), (0.03, 0.03, 0.02)))
        lift, swing = float(rng.uniform(-0.9, 1.2)), float(rng.uniform(-0.3, 0.3))
        elbow = (side * (0.22 + 0.16 * float(np.cos(lift))), 0.64 + 0.16 * float(np.sin(lift)), 0.0)
        parts += [_rod(trim, (side * 0.2, 0.64, 0), elbow, 0.05, 0.04), _rod(steel, elbow, (elbow[0] + side * 0.05, elbow[1] - 0.1, -0.14), 0.045)]
        parts += [_rod(trim, (side * 0.09, 0.34, 0), (side * 0.1, 0.1, swing * 0.5), 0.055), _slab(steel, (side * 0.1, 0.05, swing * 0.5 - 0.03), (0.07, 0.045, 0.1))]
    return Figure(name="robot", parts=tuple(parts), height_m=float(rng.uniform(0.8, 1.8)))


def _pram(rng: np.random.Generator) -> Figure:
    cloth, metal, tyre = _paint(rng), _metal(rng), _rubber(rng)
    parts: list[Part] = [
        _ball(cloth, (0, 0.55, 0), (0.38, 0.2, 0.2)), _ball(cloth, (-0.2, 0.66, 0), (0.24, 0.24, 0.21)),
        _rod(metal, (0.3, 0.6, -0.15), (0.62, 0.95, -0.15), 0.02), _rod(metal, (0.3, 0.6, 0.15), (0.62, 0.95, 0.15), 0.02), _rod(tyre, (0.62, 0.95, -0.17), (0.62, 0.95, 0.17), 0.03),
    ]  # fmt: skip
    for z in (-0.18, 0.18):
        parts += [_rod(metal, (-0.25, 0.15, z), (0.2, 0.5, z), 0.018), _rod(metal, (0.25, 0.15, z), (-0.2, 0.5, z), 0.018)]
        for x in (-0.27, 0.27):
            parts += _wheel(tyre, metal, x, 0.14, z, 0.14)
    return Figure(name="pram", parts=tuple(parts), height_m=1.1)


def _suitcase(rng: np.random.Generator) -> Figure:
    shell, metal, tyre = _paint(rng, shine=0.3), _metal(rng), _rubber(rng)
    wide, high = float(rng.uniform(0.2, 0.34)), float(rng.uniform(0.3, 0.42))
    parts: list[Part] = [_slab(shell, (0, high + 0.08, 0), (wide, high, 0.13)), _slab(metal, (0, high + 0.08, -0.12), (wide * 1.01, 0.015, 0.02))]
    parts += [_rod(metal, (x, high * 2, 0.1), (x, high * 2 + 0.3, 0.1), 0.014) for x in (-0.1, 0.1)]
    parts.append(_rod(tyre, (-0.1, high * 2 + 0.3, 0.1), (0.1, high * 2 + 0.3, 0.1), 0.022))
    parts += [_ball(tyre, (x, 0.05, z), (0.05, 0.05, 0.03)) for x in (-wide * 0.8, wide * 0.8) for z in (-0.1, 0.1)]
    return Figure(name="suitcase", parts=tuple(parts), height_m=float(rng.uniform(0.6, 1.0)))


MAKERS: dict[str, Callable[[np.random.Generator], Figure]] = {
    "car": _car, "bicycle": _bicycle, "chair": _chair, "teddy": _teddy, "guitar": _guitar, "plane": _plane, "robot": _robot,
    "pram": _pram, "suitcase": _suitcase,
}  # fmt: skip
