"""Random outdoor worlds: meadows, woods, streets, deserts, yards.

Owns what stands where under the open sky. Lengths in metres; nothing stands nearer to the camera than `NEAREST_M`.
"""

from dataclasses import dataclass

import numpy as np

from data.scenes.clutter import CLUTTER, Place, facade
from data.scenes.light import Light
from data.scenes.render import Camera, World
from data.scenes.sky import Ridge, Sky
from data.scenes.solids import Band, Box, Ground, Solid, gap_m
from data.scenes.textures import Material, darker, draw_colour, hsv, plain_material, rgb, somewhere

NEAREST_M = 2.2
FARTHEST_M = 60.0


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
        clutter={"tree": 5.0, "bush": 4.0, "rock": 2.0, "pole": 1.0, "fence": 2.0, "crate": 0.5, "hut": 1.0},
        road=0.4,
    ),
    "wood": Theme(
        ground=((0.07, 0.3), (0.3, 0.6), (0.22, 0.5), "cloudy"),
        clutter={"tree": 4.0, "conifer": 6.0, "bush": 3.0, "rock": 2.0},
        count=(18, 30),
        road=0.3,
    ),
    "snow": Theme(
        ground=((0.5, 0.65), (0.0, 0.12), (0.75, 0.98), "cloudy"),
        clutter={"conifer": 6.0, "rock": 2.0, "hut": 1.5, "pole": 1.0, "fence": 1.0},
        road=0.3,
    ),
    "desert": Theme(
        ground=((0.06, 0.13), (0.25, 0.6), (0.55, 0.9), "cloudy"),
        clutter={"rock": 6.0, "bush": 2.0, "pole": 1.0, "hut": 0.7, "cactus": 3.0},
        road=0.3,
    ),
    "street": Theme(
        ground=((0.0, 1.0), (0.0, 0.12), (0.3, 0.65), "tiles"),
        clutter={"lamp": 3.0, "pole": 2.0, "crate": 2.0, "tree": 2.0, "barrel": 1.0, "sign": 2.0},
        count=(6, 14),
        road=0.9,
        rows=1.0,
    ),
    "yard": Theme(
        ground=((0.0, 0.15), (0.0, 0.3), (0.3, 0.7), "bricks"),
        clutter={"crate": 5.0, "barrel": 4.0, "container": 3.0, "pole": 2.0, "fence": 2.0, "bush": 1.0, "cone": 1.0},
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
    return World(
        solids=tuple(solids),
        camera=camera,
        light=light,
        sky=sky,
        haze_m=haze_m,
        exposure=float(rng.uniform(0.95, 1.45)),
    )


def _place(rng: np.random.Generator) -> Place:
    """A place in view, drawn so that near and far get their share; farther from the camera than a tall thing needs."""
    z = float(np.exp(rng.uniform(np.log(NEAREST_M + 2.0), np.log(FARTHEST_M))))
    return float(rng.uniform(-0.65, 0.65) * z), z


def _weather(rng: np.random.Generator) -> tuple[Sky, Light, float]:
    kind = rng.choice(["clear", "cloudy", "evening", "grey"], p=[0.4, 0.3, 0.15, 0.15])
    elevation, azimuth = rng.uniform(0.3, 1.1), rng.uniform(0, 2 * np.pi)
    zenith, horizon = (
        hsv(rng.uniform(0.56, 0.63), rng.uniform(0.45, 0.8), rng.uniform(0.6, 0.95)),
        hsv(0.57, 0.15, 0.95),
    )
    sun, above, clouds = rgb(1.0, 0.96, 0.88), rgb(0.5, 0.55, 0.65), rng.uniform(0.2, 0.5)
    if kind == "cloudy":
        clouds = rng.uniform(0.45, 0.7)
    elif kind == "evening":
        elevation = rng.uniform(0.15, 0.3)
        horizon, sun = hsv(rng.uniform(0.02, 0.12), rng.uniform(0.3, 0.6), 0.98), rgb(1.0, 0.8, 0.55)
    elif kind == "grey":
        grey = rng.uniform(0.6, 0.85)
        zenith, horizon, clouds = (
            rgb(grey, grey, grey * 1.03),
            rgb(grey + 0.1, grey + 0.1, grey + 0.1),
            rng.uniform(0.4, 0.8),
        )
        sun, above = rgb(0.45, 0.45, 0.45), rgb(0.75, 0.76, 0.78)
    towards = (
        float(np.cos(elevation) * np.sin(azimuth)),
        float(np.sin(elevation)),
        float(np.cos(elevation) * np.cos(azimuth)),
    )
    sky = Sky(
        zenith=zenith,
        horizon=horizon,
        clouds=float(clouds),
        cloud_offset=float(rng.uniform(0, 50)),
        ridges=_ridges(rng),
    )
    return (
        sky,
        Light(towards=towards, colour=sun, above=above, below=rgb(0.35, 0.33, 0.3)),
        float(rng.choice([90.0, 200.0, 500.0])),
    )


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
        second = darker(first, 0.6)
    period = float(rng.uniform(0.5, 1.5) if pattern != "cloudy" else rng.uniform(2, 6))
    offset = somewhere(rng)
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
                Box(
                    material=facade(rng),
                    centre=(float(x), height / 2, float(z)),
                    half=(deep / 2, height / 2, length / 2),
                    yaw=along,
                )
            )
            reach += length + rng.choice([0.0, 0.0, 2.0])
    return solids
