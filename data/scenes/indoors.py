"""Random indoor worlds: rooms with furniture.

Owns what stands where between four walls. Lengths in metres. The camera stands near one wall and looks along z;
furniture keeps `CLEAR_M` away from it.
"""

import numpy as np

from data.scenes.furniture import AT_WALL, STANDING
from data.scenes.light import Light
from data.scenes.render import Camera, World
from data.scenes.sky import Sky
from data.scenes.solids import Box, Room, Solid, gap_m
from data.scenes.textures import Material, darker, draw_colour, hsv, plain_material, rgb

CLEAR_M = 2.0

Wall = tuple[float, float, float, float]  # x, z of a place at a wall, half its room along the wall, yaw of the wall


def indoor_world(rng: np.random.Generator) -> World:
    """A random room."""
    width, length, height = rng.uniform(4.0, 7.5), rng.uniform(4.0, 10.0), rng.uniform(2.6, 3.4)
    room = _room(rng, width, length, height)
    eye = float(rng.uniform(1.3, 1.5))
    position = (float(rng.uniform(-0.12, 0.12) * width), eye, 0.0)
    camera = Camera(
        position=position,
        yaw=float(rng.uniform(-0.35, 0.35)),
        pitch=float(rng.uniform(-0.18, 0.06)),
        focal=float(rng.uniform(0.75, 1.15)),
    )
    solids: list[Solid] = [room, *_on_walls(rng, width, length, height), *_along_walls(rng, width, length)]
    solids += _in_the_middle(rng, width, length)
    solids = [solid for solid in solids if gap_m(solid, position) > CLEAR_M]
    warmth = float(rng.uniform(0.75, 1.0))
    level = float(rng.uniform(0.25, 0.5))
    light = Light(
        lamp=(float(rng.uniform(-0.3, 0.3) * width), height - 0.25, float(rng.uniform(0.25, 0.75) * length)),
        colour=rgb(1.0, 0.9 + 0.1 * warmth, warmth),
        above=(level, level * 0.98, level * 0.92),
        below=(level * 0.75, level * 0.7, level * 0.65),
    )
    dark = Sky(zenith=rgb(0.0, 0.0, 0.0), horizon=rgb(0.0, 0.0, 0.0))
    return World(solids=tuple(solids), camera=camera, light=light, sky=dark, exposure=float(rng.uniform(0.9, 1.4)))


def _room(rng: np.random.Generator, width: float, length: float, height: float) -> Room:
    hue = rng.uniform(0, 1)
    wall = hsv(hue, rng.uniform(0.0, 0.45), rng.uniform(0.55, 0.97))
    second = hsv(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.0, 0.5), rng.uniform(0.4, 0.9))
    pattern = str(rng.choice(["plain", "plain", "stripes", "cloudy", "bricks", "tiles", "planks", "spots", "plaid"]))
    period = {"bricks": 0.35, "tiles": 0.3, "stripes": 0.4, "plaid": 0.5}.get(pattern, 0.8) * rng.uniform(0.7, 1.4)
    turn = np.pi / 2 if pattern == "planks" and rng.random() < 0.4 else 0.0
    walls = Material(
        colours=(wall, second),
        pattern=pattern,
        period=float(period),
        grain=0.12,
        turn=turn,
        vary=0.25 if pattern == "bricks" else 0.0,
    )
    back = 0.4  # the camera stands this far before the wall behind it
    return Room(
        material=walls,
        floor=_floor(rng),
        ceiling=plain_material(hsv(0.12, rng.uniform(0, 0.12), rng.uniform(0.8, 0.98)), rng, grain=0.06),
        centre=(0.0, height / 2, length / 2 - back),
        half=(width / 2, height / 2, length / 2),
    )


def _floor(rng: np.random.Generator) -> Material:
    pattern = str(rng.choice(["planks", "planks", "tiles", "checker", "cloudy", "spots", "plain"]))
    if pattern == "planks":
        wood = draw_colour(rng, (0.04, 0.11), (0.2, 0.6), (0.35, 0.8))
        return Material(
            colours=(wood, darker(wood, 0.4)),
            pattern=pattern,
            period=1.3,
            grain=0.35,
            vary=0.5,
            turn=float(rng.choice([0.0, np.pi / 2])),
            shine=0.15,
        )
    first, second = (
        draw_colour(rng, saturation=(0.0, 0.5), value=(0.4, 0.95)),
        draw_colour(rng, saturation=(0.0, 0.5), value=(0.2, 0.8)),
    )
    period = float(rng.uniform(0.3, 0.7) if pattern in ("tiles", "checker") else rng.uniform(0.2, 1.5))
    return Material(
        colours=(first, second),
        pattern=pattern,
        period=period,
        grain=0.25,
        turn=float(rng.choice([0.0, np.pi / 4])),
        shine=0.15,
    )


def _walls(rng: np.random.Generator, width: float, length: float, depth: float) -> Wall:
    """A random place at a wall for something `depth` deep: far wall twice as often as left or right."""
    side = rng.choice(["far", "far", "left", "right"])
    if side == "far":
        return float(rng.uniform(-0.4, 0.4) * width), length - 0.4 - depth, 0.0, 0.0
    x = (width / 2 - depth) * (-1 if side == "left" else 1)
    return float(x), float(rng.uniform(2.2, max(length - 1.2, 2.3))), 0.0, float(np.pi / 2)


def _on_walls(rng: np.random.Generator, width: float, length: float, height: float) -> list[Solid]:
    """Pictures, windows and doors."""
    solids: list[Solid] = []
    for _ in range(int(rng.integers(2, 7))):
        x, z, _, yaw = _walls(rng, width, length, 0.03)
        kind = rng.choice(["picture", "picture", "window", "door"])
        frame = plain_material(draw_colour(rng, (0.0, 0.12), (0.0, 0.5), (0.1, 0.95)), rng)
        if kind == "picture":
            half, level = (float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.2, 0.5))), 1.6
            inner = Material(
                colours=(draw_colour(rng), draw_colour(rng)),
                pattern=str(rng.choice(["cloudy", "patches", "stripes", "checker", "spots"])),
                period=0.35,
                grain=0.3,
            )
        elif kind == "window":
            half, level = (float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.4, 0.65))), 1.5
            inner = Material(
                colours=(hsv(0.57, 0.25, 0.98), frame.colours[0]),
                pattern="tiles",
                period=half[0] * 0.99,
                grain=0.1,
                glow=0.7,
            )
        else:
            half, level = (0.45, 1.0), 1.0
            inner = Material(
                colours=(draw_colour(rng, (0.0, 0.12), (0.1, 0.6), (0.3, 0.95)), rgb(0.2, 0.15, 0.1)),
                pattern="tiles",
                period=0.9,
                grain=0.2,
            )
        solids.append(
            Box(material=frame, centre=(x, level, z), half=(half[0] + 0.07, half[1] + 0.07, 0.02), yaw=yaw, casts=False)
        )
        solids.append(Box(material=inner, centre=(x, level, z), half=(half[0], half[1], 0.035), yaw=yaw, casts=False))
    return solids


def _along_walls(rng: np.random.Generator, width: float, length: float) -> list[Solid]:
    solids: list[Solid] = []
    for name in rng.choice(list(AT_WALL), size=int(rng.integers(2, 6))):
        x, z, _, yaw = _walls(rng, width, length, 0.32)
        solids += AT_WALL[str(name)](rng, x, z, yaw)
    return solids


def _in_the_middle(rng: np.random.Generator, width: float, length: float) -> list[Solid]:
    solids: list[Solid] = []
    if rng.random() < 0.5:
        rug = Material(
            colours=(draw_colour(rng), draw_colour(rng)),
            pattern=str(rng.choice(["stripes", "plaid", "spots", "checker", "tiles"])),
            period=0.5,
            grain=0.4,
        )
        solids.append(
            Box(
                material=rug,
                centre=(float(rng.uniform(-0.2, 0.2) * width), 0.01, length * 0.5),
                half=(width * 0.28, 0.01, length * 0.22),
                yaw=0.0,
                casts=False,
            )
        )
    for name in rng.choice(list(STANDING), size=int(rng.integers(1, 6))):
        x, z = float(rng.uniform(-0.4, 0.4) * width), float(rng.uniform(2.2, max(length - 1.0, 2.4)))
        solids += STANDING[str(name)](rng, x, z, float(rng.uniform(0, np.pi)))
    return solids
