"""Random indoor worlds: rooms with furniture.

Owns what stands where between four walls. Lengths in metres. The camera stands near one wall and looks along z;
furniture keeps `CLEAR_M` away from it.
"""

import numpy as np

from data.scene_render import Camera, Light, Sky, World
from data.scene_solids import Box, Ellipsoid, Frustum, Room, Solid, gap_m
from data.scene_textures import Material, draw_colour, hsv, plain_material, rgb

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
    dark = Sky(zenith=rgb(0, 0, 0), horizon=rgb(0, 0, 0))
    return World(solids=tuple(solids), camera=camera, light=light, sky=dark, exposure=float(rng.uniform(0.9, 1.4)))


def _room(rng: np.random.Generator, width: float, length: float, height: float) -> Room:
    hue = rng.uniform(0, 1)
    wall = hsv(hue, rng.uniform(0.0, 0.45), rng.uniform(0.55, 0.97))
    second = hsv(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.0, 0.5), rng.uniform(0.4, 0.9))
    pattern = str(rng.choice(["plain", "plain", "stripes", "cloudy", "bricks", "tiles", "planks", "spots", "plaid"]))
    period = {"bricks": 0.35, "tiles": 0.3, "stripes": 0.4, "plaid": 0.5}.get(pattern, 0.8) * rng.uniform(0.7, 1.4)
    turn = np.pi / 2 if pattern == "planks" and rng.random() < 0.4 else 0.0
    walls = Material(
        colours=(wall, second), pattern=pattern, period=float(period), grain=0.12, turn=turn, vary=0.25 if pattern == "bricks" else 0.0
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
        return Material(colours=(wood, tuple(0.4 * c for c in wood)), pattern=pattern, period=1.3, grain=0.35, vary=0.5, turn=float(rng.choice([0.0, np.pi / 2])), shine=0.15)
    first, second = draw_colour(rng, saturation=(0.0, 0.5), value=(0.4, 0.95)), draw_colour(rng, saturation=(0.0, 0.5), value=(0.2, 0.8))
    period = float(rng.uniform(0.3, 0.7) if pattern in ("tiles", "checker") else rng.uniform(0.2, 1.5))
    return Material(colours=(first, second), pattern=pattern, period=period, grain=0.25, turn=float(rng.choice([0.0, np.pi / 4])), shine=0.15)


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
            inner = Material(colours=(draw_colour(rng), draw_colour(rng)), pattern=str(rng.choice(["cloudy", "patches", "stripes", "checker", "spots"])), period=0.35, grain=0.3)
        elif kind == "window":
            half, level = (float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.4, 0.65))), 1.5
            inner = Material(colours=(hsv(0.57, 0.25, 0.98), frame.colours[0]), pattern="tiles", period=half[0] * 0.99, grain=0.1, glow=0.7)
        else:
            half, level = (0.45, 1.0), 1.0
            inner = Material(colours=(draw_colour(rng, (0.0, 0.12), (0.1, 0.6), (0.3, 0.95)), rgb(0.2, 0.15, 0.1)), pattern="tiles", period=0.9, grain=0.2)
        solids.append(Box(material=frame, centre=(x, level, z), half=(half[0] + 0.07, half[1] + 0.07, 0.02), yaw=yaw, casts=False))
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
        rug = Material(colours=(draw_colour(rng), draw_colour(rng)), pattern=str(rng.choice(["stripes", "plaid", "spots", "checker", "tiles"])), period=0.5, grain=0.4)
        solids.append(Box(material=rug, centre=(float(rng.uniform(-0.2, 0.2) * width), 0.01, length * 0.5), half=(width * 0.28, 0.01, length * 0.22), yaw=0.0, casts=False))
    for name in rng.choice(list(STANDING), size=int(rng.integers(1, 6))):
        x, z = float(rng.uniform(-0.4, 0.4) * width), float(rng.uniform(2.2, max(length - 1.0, 2.4)))
        solids += STANDING[str(name)](rng, x, z, float(rng.uniform(0, np.pi)))
    return solids


def _stuff(rng: np.random.Generator, patterned: float = 0.5) -> Material:
    """Painted wood, cloth or plastic of any colour."""
    first, second = draw_colour(rng, saturation=(0.0, 0.8), value=(0.15, 0.95)), draw_colour(rng, saturation=(0.0, 0.8), value=(0.15, 0.95))
    pattern = str(rng.choice(["stripes", "plaid", "spots", "checker", "cloudy"])) if rng.random() < patterned else "plain"
    return Material(colours=(first, second), pattern=pattern, period=float(rng.uniform(0.15, 0.5)), grain=0.3, shine=float(rng.choice([0.0, 0.15])))


def _wood(rng: np.random.Generator) -> Material:
    wood = draw_colour(rng, (0.03, 0.11), (0.1, 0.6), (0.25, 0.85))
    return Material(colours=(wood, tuple(0.5 * c for c in wood)), pattern="planks", period=1.8, grain=0.4, vary=0.2, shine=0.1)


def _block(material: Material, place: tuple[float, float, float], yaw: float, middle: tuple[float, float, float], half: tuple[float, float, float]) -> Box:
    """A box at `middle` in the frame of a piece of furniture that stands at `place`, turned by `yaw`."""
    cos, sin = float(np.cos(yaw)), float(np.sin(yaw))
    x, y, z = middle
    centre = (place[0] + x * cos + z * sin, place[1] + y, place[2] - x * sin + z * cos)
    return Box(material=material, centre=centre, half=half, yaw=yaw)


def _shelf(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    wood, half = _wood(rng), float(rng.uniform(0.4, 0.8))
    at, height = (x, 0.0, z), float(rng.uniform(1.4, 2.2))
    solids: list[Solid] = [_block(wood, at, yaw, (side * half, height / 2, 0.0), (0.025, height / 2, 0.15)) for side in (-1, 1)]
    for level in np.linspace(0.06, height, 5).tolist():
        solids.append(_block(wood, at, yaw, (0.0, level, 0.0), (half, 0.02, 0.15)))
        if level < height - 0.1 and rng.random() < 0.8:
            books = Material(colours=(draw_colour(rng), draw_colour(rng)), pattern="stripes", period=0.09, grain=0.3, vary=0.8)
            tall, wide = float(rng.uniform(0.1, 0.16)), float(rng.uniform(0.4, 0.95)) * half
            solids.append(_block(books, at, yaw, (half - wide - 0.03, level + 0.02 + tall, 0.0), (wide, tall, 0.11)))
    return solids


def _cabinet(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    half, height = float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.35, 1.0))
    front = Material(colours=(_stuff(rng).colours[0], rgb(0.1, 0.1, 0.1)), pattern="tiles", period=half * 0.66, grain=0.2, shine=0.1)
    solids: list[Solid] = [_block(front, (x, 0.0, z), yaw, (0.0, height / 2, 0.0), (half, height / 2, 0.28))]
    if rng.random() < 0.7:
        solids.append(_block(_stuff(rng), (x, height, z), yaw, (rng.uniform(-0.2, 0.2), 0.2, 0.0), (0.3, 0.2, 0.05)))
    if rng.random() < 0.7:
        solids += _vase(rng, x, z, height)
    return solids


def _sofa(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    cloth, at, half = _stuff(rng), (x, 0.0, z - 0.15 * np.cos(yaw)), float(rng.uniform(0.6, 1.1))
    back = 0.3 if x <= 0 or yaw == 0 else 0.3
    blocks = [((0.0, 0.22, 0.0), (half, 0.22, 0.4)), ((0.0, 0.55, back), (half, 0.3, 0.1))]
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
        Frustum(material=_wood(rng), centre=(x + 0.13 * float(np.cos(a)), 0.0, z + 0.13 * float(np.sin(a))), foot=0.025, top=0.025, height=height)
        for a in (yaw, yaw + 2.1, yaw + 4.2)
    ]
    return [Frustum(material=seat, centre=(x, height, z), foot=0.2, top=0.2, height=0.06), *legs]


def _plant(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    leaf, size = draw_colour(rng, (0.2, 0.4), (0.3, 0.7), (0.25, 0.6)), float(rng.uniform(0.22, 0.45))
    leaves = Material(colours=(leaf, tuple(0.35 * c for c in leaf)), pattern="cloudy", period=size, grain=0.9)
    return [
        Frustum(material=_stuff(rng, 0.2), centre=(x, 0.0, z), foot=size * 0.4, top=size * 0.6, height=size * 1.1),
        Ellipsoid(material=leaves, centre=(x, size * 2.1, z), radii=(size, size * 1.3, size), ragged=0.9),
    ]


def _floor_lamp(rng: np.random.Generator, x: float, z: float, yaw: float) -> list[Solid]:
    shade = plain_material(draw_colour(rng, (0.08, 0.16), (0.1, 0.5), (0.8, 1.0)), rng, glow=0.6)
    metal, height = plain_material(draw_colour(rng, saturation=(0.0, 0.2)), rng, shine=0.3), float(rng.uniform(1.2, 1.7))
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


AT_WALL = {"shelf": _shelf, "cabinet": _cabinet, "sofa": _sofa, "bed": _bed, "table": _table, "plant": _plant, "lamp": _floor_lamp}
STANDING = {"table": _table, "stool": _stool, "plant": _plant, "lamp": _floor_lamp, "column": _column, "ball": _ball, "carton": _carton}
