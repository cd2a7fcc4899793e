"""Furniture and other things that stand in rooms. Lengths in metres, angles in radians.

Each maker draws one piece at x and z on the floor, turned by `yaw`.
"""

import numpy as np

from data.scenes.solids import Box, Ellipsoid, Frustum, Solid
from data.scenes.textures import Material, darker, draw_colour, plain_material, rgb


def _stuff(rng: np.random.Generator, patterned: float = 0.5) -> Material:
    """Painted wood, cloth or plastic of any colour."""
    first, second = (
        draw_colour(rng, saturation=(0.0, 0.8), value=(0.15, 0.95)),
        draw_colour(rng, saturation=(0.0, 0.8), value=(0.15, 0.95)),
    )
    pattern = (
        str(rng.choice(["stripes", "plaid", "spots", "checker", "cloudy"])) if rng.random() < patterned else "plain"
    )
    return Material(
        colours=(first, second),
        pattern=pattern,
        period=float(rng.uniform(0.15, 0.5)),
        grain=0.3,
        shine=float(rng.choice([0.0, 0.15])),
    )


def _wood(rng: np.random.Generator) -> Material:
    wood = draw_colour(rng, (0.03, 0.11), (0.1, 0.6), (0.25, 0.85))
    return Material(colours=(wood, darker(wood, 0.5)), pattern="planks", period=1.8, grain=0.4, vary=0.2, shine=0.1)


def _block(
    material: Material,
    place: tuple[float, float, float],
    yaw: float,
    middle: tuple[float, float, float],
    half: tuple[float, float, float],
) -> Box:
    """A box at `middle` in the frame of a piece of furniture that stands at `place`, turned by `yaw`."""
    cos, sin = float(np.cos(yaw)), float(np.sin(yaw))
    x, y, z = middle
    centre = (place[0] + x * cos + z * sin, place[1] + y, place[2] - x * sin + z * cos)
    return Box(material=material, centre=centre, half=half, yaw=yaw)


def _shelf(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    wood, half = _wood(rng), float(rng.uniform(0.4, 0.8))
    at, height = (x, 0.0, z), float(rng.uniform(1.4, 2.2))
    solids: list[Solid] = [
        _block(wood, at, yaw, (side * half, height / 2, 0.0), (0.025, height / 2, 0.15)) for side in (-1, 1)
    ]
    for level in np.linspace(0.06, height, 5).tolist():
        solids.append(_block(wood, at, yaw, (0.0, level, 0.0), (half, 0.02, 0.15)))
        if level < height - 0.1 and rng.random() < 0.8:
            books = Material(
                colours=(draw_colour(rng), draw_colour(rng)), pattern="stripes", period=0.09, grain=0.3, vary=0.8
            )
            tall, wide = float(rng.uniform(0.1, 0.16)), float(rng.uniform(0.4, 0.95)) * half
            solids.append(_block(books, at, yaw, (half - wide - 0.03, level + 0.02 + tall, 0.0), (wide, tall, 0.11)))
    return solids


def _cabinet(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    half, height = float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.35, 1.0))
    front = Material(
        colours=(_stuff(rng).colours[0], rgb(0.1, 0.1, 0.1)), pattern="tiles", period=half * 0.66, grain=0.2, shine=0.1
    )
    solids: list[Solid] = [_block(front, (x, 0.0, z), yaw, (0.0, height / 2, 0.0), (half, height / 2, 0.28))]
    if rng.random() < 0.7:
        solids.append(_block(_stuff(rng), (x, height, z), yaw, (rng.uniform(-0.2, 0.2), 0.2, 0.0), (0.3, 0.2, 0.05)))
    if rng.random() < 0.7:
        solids += _vase(rng, x, z, height)
    return solids


def _sofa(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    cloth, at, half = _stuff(rng), (x, 0.0, z - 0.15 * np.cos(yaw)), float(rng.uniform(0.6, 1.1))
    blocks = [((0.0, 0.22, 0.0), (half, 0.22, 0.4)), ((0.0, 0.55, 0.3), (half, 0.3, 0.1))]
    blocks += [((side * half, 0.33, 0.0), (0.1, 0.33, 0.4)) for side in (-1, 1)]
    return [_block(cloth, at, yaw, middle, size) for middle, size in blocks]


def _bed(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    at = (x * 0.7, 0.0, min(z, z - 0.6 * float(np.cos(yaw))))
    return [
        _block(_wood(rng), at, yaw, (0.0, 0.17, 0.0), (0.75, 0.17, 0.95)),
        _block(_stuff(rng), at, yaw, (0.0, 0.42, -0.1), (0.72, 0.1, 0.85)),
        _block(plain_material(rgb(0.9, 0.9, 0.92), rng), at, yaw, (0.0, 0.57, 0.7), (0.5, 0.07, 0.2)),
    ]


def _table(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    wood, at = _wood(rng) if rng.random() < 0.6 else _stuff(rng, 0.1), (x, 0.0, z)
    wide, deep, height = float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.4, 0.8))
    legs = [(sx * (wide - 0.05), height / 2, sz * (deep - 0.05)) for sx in (-1, 1) for sz in (-1, 1)]
    solids: list[Solid] = [_block(wood, at, yaw, (0.0, height, 0.0), (wide, 0.025, deep))]
    solids += [_block(wood, at, yaw, leg, (0.03, height / 2, 0.03)) for leg in legs]
    if rng.random() < 0.6:
        solids += _vase(rng, x, z, height + 0.025)
    return solids


def _vase(rng: np.random.Generator, x: float, z: float, level: float) -> list[Solid]:
    glaze = _stuff(rng)
    return [
        Ellipsoid(material=glaze, centre=(x, level + 0.14, z), radii=(0.1, 0.14, 0.1)),
        Frustum(material=glaze, centre=(x, level + 0.2, z), foot=0.05, top=0.07, height=0.16),
    ]


def _stool(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    seat, height = _stuff(rng), float(rng.uniform(0.4, 0.7))
    legs: list[Solid] = [
        Frustum(
            material=_wood(rng),
            centre=(x + 0.13 * float(np.cos(a)), 0.0, z + 0.13 * float(np.sin(a))),
            foot=0.025,
            top=0.025,
            height=height,
        )
        for a in (yaw, yaw + 2.1, yaw + 4.2)
    ]
    return [Frustum(material=seat, centre=(x, height, z), foot=0.2, top=0.2, height=0.06), *legs]


def _plant(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    leaf, size = draw_colour(rng, (0.2, 0.4), (0.3, 0.7), (0.25, 0.6)), float(rng.uniform(0.22, 0.45))
    leaves = Material(colours=(leaf, darker(leaf, 0.35)), pattern="cloudy", period=size, grain=0.9)
    return [
        Frustum(material=_stuff(rng, 0.2), centre=(x, 0.0, z), foot=size * 0.4, top=size * 0.6, height=size * 1.1),
        Ellipsoid(material=leaves, centre=(x, size * 2.1, z), radii=(size, size * 1.3, size), ragged=0.9),
    ]


def _floor_lamp(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    shade = plain_material(draw_colour(rng, (0.08, 0.16), (0.1, 0.5), (0.8, 1.0)), rng, glow=0.6)
    metal, height = (
        plain_material(draw_colour(rng, saturation=(0.0, 0.2)), rng, shine=0.3),
        float(rng.uniform(1.2, 1.7)),
    )
    return [
        Frustum(material=metal, centre=(x, 0.0, z), foot=0.02, top=0.02, height=height, casts=False),
        Frustum(material=metal, centre=(x, 0.0, z), foot=0.15, top=0.13, height=0.03),
        Frustum(material=shade, centre=(x, height - 0.1, z), foot=0.22, top=0.13, height=0.3, casts=False),
    ]


def _column(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    radius = float(rng.uniform(0.12, 0.25))
    return [Frustum(material=_stuff(rng, 0.3), centre=(x, 0.0, z + 0.5), foot=radius, top=radius, height=4.0)]


def _ball(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    radius = float(rng.uniform(0.12, 0.3))
    return [Ellipsoid(material=_stuff(rng, 0.7), centre=(x, radius, z), radii=(radius, radius, radius))]


def _carton(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    half = tuple(rng.uniform(0.15, 0.4, 3).tolist())
    return [Box(material=_stuff(rng, 0.4), centre=(x, half[1], z), half=half, yaw=yaw)]


AT_WALL = {
    "shelf": _shelf,
    "cabinet": _cabinet,
    "sofa": _sofa,
    "bed": _bed,
    "table": _table,
    "plant": _plant,
    "lamp": _floor_lamp,
}


STANDING = {
    "table": _table,
    "stool": _stool,
    "plant": _plant,
    "lamp": _floor_lamp,
    "column": _column,
    "ball": _ball,
    "carton": _carton,
}
