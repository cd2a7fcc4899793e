"""Random backgrounds: places under the sky and rooms, with clutter. Lengths in metres, angles in radians."""

from dataclasses import replace

import numpy as np

from data.scenes.figures import draw_material, list_objects, make_object
from data.scenes.render import Camera, Light, Sky, World
from data.scenes.solids import Matrix, Solid, Triple, ball, box, floats, gap_m, rotation
from data.scenes.textures import Material, darken, draw_colour, draw_paint, hsv, rgb, surface

CLEAR_M = 2.1  # no object stands nearer to the camera than this

# Outdoor themes: hue, saturation and value of the ground, its pattern, number of objects, chances of a road and of
# rows of buildings.
THEMES = {
    "meadow": ((0.18, 0.32), (0.35, 0.7), (0.3, 0.65), "cloudy", (8, 18), 0.4, 0.0),
    "wood": ((0.07, 0.3), (0.3, 0.6), (0.22, 0.5), "cloudy", (16, 28), 0.3, 0.0),
    "snow": ((0.5, 0.65), (0.0, 0.12), (0.75, 0.98), "cloudy", (8, 16), 0.3, 0.0),
    "desert": ((0.06, 0.13), (0.25, 0.6), (0.55, 0.9), "cloudy", (8, 18), 0.3, 0.0),
    "street": ((0.0, 1.0), (0.0, 0.12), (0.3, 0.65), "tiles", (6, 14), 0.9, 1.0),
    "yard": ((0.0, 0.15), (0.0, 0.3), (0.3, 0.7), "bricks", (8, 16), 0.2, 0.4),
}


def make_outdoors(rng: np.random.Generator) -> World:
    """Return a random place under the sky."""
    theme = str(rng.choice(list(THEMES)))
    hue, saturation, value, pattern, count, road, rows = THEMES[theme]
    position = (0.0, float(rng.uniform(1.3, 2.6)), 0.0)
    axes = rotation(pitch=float(rng.uniform(-0.16, 0.08)))
    camera = Camera(position=position, axes=axes, focal=float(rng.uniform(0.8, 1.25)))
    along = float(rng.uniform(-0.5, 0.5))
    period = float(rng.uniform(2, 6) if pattern == "cloudy" else rng.uniform(0.5, 1.5))
    first = draw_colour(rng, hue, saturation, value)
    ground = Material(
        colours=(first, draw_colour(rng, hue, saturation, value) if pattern == "cloudy" else darken(first, 0.6)),
        pattern=pattern, period=period, grain=0.5, turn=along, offset=(float(rng.uniform(0, 50)), 0.0),
    )  # fmt: skip
    fixed = [box(ground, (0, -0.5, 0), (2000, 0.5, 2000), casts=False), *_make_hills(rng)]
    fixed += _make_road(rng, along) if rng.random() < road else []
    solids: list[Solid] = []
    if rng.random() < rows:
        solids += _make_buildings(rng, along)
    for name in rng.choice(list_objects(theme), size=int(rng.integers(*count))):
        z = float(np.exp(rng.uniform(np.log(CLEAR_M + 2.0), np.log(60.0))))  # near and far in equal measure
        place = (float(rng.uniform(-0.65, 0.65) * z), 0.0, z)
        solids += [solid.moved(rotation(float(rng.uniform(-0.6, 0.6))), place) for solid in make_object(str(name), rng)]
    light, sky = _draw_weather(rng)
    return World(
        solids=(*fixed, *_keep_clear(solids, position)), camera=camera, light=light, sky=sky,
        haze_m=float(rng.choice([90.0, 200.0, 500.0])), exposure=float(rng.uniform(0.95, 1.45)),
    )  # fmt: skip


def _keep_clear(solids: list[Solid], position: tuple[float, float, float]) -> tuple[Solid, ...]:
    return tuple(solid for solid in solids if gap_m(solid, position) > CLEAR_M)


def _draw_weather(rng: np.random.Generator) -> tuple[Light, Sky]:
    kind = rng.choice(["clear", "cloudy", "evening", "grey"], p=[0.4, 0.3, 0.15, 0.15])
    elevation, azimuth = float(rng.uniform(0.3, 1.1)), float(rng.uniform(0, 2 * np.pi))
    zenith, horizon = draw_colour(rng, (0.56, 0.63), (0.45, 0.8), (0.6, 0.95)), hsv(0.57, 0.15, 0.95)
    sun, above, clouds = rgb(1.0, 0.96, 0.88), rgb(0.5, 0.55, 0.65), (0.45, 0.7) if kind == "cloudy" else (0.2, 0.5)
    if kind == "evening":
        elevation *= 0.3
        horizon, sun = hsv(rng.uniform(0.02, 0.12), rng.uniform(0.3, 0.6), 0.98), rgb(1.0, 0.8, 0.55)
    elif kind == "grey":
        grey = float(rng.uniform(0.6, 0.85))
        zenith, horizon, clouds = rgb(grey, grey, grey * 1.03), rgb(grey + 0.1, grey + 0.1, grey + 0.1), (0.4, 0.8)
        sun, above = rgb(0.45, 0.45, 0.45), rgb(0.75, 0.76, 0.78)
    towards = (np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth))
    offset = float(rng.uniform(0, 50))
    sky = Sky(zenith=zenith, horizon=horizon, clouds=float(rng.uniform(*clouds)), cloud_offset=offset)
    return Light(towards=floats(towards), colour=sun, above=above, below=rgb(0.35, 0.33, 0.3)), sky


def _make_hills(rng: np.random.Generator) -> list[Solid]:
    grass = surface(rng, draw_colour(rng, (0.2, 0.62), (0.15, 0.5), (0.25, 0.55)), "cloudy", period=20.0)
    solids: list[Solid] = []
    for _ in range(int(rng.integers(0, 9))):
        z, height = float(rng.uniform(90, 300)), float(rng.uniform(0.03, 0.25))
        x, wide = float(rng.uniform(-0.8, 0.8) * z), float(rng.uniform(0.2, 0.6) * z)
        solids.append(replace(ball(grass, (x, 0, z), wide, height * z, 0.2 * z), casts=False))
    return solids


def _make_road(rng: np.random.Generator, along: float) -> list[Solid]:
    middle, width = float(rng.uniform(-2, 2)), float(rng.uniform(1.5, 7))
    asphalt = surface(rng, draw_colour(rng, (0.0, 0.15), (0.0, 0.3), (0.25, 0.6)), grain=0.35, period=1.5)
    strips = [(asphalt, middle, width / 2, 0.01)]
    if width > 4:
        paint = surface(rng, rgb(0.9, 0.9, 0.85), grain=0.3)
        strips += [(paint, middle + share * width, 0.08, 0.015) for share in (-0.45, 0.0, 0.45)]
    cos, sin = float(np.cos(along)), float(np.sin(along))
    return [
        box(material, (at * cos, 0, -at * sin), (half, thick, 300), yaw=along, casts=False)
        for material, at, half, thick in strips
    ]


def _make_buildings(rng: np.random.Generator, along: float) -> list[Solid]:
    ahead = np.array([np.sin(along), np.cos(along)])
    aside = np.array([ahead[1], -ahead[0]])
    solids: list[Solid] = []
    for side in (-1, 1):
        distance, reach = rng.uniform(5, 9), rng.uniform(3, 8)
        while reach < 55:
            length, deep, height = (float(rng.uniform(*bounds)) for bounds in ((5, 12), (4, 8), (4, 16)))
            x, z = (ahead * (reach + length / 2) + aside * side * (distance + deep / 2)).tolist()
            half = (deep / 2, height / 2, length / 2)
            solids.append(box(draw_material("facade", rng), (x, height / 2, z), half, yaw=along))
            reach += length + float(rng.choice([0.0, 0.0, 2.0, 8.0]))
    return solids


def make_room(rng: np.random.Generator) -> World:
    """Return a random room, seen from near one of its walls."""
    width, length, height = (float(rng.uniform(*bounds)) for bounds in ((4.0, 7.5), (4.0, 10.0), (2.6, 3.4)))
    position = (float(rng.uniform(-0.12, 0.12) * width), float(rng.uniform(1.3, 1.5)), 0.0)
    axes = rotation(float(rng.uniform(-0.35, 0.35)), float(rng.uniform(-0.18, 0.06)))
    solids: list[Solid] = []
    furniture = rng.choice(list_objects("wall"), int(rng.integers(2, 6))).tolist()
    for name in ["picture"] * int(rng.integers(2, 7)) + furniture:
        turn, place = _draw_wall(rng, width, length, 0.03 if name == "picture" else 0.34)
        made = _make_picture(rng) if name == "picture" else make_object(name, rng)
        solids += [solid.moved(turn, place) for solid in made]
    for name in rng.choice(list_objects("room"), size=int(rng.integers(1, 6))):
        place = (float(rng.uniform(-0.4, 0.4) * width), 0.0, float(rng.uniform(2.2, max(length - 1.0, 2.4))))
        solids += [solid.moved(rotation(float(rng.uniform(0, 6))), place) for solid in make_object(str(name), rng)]
    if rng.random() < 0.5:
        middle = (float(rng.uniform(-0.2, 0.2) * width), 0.01, length * 0.5)
        solids.append(box(draw_paint(rng, 0.5, 0.0, 0.9), middle, (width * 0.28, 0.01, length * 0.22)))
    level, warmth = float(rng.uniform(0.25, 0.5)), float(rng.uniform(0.75, 1.0))
    light = Light(
        lamp=(float(rng.uniform(-0.3, 0.3) * width), height - 0.25, float(rng.uniform(0.25, 0.75) * length)),
        colour=rgb(1.0, 0.9 + 0.1 * warmth, warmth),
        above=(level, level * 0.98, level * 0.92), below=(level * 0.75, level * 0.7, level * 0.65),
    )  # fmt: skip
    back = 0.4  # distance from the camera to the wall behind it
    walls, far, side = _draw_wall_paint(rng), length - back, width / 2
    plaster = surface(rng, draw_colour(rng, (0.12, 0.12), (0.0, 0.12), (0.8, 0.98)), grain=0.06)
    shell = [
        box(_draw_floor(rng), (0, -0.5, far / 2), (side, 0.5, length), casts=False),
        box(plaster, (0, height + 0.5, far / 2), (side, 0.5, length), casts=False),
        box(walls, (0, height / 2, far + 0.5), (side, height / 2, 0.5), casts=False),
        *(box(walls, (s * (side + 0.5), height / 2, far / 2), (0.5, height / 2, length), casts=False) for s in (-1, 1)),
    ]
    dark = Sky(zenith=rgb(0.0, 0.0, 0.0), horizon=rgb(0.0, 0.0, 0.0))
    return World(
        solids=(*shell, *_keep_clear(solids, position)), light=light, sky=dark, exposure=float(rng.uniform(0.9, 1.4)),
        camera=Camera(position=position, axes=axes, focal=float(rng.uniform(0.75, 1.15))),
    )  # fmt: skip


def _draw_wall(rng: np.random.Generator, width: float, length: float, depth: float) -> tuple[Matrix, Triple]:
    """Return rotation and place of something `depth` deep at a wall: the far wall twice as often as left or right."""
    side = int(rng.choice([0, 0, -1, 1]))
    if side == 0:
        return rotation(), (float(rng.uniform(-0.4, 0.4) * width), 0.0, length - 0.4 - depth)
    along = float(rng.uniform(2.2, max(length - 1.2, 2.3)))
    return rotation(side * np.pi / 2), (side * (width / 2 - depth), 0.0, along)


def _draw_wall_paint(rng: np.random.Generator) -> Material:
    pattern = str(rng.choice(["plain", "plain", "stripes", "cloudy", "bricks", "tiles", "planks", "spots", "plaid"]))
    hue = float(rng.uniform())
    period = float(rng.uniform(0.3, 0.5) if pattern in "bricks tiles" else rng.uniform(0.4, 1))
    first = draw_colour(rng, (hue, hue), (0.0, 0.45), (0.55, 0.97))
    colours = (first, draw_colour(rng, (hue - 0.1, hue + 0.1), (0.0, 0.5)))
    return Material(colours=colours, pattern=pattern, period=period, grain=0.12, vary=0.2 * (pattern == "bricks"))


def _draw_floor(rng: np.random.Generator) -> Material:
    if rng.random() < 0.35:
        return draw_material("wood", rng)
    first, second = (draw_colour(rng, saturation=(0.0, 0.5), value=(0.2, 0.95)) for _ in range(2))
    pattern, period = str(rng.choice(["tiles", "checker", "cloudy", "spots", "plain"])), float(rng.uniform(0.3, 0.9))
    turn = float(rng.choice([0.0, 0.8]))
    return Material(colours=(first, second), pattern=pattern, period=period, turn=turn, shine=0.15)


def _make_picture(rng: np.random.Generator) -> list[Solid]:
    """Return a framed picture, a window or a door on a wall."""
    frame = surface(rng, draw_colour(rng, (0.0, 0.12), (0.0, 0.5), (0.1, 0.95)))
    (x, y), level, inner = rng.uniform(0.25, 0.75, 2).tolist(), 1.6, draw_paint(rng, 0.35, 0.0, 0.95)
    kind = str(rng.choice(["picture", "picture", "window", "door"]))
    if kind == "window":
        colours = (hsv(0.57, 0.25, 0.98), frame.colours[0])
        inner = Material(colours=colours, pattern="tiles", period=x, grain=0.1, glow=0.7)
    elif kind == "door":
        x, y, level, inner = 0.45, 1.0, 1.0, surface(rng, draw_colour(rng, (0.0, 0.12)), "tiles", period=0.9)
    return [box(frame, (0, level, 0), (x + 0.07, y + 0.07, 0.02)), box(inner, (0, level, 0), (x, y, 0.035))]
