"""Figures and objects of the built-in scenes: people and animals with random limbs, and one table of objects.

Lengths are metres. Every maker returns solids that stand on y = 0 around the origin.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from data.scenes.solids import Solid, ball, box, rod
from data.scenes.textures import Material, draw_colour, draw_paint, hsv, rgb, surface
from data.scenes.vectors import Triple, Vector, floats, rotation

SIDES = (-1, 1)

# Ranges in radians of thigh, knee, upper arm and elbow (forward is positive), and if both sides swing alike.
STANCES = (
    ((-0.1, 0.2), (0.0, 0.15), (-0.2, 0.4), (0.05, 1.6), True),
    ((0.2, 0.9), (0.1, 0.9), (0.2, 0.9), (0.2, 1.5), False),
    ((1.2, 1.6), (1.0, 1.7), (0.1, 0.9), (0.4, 1.6), True),
    ((-0.3, 0.7), (0.0, 1.0), (-0.4, 2.9), (0.0, 0.8), True),
)


def draw_figure(rng: np.random.Generator) -> tuple[str, list[Solid]]:
    """Draw the foreground of a scene: its name and its solids."""
    kind = str(rng.choice(["person", "animal", "object"], p=[0.42, 0.28, 0.3]))
    if kind == "object":
        kind = str(rng.choice(list_objects("figure")))
        return kind, make_object(kind, rng)
    solids = make_animal(rng) if kind == "animal" else make_person(rng)
    if kind == "person" and rng.random() < 0.12:
        beside = (float(rng.uniform(0.5, 0.7)), 0.0, float(rng.uniform(-0.2, 0.2)))
        solids += [solid.moved(rotation(), beside) for solid in make_person(rng)]
    return kind, solids


def list_objects(place: str) -> list[str]:
    """Return the names of the objects that belong to a place."""
    return [name for name, (places, _) in OBJECTS.items() for one in places if one == place]


def stand(solids: Sequence[Solid]) -> list[Solid]:
    """Move solids up or down so that the lowest touches y = 0."""
    low = min(float(solid.corners[:, 1].min()) for solid in solids)
    return [solid.moved(rotation(), (0.0, -low, 0.0)) for solid in solids]


def make_person(rng: np.random.Generator) -> list[Solid]:
    """Return a person, who looks towards -z, with random build, clothes and joint angles."""
    skin = surface(rng, draw_colour(rng, (0.04, 0.09), (0.25, 0.6), (0.35, 0.95)), grain=0.1, shine=0.08)
    hair = surface(rng, draw_colour(rng, (0.03, 0.12), (0.1, 0.7), (0.06, 0.75)), grain=0.5, period=0.1)
    top, bottom, extra = (draw_paint(rng, 0.15, 0.0, patterned) for patterned in (0.6, 0.2, 0.2))
    stout, (thigh, knee, arm, elbow, alike) = float(rng.uniform(0.95, 1.5)), STANCES[int(rng.integers(len(STANCES)))]
    head = rotation(yaw=float(rng.uniform(-0.7, 0.7)), pitch=float(rng.uniform(-0.3, 0.2)))
    solids: list[Solid] = [
        *(
            rod(top, (s * 0.07 * stout, 0.42, 0), (s * 0.05 * stout, 0.1, 0), 0.115 * stout, 0.105 * stout)
            for s in SIDES
        ),
        rod(top, (-0.15 * stout, 0.51, 0), (0.15 * stout, 0.51, 0), 0.075),
        rod(bottom, (-0.06 * stout, 0.03, 0), (0.06 * stout, 0.03, 0), 0.12 * stout),
        rod(skin, (0, 0.52, 0), (0, 0.64, -0.02), 0.06, 0.05),
        *(part.moved(head, (0.0, 0.72, -0.02)) for part in _make_head(rng, skin, hair, extra)),
    ]
    if rng.random() < 0.2:
        solids.append(ball(extra, (0, 0.3, 0.19), 0.15, 0.22, 0.11))
    sleeve, shin, skirt = (
        top if rng.random() < 0.5 else skin,
        bottom if rng.random() < 0.7 else skin,
        rng.random() < 0.2,
    )
    for s in SIDES:
        angle = float(rng.uniform(*arm)) * (1 if alike else s)
        angles = (angle, angle + float(rng.uniform(*elbow)), float(rng.uniform(0.05, 0.6)) * s)
        solids += _make_limb((top, sleeve, skin), (s * 0.18 * stout, 0.49, 0), angles, (0.27, 0.25), 0.062)
    lean = rotation(pitch=-float(rng.uniform(-0.05, 0.3)))
    solids = [solid.moved(lean) for solid in solids]
    for s in SIDES:
        angle = float(rng.uniform(*thigh)) * (1 if alike else -s)
        angles = (angle, angle - float(rng.uniform(*knee)), float(rng.uniform(0.02, 0.2)) * s)
        cloth = (skin, skin, extra) if skirt else (bottom, shin, extra)
        leg = _make_limb(cloth, (s * 0.08 * stout, 0, 0), angles, (0.42, 0.4), 0.075 + 0.025 * stout, foot=1.35)
        solids += leg
        if skirt:
            solids.append(rod(bottom, (0, 0.05, 0), 0.8 * floats(leg[1].centre), 0.11 * stout, 0.16))
    return stand(solids)


def _swing(forward: float, out: float) -> Vector:
    """Direction of a limb that hangs down, swung forward and to the side."""
    return floats([np.sin(out), -np.cos(forward) * np.cos(out), -np.sin(forward) * np.cos(out)])


def _make_limb(
    materials: tuple[Material, Material, Material], start: Triple, angles: Triple, lengths: tuple[float, float],
    thick: float, foot: float = 0.0,
) -> list[Solid]:  # fmt: skip
    """Arm or leg: upper and lower part, and a hand or foot turned forward by `foot` radians."""
    first, second, out = (float(angle) for angle in angles)
    joint = floats(start) + np.float32(lengths[0]) * _swing(first, out)
    end = joint + np.float32(lengths[1]) * _swing(second, out * 0.5)
    tip = end + np.float32(0.17 if foot else 0.08) * _swing(second + foot, out * 0.3)
    return [
        rod(materials[0], start, joint, thick, thick * 0.7),
        rod(materials[1], joint, end, thick * 0.68, thick * 0.5),
        rod(materials[2], end, tip, thick * 0.52, thick * 0.45),
    ]


def _make_head(rng: np.random.Generator, skin: Material, hair: Material, hat: Material) -> list[Solid]:
    dark, lips = surface(rng, rgb(0.08, 0.06, 0.06), grain=0.0), surface(rng, rgb(0.6, 0.25, 0.25))
    solids: list[Solid] = [
        ball(skin, (0, 0, 0), 0.093, 0.128, 0.108),
        ball(skin, (0, -0.014, -0.112), 0.018, 0.028, 0.024),
        ball(lips, (0, -0.065, -0.094), 0.034, 0.009, 0.01),
        ball(hair, (0, 0.042, 0.028), 0.104, 0.11, 0.105),
        *(ball(dark, (s * 0.036, 0.02, -0.099), 0.014, 0.012, 0.01) for s in SIDES),
    ]
    if rng.random() < 0.4:
        solids.append(rod(hair, (0, 0.03, 0.06), (0, -0.24, 0.07), 0.085, 0.075))
    if rng.random() < 0.25:
        solids += [ball(hat, (0, 0.085, 0), 0.112, 0.077, 0.12), ball(hat, (0, 0.077, -0.085), 0.094, 0.017, 0.1)]
    return solids


def make_animal(rng: np.random.Generator) -> list[Solid]:
    """Return a four-legged animal, which looks towards +x, with random proportions, coat and gait."""
    coat = draw_paint(rng, float(rng.uniform(0.1, 0.4)), 0.0, 0.4)
    if rng.random() < 0.75:
        coat = surface(
            rng, draw_colour(rng, (0.03, 0.12), (0.05, 0.7), (0.12, 0.95)), grain=0.35, dark=0.2,
            pattern=str(rng.choice(["plain", "patches", "spots", "stripes"])), period=float(rng.uniform(0.1, 0.4)),
        )  # fmt: skip
    dark = surface(rng, rgb(0.06, 0.05, 0.05), grain=0.0, shine=0.5)
    girth, leg, head = (float(rng.uniform(*bounds)) for bounds in ((0.11, 0.24), (0.15, 0.55), (0.09, 0.15)))
    neck, rise, swing = (float(rng.uniform(*bounds)) for bounds in ((0.05, 0.35), (0.2, 1.2), (-0.5, 0.5)))
    back = leg + girth * 0.6
    solids: list[Solid] = [rod(coat, (-0.36, back, 0), (0.36, back + 0.02, 0), girth, girth * 1.02)]
    for x, side, phase in ((-0.36, -1, 1), (-0.36, 1, -1), (0.36, -1, -1), (0.36, 1, 1)):
        bend = abs(swing) * float(rng.uniform(0.2, 0.9)) * (1 if x < 0 else -1)
        angles = (swing * phase, swing * phase - bend, 0.0)
        parts = _make_limb((coat, coat, dark), (0, 0, 0), angles, (leg * 0.6, leg * 0.5), girth * 0.45)
        hip = (x, leg + girth * 0.2, side * girth * 0.5)
        solids += [part.moved(rotation(yaw=-np.pi / 2), hip) for part in parts]
    tail, lift = float(rng.uniform(0.1, 0.5)), float(rng.uniform(-1.2, 0.9))
    root = floats([-0.4 - girth * 0.6, back + girth * 0.4, 0])
    tip = root + np.float32(tail) * floats([-np.cos(lift), np.sin(lift), rng.uniform(-0.4, 0.4)])
    solids.append(rod(coat, root, tip, 0.035, float(rng.uniform(0.015, 0.05))))
    top = floats([0.4 + (neck + head) * np.cos(rise), back + girth * 0.4 + (neck + head) * np.sin(rise), 0])
    solids.append(rod(coat, (0.36, back + girth * 0.2, 0), top, max(head * 1.15, girth * 0.6), head * 0.8))
    turn = rotation(yaw=float(rng.uniform(-0.7, 0.7)), roll=float(rng.uniform(-0.45, 0.15)))
    return stand([*solids, *(part.moved(turn, top) for part in _make_muzzle(rng, coat, dark, head))])


def _make_muzzle(rng: np.random.Generator, coat: Material, dark: Material, head: float) -> list[Solid]:
    """Head of an animal: muzzle, nose, eyes, ears and sometimes horns."""
    nose, ear, droop = (
        float(rng.uniform(0.7, 1.9)) * head,
        float(rng.uniform(0.4, 1.6)) * head,
        float(rng.uniform(-0.8, 0.9)),
    )
    solids: list[Solid] = [
        ball(coat, (0, 0, 0), head * 1.05, head, head * 0.9),
        rod(coat, (head * 0.3, -0.1 * head, 0), (nose, -0.25 * head, 0), head * 0.62, head * 0.42),
        ball(dark, (nose + head * 0.36, -head * 0.13, 0), head * 0.16, head * 0.14, head * 0.2),
    ]
    horns = float(rng.uniform(0.4, 1.6)) * head if rng.random() < 0.2 else 0.0
    for s in SIDES:
        base = floats([-head * 0.3, head * 0.6, s * head * 0.6])
        tip = base + np.float32(ear) * floats([-0.25, np.sin(droop), s * np.cos(droop) * 0.6])
        solids += [
            ball(dark, (head * 0.62, head * 0.38, s * head * 0.6), head * 0.15),
            rod(coat, base, tip, head * 0.3, head * 0.14),
        ]
        if horns:
            base = floats([0, head * 0.8, s * head * 0.35])
            solids.append(
                rod(dark, base, base + np.float32(horns) * floats([0.1, 0.9, s * 0.5]), head * 0.13, head * 0.06)
            )
    return solids


MATERIALS: dict[str, Callable[[np.random.Generator], Material]] = {
    "wood": lambda rng: surface(
        rng, draw_colour(rng, (0.03, 0.11), (0.1, 0.6), (0.25, 0.85)), "planks", period=1.3, grain=0.4, vary=0.3
    ),
    "metal": lambda rng: surface(rng, hsv(0.6, 0.05, rng.uniform(0.3, 0.85)), grain=0.1, shine=0.5),
    "rubber": lambda rng: surface(rng, rgb(0.15, 0.15, 0.16), grain=0.2, period=0.2),
    "glass": lambda rng: surface(rng, rgb(0.25, 0.32, 0.38), grain=0.05, shine=0.6),
    "glow": lambda rng: surface(rng, draw_colour(rng, (0.0, 0.16), (0.1, 0.6), (0.7, 1.0)), glow=0.6),
    "leaves": lambda rng: surface(
        rng, draw_colour(rng, (0.05, 0.42), (0.3, 0.75), (0.2, 0.6)), "cloudy", period=0.8, grain=0.9, dark=0.35
    ),
    "bark": lambda rng: surface(
        rng, draw_colour(rng, (0.04, 0.1), (0.2, 0.5), (0.2, 0.5)), "stripes", period=0.15, grain=0.5
    ),
    "stone": lambda rng: surface(
        rng, draw_colour(rng, (0.0, 0.12), (0.0, 0.3), (0.3, 0.7)), "cloudy", period=0.7, grain=0.5
    ),
    "roof": lambda rng: surface(rng, draw_colour(rng, (0.0, 0.1), (0.3, 0.7), (0.3, 0.6)), "bricks", period=0.6),
    "books": lambda rng: Material(
        colours=(draw_colour(rng), draw_colour(rng)), pattern="stripes", period=0.09, vary=0.8
    ),
    "facade": lambda rng: Material(
        colours=(draw_colour(rng, saturation=(0.0, 0.5), value=(0.4, 0.9)), draw_colour(rng, value=(0.1, 0.5))),
        pattern=str(rng.choice(["windows", "bricks", "planks"])), period=float(rng.uniform(0.8, 2.4)), vary=0.2,
    ),
}  # fmt: skip


def _read_objects(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Places and parts of each object of a table; the table describes its own format."""
    objects: dict[str, tuple[list[str], list[str]]] = {}
    name = ""
    for line in path.read_text().splitlines():
        if line.startswith(" "):
            objects[name][1].append(line)
        elif line and not line.startswith("#"):
            name, *places = line.split()
            objects[name] = (places, [])
    return objects


OBJECTS = _read_objects(Path(__file__).with_name("objects.txt"))


def make_object(name: str, rng: np.random.Generator) -> list[Solid]:
    """Return an object of the table with random proportions, paints and optional parts."""
    materials: dict[str, Material] = {}
    stretch = np.exp(rng.normal(0, 0.14, 3))
    solids: list[Solid] = []
    for part in OBJECTS[name][1]:
        paint, shape, *rest = part.split()
        numbers = [float(word) for word in rest if word[-1].isdigit()]
        if "?" in rest and rng.random() < 0.5:
            continue
        if paint not in materials:
            materials[paint] = MATERIALS.get(paint, _draw_object_paint)(rng)
        if "~" in rest:
            numbers[:3] = (
                np.array(numbers[:3]) + rng.normal(0, 0.25, 3) * [numbers[3], 0.6 * numbers[4], numbers[5]]
            ).tolist()
        for x, z in product((1, -1) if "mx" in rest else (1,), (1, -1) if "mz" in rest else (1,)):
            solids += _make_part(materials[paint], shape, numbers, stretch * [x, 1, z])
    return solids


def _draw_object_paint(rng: np.random.Generator) -> Material:
    return draw_paint(rng, 0.3, 0.2, 0.45)


def _make_part(material: Material, shape: str, numbers: list[float], stretch: np.ndarray) -> list[Solid]:
    """Solids of one part; negative stretch mirrors its place."""
    x, y, z = (stretch * numbers[:3]).tolist()
    if shape == "ring":
        turns = np.linspace(0, 2 * np.pi, 13)
        points = [(x + numbers[3] * float(np.cos(a)), y + numbers[3] * float(np.sin(a)), z) for a in turns]
        return [rod(material, start, end, numbers[4]) for start, end in pairwise(points)]
    if shape in ("rod", "tube"):
        wide = float(np.abs(stretch).mean())
        end = floats(stretch * numbers[3:6])
        return [rod(material, (x, y, z), end, numbers[6] * wide, numbers[7] * wide, rounded=shape == "rod")]
    a, b, c = (np.abs(stretch) * numbers[3:]).tolist()
    return [
        box(material, (x, y, z), (a, b, c))
        if shape == "box"
        else ball(material, (x, y, z), a, b, c, ragged=0.7 * (shape == "leaf"))
    ]
