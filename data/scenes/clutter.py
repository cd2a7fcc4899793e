"""What stands outdoors: plants, rocks, poles, boxes, huts. Lengths in metres, angles in radians.

Each maker draws one thing at a place (x, z) of the ground.
"""

import numpy as np

from data.scenes.solids import Box, Ellipsoid, Frustum, Solid
from data.scenes.textures import Colour, Material, darker, draw_colour, plain_material, rgb, somewhere

Place = tuple[float, float]


def facade(rng: np.random.Generator) -> Material:
    """A wall of a building, mostly with windows."""
    wall = draw_colour(rng, (0.0, 1.0), (0.05, 0.5), (0.45, 0.9))
    pane = draw_colour(rng, (0.55, 0.65), (0.1, 0.4), (0.15, 0.5))
    pattern = str(rng.choice(["windows", "windows", "windows", "bricks", "planks"]))
    period = float(rng.uniform(1.8, 3.2) if pattern == "windows" else rng.uniform(0.4, 1.0))
    return Material(
        colours=(wall, pane), pattern=pattern, period=period, grain=0.2, vary=0.3 if pattern != "windows" else 0.0
    )


def _surface(
    rng: np.random.Generator, colour: Colour, pattern: str = "plain", period: float = 0.6, dark: float = 0.5
) -> Material:
    second = darker(colour, dark)
    offset = somewhere(rng)
    return Material(
        colours=(colour, second),
        pattern=pattern,
        period=period,
        grain=float(rng.uniform(0.25, 0.5)),
        offset=offset,
        vary=0.4,
    )


def _tree(rng: np.random.Generator, at: Place) -> list[Solid]:
    x, z = at
    height = float(rng.uniform(2.5, 8))
    crown = float(height * rng.uniform(0.22, 0.36))
    stem = height - crown * 1.4
    bark = _surface(rng, draw_colour(rng, (0.04, 0.1), (0.2, 0.5), (0.25, 0.5)), "stripes", 0.15)
    leaf = (
        draw_colour(rng, (0.16, 0.36), (0.4, 0.75), (0.25, 0.6))
        if rng.random() < 0.8
        else draw_colour(rng, (0.0, 0.14), (0.5, 0.8), (0.5, 0.8))
    )
    leaves = Material(colours=(leaf, darker(leaf, 0.35)), pattern="cloudy", period=float(crown * 0.7), grain=0.9)
    solids: list[Solid] = [
        Frustum(material=bark, centre=(x, 0.0, z), foot=height * 0.045, top=height * 0.025, height=stem)
    ]
    for _ in range(int(rng.integers(2, 5))):
        shift = rng.normal(0, 0.45, 3) * crown
        radii = tuple((crown * rng.uniform(0.65, 1.0, 3) * [1, 0.85, 1]).tolist())
        middle = (float(x + shift[0]), float(stem + crown * 0.5 + shift[1] * 0.6), float(z + shift[2]))
        solids.append(Ellipsoid(material=leaves, centre=middle, radii=radii, ragged=0.7))
    return solids


def _conifer(rng: np.random.Generator, at: Place) -> list[Solid]:
    x, z = at
    height = float(rng.uniform(3, 11))
    leaf = draw_colour(rng, (0.27, 0.42), (0.3, 0.6), (0.2, 0.45))
    leaves = Material(colours=(leaf, darker(leaf, 0.4)), pattern="cloudy", period=0.7, grain=0.9)
    bark = _surface(rng, draw_colour(rng, (0.04, 0.1), (0.2, 0.5), (0.2, 0.4)), "stripes", 0.15)
    solids: list[Solid] = [
        Frustum(material=bark, centre=(x, 0.0, z), foot=height * 0.03, top=height * 0.02, height=height * 0.3)
    ]
    for tier in range(3):
        foot = height * (0.19 - 0.045 * tier)
        solids.append(
            Frustum(
                material=leaves, centre=(x, height * (0.15 + 0.24 * tier), z), foot=foot, top=0.02, height=height * 0.38
            )
        )
    return solids


def _bush(rng: np.random.Generator, at: Place) -> list[Solid]:
    size = float(rng.uniform(0.3, 0.9))
    leaf = draw_colour(rng, (0.15, 0.4), (0.3, 0.7), (0.25, 0.6))
    leaves = Material(colours=(leaf, darker(leaf, 0.4)), pattern="cloudy", period=size, grain=0.9)
    return [
        Ellipsoid(
            material=leaves,
            centre=(at[0] + dx * size, size * 0.6, at[1] + dz * size),
            radii=(size, size * 0.8, size),
            ragged=0.6,
        )
        for dx, dz in rng.uniform(-0.8, 0.8, (2, 2)).tolist()
    ]


def _rock(rng: np.random.Generator, at: Place) -> list[Solid]:
    size = float(rng.uniform(0.25, 1.4))
    stone = _surface(rng, draw_colour(rng, (0.0, 0.12), (0.0, 0.3), (0.3, 0.7)), "cloudy", size * 0.8)
    radii = tuple((size * rng.uniform([0.6, 0.4, 0.6], [1.2, 0.8, 1.2])).tolist())
    return [Ellipsoid(material=stone, centre=(at[0], radii[1] * 0.4, at[1]), radii=radii, ragged=0.12)]


def _pole(rng: np.random.Generator, at: Place) -> list[Solid]:
    radius, height = float(rng.uniform(0.04, 0.14)), float(rng.uniform(2, 8))
    paint = _surface(rng, draw_colour(rng), str(rng.choice(["plain", "stripes"])), 0.5)
    return [Frustum(material=paint, centre=(at[0], 0.0, at[1]), foot=radius, top=radius * 0.8, height=height)]


def _lamp(rng: np.random.Generator, at: Place) -> list[Solid]:
    pole = _pole(rng, at)
    top = pole[0].height if isinstance(pole[0], Frustum) else 4.0
    globe = plain_material(rgb(0.95, 0.92, 0.8), rng, glow=0.8)
    return [*pole, Ellipsoid(material=globe, centre=(at[0], top + 0.15, at[1]), radii=(0.22, 0.22, 0.22))]


def _sign(rng: np.random.Generator, at: Place) -> list[Solid]:
    board = Material(
        colours=(draw_colour(rng, saturation=(0.5, 0.9)), rgb(0.95, 0.95, 0.95)),
        pattern=str(rng.choice(["plain", "stripes", "checker"])),
        period=0.4,
    )
    post = plain_material(rgb(0.6, 0.6, 0.6), rng)
    height = float(rng.uniform(1.6, 2.6))
    return [
        Frustum(material=post, centre=(at[0], 0.0, at[1]), foot=0.04, top=0.04, height=height),
        Box(
            material=board,
            centre=(at[0], height, at[1] - 0.06),
            half=(0.4, 0.35, 0.02),
            yaw=float(rng.uniform(-0.5, 0.5)),
        ),
    ]


def _crate(rng: np.random.Generator, at: Place) -> list[Solid]:
    yaw, level = float(rng.uniform(0, np.pi)), 0.0
    solids: list[Solid] = []
    for _ in range(int(rng.integers(1, 4))):
        side = float(rng.uniform(0.25, 0.6))
        wood = _surface(
            rng, draw_colour(rng), str(rng.choice(["planks", "plain", "tiles", "stripes", "checker"])), side * 1.4
        )
        solids.append(Box(material=wood, centre=(at[0], level + side, at[1]), half=(side * 1.2, side, side), yaw=yaw))
        level, yaw = level + 2 * side, yaw + float(rng.uniform(-0.4, 0.4))
    return solids


def _barrel(rng: np.random.Generator, at: Place) -> list[Solid]:
    paint = _surface(rng, draw_colour(rng, saturation=(0.3, 0.9)), "stripes", 0.45)
    turned = Material(colours=paint.colours, pattern="stripes", period=0.45, turn=np.pi / 2, grain=0.3, shine=0.2)
    radius = float(rng.uniform(0.28, 0.42))
    return [Frustum(material=turned, centre=(at[0], 0.0, at[1]), foot=radius, top=radius, height=radius * 3)]


def _container(rng: np.random.Generator, at: Place) -> list[Solid]:
    steel = _surface(rng, draw_colour(rng, saturation=(0.3, 0.8)), "stripes", 0.3, 0.75)
    x, z = at[0], at[1] + 4
    return [Box(material=steel, centre=(x, 1.3, z), half=(3.0, 1.3, 1.25), yaw=float(rng.uniform(-0.6, 0.6)))]


def _hut(rng: np.random.Generator, at: Place) -> list[Solid]:
    x, z = at[0], at[1] + 5
    yaw, height = float(rng.uniform(-0.8, 0.8)), float(rng.uniform(1.2, 1.8))
    walls = facade(rng)
    roof = _surface(rng, draw_colour(rng, (0.0, 0.1), (0.3, 0.7), (0.3, 0.6)), "bricks", 0.6)
    return [
        Box(material=walls, centre=(x, height, z), half=(2.4, height, 2.0), yaw=yaw),
        Box(material=roof, centre=(x, height * 2 + 0.15, z), half=(2.8, 0.15, 2.4), yaw=yaw),
        Frustum(material=roof, centre=(x, height * 2 + 0.3, z), foot=2.5, top=0.1, height=1.4),
    ]


def _fence(rng: np.random.Generator, at: Place) -> list[Solid]:
    wood = _surface(rng, draw_colour(rng, (0.05, 0.12), (0.1, 0.5), (0.4, 0.9)), "stripes", 0.2)
    yaw = float(rng.uniform(-0.3, 0.3))
    z = max(at[1], 6.0)
    rails = [Box(material=wood, centre=(at[0], level, z), half=(3.0, 0.06, 0.03), yaw=yaw) for level in (0.45, 0.9)]
    posts = [
        Box(
            material=wood,
            centre=(at[0] + step * float(np.cos(yaw)), 0.55, z - step * float(np.sin(yaw))),
            half=(0.06, 0.55, 0.06),
            yaw=yaw,
        )
        for step in np.linspace(-2.9, 2.9, 5).tolist()
    ]
    return [*rails, *posts]


def _cactus(rng: np.random.Generator, at: Place) -> list[Solid]:
    green = _surface(rng, draw_colour(rng, (0.25, 0.4), (0.3, 0.6), (0.3, 0.55)), "stripes", 0.12)
    height = float(rng.uniform(1.2, 3))
    return [
        Frustum(material=green, centre=(at[0], 0.0, at[1]), foot=0.2, top=0.17, height=height),
        Ellipsoid(material=green, centre=(at[0], height, at[1]), radii=(0.17, 0.2, 0.17)),
        Ellipsoid(material=green, centre=(at[0] + 0.35, height * 0.62, at[1]), radii=(0.13, 0.45, 0.13)),
    ]


def _cone(rng: np.random.Generator, at: Place) -> list[Solid]:
    orange = Material(
        colours=(rgb(0.95, 0.4, 0.1), rgb(0.95, 0.95, 0.95)), pattern="stripes", period=0.3, turn=np.pi / 2
    )
    return [Frustum(material=orange, centre=(at[0], 0.0, at[1]), foot=0.2, top=0.03, height=0.7)]


CLUTTER = {
    "tree": _tree,
    "conifer": _conifer,
    "bush": _bush,
    "rock": _rock,
    "pole": _pole,
    "lamp": _lamp,
    "sign": _sign,
    "crate": _crate,
    "barrel": _barrel,
    "container": _container,
    "hut": _hut,
    "fence": _fence,
    "cactus": _cactus,
    "cone": _cone,
}
