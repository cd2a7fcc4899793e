"""Random outdoor worlds: meadows, woods, streets, deserts, yards.

Owns what stands where under the open sky. Lengths in metres; nothing stands nearer to the camera than `NEAREST_M`.
"""

from dataclasses import dataclass

import numpy as np

from data.scene_render import Camera, Light, Ridge, Sky, World
from data.scene_solids import Band, Box, Ellipsoid, Frustum, Ground, Solid, gap_m
from data.scene_textures import Colour, Material, draw_colour, hsv, plain_material, rgb

NEAREST_M = 2.2
FARTHEST_M = 60.0

Place = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Theme:
    """What an outdoor place is made of. Ranges are (low, high).

    Attributes:
        ground: Hue, saturation, value and pattern of the ground.
        clutter: How often each kind of thing stands there, by name in `CLUTTER`.
        count: How many there are.
        road: Chance of a road or path.
        rows: Chance that buildings line the place.
    """

    ground: tuple[tuple[float, float], tuple[float, float], tuple[float, float], str]
    clutter: dict[str, float]
    count: tuple[int, int] = (8, 18)
    road: float = 0.3
    rows: float = 0.0


THEMES = {
    "meadow": Theme(
        ground=((0.18, 0.32), (0.35, 0.7), (0.3, 0.65), "cloudy"),
        clutter={"tree": 5, "bush": 4, "rock": 2, "pole": 1, "fence": 2, "crate": 0.5, "hut": 1.0},
        road=0.4,
    ),
    "wood": Theme(
        ground=((0.07, 0.3), (0.3, 0.6), (0.22, 0.5), "cloudy"),
        clutter={"tree": 4, "conifer": 6, "bush": 3, "rock": 2},
        count=(18, 30),
        road=0.3,
    ),
    "snow": Theme(
        ground=((0.5, 0.65), (0.0, 0.12), (0.75, 0.98), "cloudy"),
        clutter={"conifer": 6, "rock": 2, "hut": 1.5, "pole": 1, "fence": 1},
        road=0.3,
    ),
    "desert": Theme(
        ground=((0.06, 0.13), (0.25, 0.6), (0.55, 0.9), "cloudy"),
        clutter={"rock": 6, "bush": 2, "pole": 1, "hut": 0.7, "cactus": 3},
        road=0.3,
    ),
    "street": Theme(
        ground=((0.0, 1.0), (0.0, 0.12), (0.3, 0.65), "tiles"),
        clutter={"lamp": 3, "pole": 2, "crate": 2, "tree": 2, "barrel": 1, "sign": 2},
        count=(6, 14),
        road=0.9,
        rows=1.0,
    ),
    "yard": Theme(
        ground=((0.0, 0.15), (0.0, 0.3), (0.3, 0.7), "bricks"),
        clutter={"crate": 5, "barrel": 4, "container": 3, "pole": 2, "fence": 2, "bush": 1, "cone": 1},
        count=(8, 16),
        road=0.2,
        rows=0.4,
    ),
}


def outdoor_world(rng: np.random.Generator) -> World:
    """A random place under the open sky."""
    theme = THEMES[str(rng.choice(list(THEMES)))]
    height = float(rng.uniform(1.3, 2.6))
    camera = Camera(
        position=(0.0, height, 0.0),
        pitch=float(rng.uniform(-0.16, 0.08)),
        focal=float(rng.uniform(0.8, 1.25)),
    )
    sky, light, haze_m = _weather(rng)
    along = float(rng.uniform(-0.5, 0.5))
    solids: list[Solid] = [_ground(rng, theme, along)]
    if rng.random() < theme.rows:
        solids += _building_rows(rng, along)
    names = list(theme.clutter)
    odds = np.array([theme.clutter[name] for name in names])
    for name in rng.choice(names, size=int(rng.integers(*theme.count)), p=odds / odds.sum()):
        solids += CLUTTER[str(name)](rng, _place(rng))
    solids = [solid for solid in solids if gap_m(solid, camera.position) > NEAREST_M]
    return World(solids=tuple(solids), camera=camera, light=light, sky=sky, haze_m=haze_m, exposure=float(rng.uniform(0.75, 1.15)))


def _place(rng: np.random.Generator) -> Place:
    """A place in view, drawn so that near and far get their share; farther from the camera than a tall thing needs."""
    z = float(np.exp(rng.uniform(np.log(NEAREST_M + 2.0), np.log(FARTHEST_M))))
    return float(rng.uniform(-0.65, 0.65) * z), z


def _weather(rng: np.random.Generator) -> tuple[Sky, Light, float]:
    kind = rng.choice(["clear", "cloudy", "evening", "grey"], p=[0.4, 0.3, 0.15, 0.15])
    elevation, azimuth = rng.uniform(0.3, 1.1), rng.uniform(0, 2 * np.pi)
    zenith, horizon = hsv(rng.uniform(0.56, 0.63), rng.uniform(0.45, 0.8), rng.uniform(0.6, 0.95)), hsv(0.57, 0.15, 0.95)
    sun, above, clouds = rgb(1.0, 0.96, 0.88), rgb(0.5, 0.55, 0.65), rng.uniform(0.2, 0.5)
    if kind == "cloudy":
        clouds = rng.uniform(0.45, 0.7)
    elif kind == "evening":
        elevation = rng.uniform(0.15, 0.3)
        horizon, sun = hsv(rng.uniform(0.02, 0.12), rng.uniform(0.3, 0.6), 0.98), rgb(1.0, 0.8, 0.55)
    elif kind == "grey":
        grey = rng.uniform(0.6, 0.85)
        zenith, horizon, clouds = rgb(grey, grey, grey * 1.03), rgb(grey + 0.1, grey + 0.1, grey + 0.1), rng.uniform(0.4, 0.8)
        sun, above = rgb(0.45, 0.45, 0.45), rgb(0.75, 0.76, 0.78)
    towards = (float(np.cos(elevation) * np.sin(azimuth)), float(np.sin(elevation)), float(np.cos(elevation) * np.cos(azimuth)))
    sky = Sky(zenith=zenith, horizon=horizon, clouds=float(clouds), cloud_offset=float(rng.uniform(0, 50)), ridges=_ridges(rng))
    return sky, Light(towards=towards, colour=sun, above=above, below=rgb(0.35, 0.33, 0.3)), float(rng.choice([60.0, 150.0, 400.0]))


def _ridges(rng: np.random.Generator) -> tuple[Ridge, ...]:
    count = int(rng.integers(0, 4))
    base = draw_colour(rng, (0.2, 0.62), (0.15, 0.5), (0.25, 0.55))
    depths = np.sort(rng.uniform(70, 300, count))[::-1]
    heights = np.sort(rng.uniform(0.04, 0.3, count))[::-1]
    return tuple(
        Ridge(depth_m=float(d), height=float(h), width=float(rng.uniform(0.3, 1.2)), colour=base)
        for d, h in zip(depths, heights, strict=True)
    )


def _ground(rng: np.random.Generator, theme: Theme, along: float) -> Ground:
    hue, saturation, value, pattern = theme.ground
    first, second = (draw_colour(rng, hue, saturation, value) for _ in range(2))
    if pattern != "cloudy":
        second = tuple(channel * 0.6 for channel in first)
    period = float(rng.uniform(0.5, 1.5) if pattern != "cloudy" else rng.uniform(2, 6))
    offset = tuple(rng.uniform(0, 50, 2).tolist())
    material = Material(colours=(first, second), pattern=pattern, period=period, grain=0.5, turn=along, offset=offset)
    bands = _road(rng, along) if rng.random() < theme.road else ()
    return Ground(material=material, bands=bands)


def _road(rng: np.random.Generator, along: float) -> tuple[Band, ...]:
    middle, width = float(rng.uniform(-2, 2)), float(rng.uniform(1.5, 7))
    turn = -along
    surface = plain_material(draw_colour(rng, (0.0, 0.15), (0.0, 0.3), (0.25, 0.6)), rng, grain=0.35, period=1.5)
    road = Band(material=surface, turn=turn, middle=middle, width=width)
    if width < 4:
        return (road,)
    paint = plain_material(rgb(0.9, 0.9, 0.85), rng, grain=0.3)
    edges = (Band(material=paint, turn=turn, middle=middle + side * width * 0.45, width=0.15) for side in (-1, 1))
    return (road, *edges, Band(material=paint, turn=turn, middle=middle, width=0.15))


def _building_rows(rng: np.random.Generator, along: float) -> list[Solid]:
    ahead = np.array([np.sin(along), np.cos(along)])
    aside = np.array([ahead[1], -ahead[0]])
    solids: list[Solid] = []
    for side in (-1, 1):
        distance, reach = rng.uniform(5, 9), rng.uniform(3, 8)
        while reach < 55 and rng.random() < 0.93:
            length, deep, height = rng.uniform(5, 12), rng.uniform(4, 8), rng.uniform(4, 16)
            x, z = ahead * (reach + length / 2) + aside * side * (distance + deep / 2)
            solids.append(
                Box(material=_facade(rng), centre=(float(x), height / 2, float(z)), half=(deep / 2, height / 2, length / 2), yaw=along)
            )
            reach += length + rng.choice([0.0, 0.0, 2.0])
    return solids


def _facade(rng: np.random.Generator) -> Material:
    wall = draw_colour(rng, (0.0, 1.0), (0.05, 0.5), (0.45, 0.9))
    pane = draw_colour(rng, (0.55, 0.65), (0.1, 0.4), (0.15, 0.5))
    pattern = str(rng.choice(["windows", "windows", "windows", "bricks", "planks"]))
    period = float(rng.uniform(1.8, 3.2) if pattern == "windows" else rng.uniform(0.4, 1.0))
    return Material(colours=(wall, pane), pattern=pattern, period=period, grain=0.2, vary=0.3 if pattern != "windows" else 0.0)


def _surface(rng: np.random.Generator, colour: Colour, pattern: str = "plain", period: float = 0.6, dark: float = 0.5) -> Material:
    second = tuple(channel * dark for channel in colour)
    offset = tuple(rng.uniform(0, 50, 2).tolist())
    return Material(colours=(colour, second), pattern=pattern, period=period, grain=float(rng.uniform(0.25, 0.5)), offset=offset, vary=0.4)


def _tree(rng: np.random.Generator, at: Place) -> list[Solid]:
    x, z = at
    height = float(rng.uniform(2.5, 8))
    crown = float(height * rng.uniform(0.22, 0.36))
    stem = height - crown * 1.4
    bark = _surface(rng, draw_colour(rng, (0.04, 0.1), (0.2, 0.5), (0.25, 0.5)), "stripes", 0.15)
    leaf = draw_colour(rng, (0.16, 0.36), (0.4, 0.75), (0.25, 0.6)) if rng.random() < 0.8 else draw_colour(rng, (0.0, 0.14), (0.5, 0.8), (0.5, 0.8))
    leaves = Material(colours=(leaf, tuple(0.35 * c for c in leaf)), pattern="cloudy", period=float(crown * 0.7), grain=0.9)
    solids: list[Solid] = [Frustum(material=bark, centre=(x, 0.0, z), foot=height * 0.045, top=height * 0.025, height=stem)]
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
    leaves = Material(colours=(leaf, tuple(0.4 * c for c in leaf)), pattern="cloudy", period=0.7, grain=0.9)
    bark = _surface(rng, draw_colour(rng, (0.04, 0.1), (0.2, 0.5), (0.2, 0.4)), "stripes", 0.15)
    solids: list[Solid] = [Frustum(material=bark, centre=(x, 0.0, z), foot=height * 0.03, top=height * 0.02, height=height * 0.3)]
    for tier in range(3):
        foot = height * (0.19 - 0.045 * tier)
        solids.append(Frustum(material=leaves, centre=(x, height * (0.15 + 0.24 * tier), z), foot=foot, top=0.02, height=height * 0.38))
    return solids


def _bush(rng: np.random.Generator, at: Place) -> list[Solid]:
    size = float(rng.uniform(0.3, 0.9))
    leaf = draw_colour(rng, (0.15, 0.4), (0.3, 0.7), (0.25, 0.6))
    leaves = Material(colours=(leaf, tuple(0.4 * c for c in leaf)), pattern="cloudy", period=size, grain=0.9)
    return [
        Ellipsoid(material=leaves, centre=(at[0] + dx * size, size * 0.6, at[1] + dz * size), radii=(size, size * 0.8, size), ragged=0.6)
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
    board = Material(colours=(draw_colour(rng, saturation=(0.5, 0.9)), rgb(0.95, 0.95, 0.95)), pattern=str(rng.choice(["plain", "stripes", "checker"])), period=0.4)
    post = plain_material(rgb(0.6, 0.6, 0.6), rng)
    height = float(rng.uniform(1.6, 2.6))
    return [
        Frustum(material=post, centre=(at[0], 0.0, at[1]), foot=0.04, top=0.04, height=height),
        Box(material=board, centre=(at[0], height, at[1] - 0.06), half=(0.4, 0.35, 0.02), yaw=float(rng.uniform(-0.5, 0.5))),
    ]


def _crate(rng: np.random.Generator, at: Place) -> list[Solid]:
    yaw, level = float(rng.uniform(0, np.pi)), 0.0
    solids: list[Solid] = []
    for _ in range(int(rng.integers(1, 4))):
        side = float(rng.uniform(0.25, 0.6))
        wood = _surface(rng, draw_colour(rng), str(rng.choice(["planks", "plain", "tiles", "stripes", "checker"])), side * 1.4)
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
    walls = _facade(rng)
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
        Box(material=wood, centre=(at[0] + step * float(np.cos(yaw)), 0.55, z - step * float(np.sin(yaw))), half=(0.06, 0.55, 0.06), yaw=yaw)
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
    orange = Material(colours=(rgb(0.95, 0.4, 0.1), rgb(0.95, 0.95, 0.95)), pattern="stripes", period=0.3, turn=np.pi / 2)
    return [Frustum(material=orange, centre=(at[0], 0.0, at[1]), foot=0.2, top=0.03, height=0.7)]


CLUTTER = {
    "tree": _tree, "conifer": _conifer, "bush": _bush, "rock": _rock, "pole": _pole, "lamp": _lamp, "sign": _sign,
    "crate": _crate, "barrel": _barrel, "container": _container, "hut": _hut, "fence": _fence, "cactus": _cactus, "cone": _cone,
}
