"""Figures and objects of the built-in scenes, as solids that stand on y = 0 around the origin; lengths in metres."""

from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from data.scenes.solids import Solid, Triple, Vector, ball, box, floats, rod, rotation
from data.scenes.textures import Material, draw_colour, draw_paint, surface

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
    kind = str(rng.choice(["person", "animal", "object"], p=[0.38, 0.3, 0.32]))
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
    cloth = {name: draw_paint(rng, 0.15, 0.0, 0.4) for name in ("top", "bottom", "hat")}
    top, bottom, shoes, skin = *cloth.values(), draw_material("skin", rng)
    thigh, knee, arm, elbow, alike = STANCES[int(rng.integers(len(STANCES)))]
    head = rotation(yaw=float(rng.uniform(-0.7, 0.7)), pitch=float(rng.uniform(-0.3, 0.2)))
    solids = make_object("torso", rng, cloth | {"skin": skin})
    wide = float(solids[0].corners[:, 0].max())
    solids += [part.moved(head, (0.0, 0.72, -0.02)) for part in make_object("head", rng, cloth | {"skin": skin})]
    sleeve, shin = top if rng.random() < 0.5 else skin, bottom if rng.random() < 0.7 else skin
    for s in SIDES:
        angle = float(rng.uniform(*arm)) * (1 if alike else s)
        angles = (angle, angle + float(rng.uniform(*elbow)), float(rng.uniform(0.05, 0.6)) * s)
        solids += _make_limb((top, sleeve, skin), (s * wide * 0.9, 0.49, 0), angles, (0.27, 0.25), 0.062)
    lean, skirt = rotation(pitch=-float(rng.uniform(-0.05, 0.3))), rng.random() < 0.2
    solids = [solid.moved(lean) for solid in solids]
    for s in SIDES:
        angle = float(rng.uniform(*thigh)) * (1 if alike else -s)
        angles = (angle, angle - float(rng.uniform(*knee)), float(rng.uniform(0.02, 0.2)) * s)
        materials = (skin, skin, shoes) if skirt else (bottom, shin, shoes)
        leg = _make_limb(materials, (s * wide * 0.4, 0, 0), angles, (0.42, 0.4), 0.05 + 0.25 * wide, foot=1.35)
        solids += leg
        if skirt:
            solids.append(rod(bottom, (0, 0.05, 0), 0.8 * floats(leg[1].centre), 0.13, 0.16))
    return stand(solids)


def _swing(forward: float, out: float) -> Vector:
    """Return the direction of a limb that hangs down, swung forward and to the side."""
    return floats([np.sin(out), -np.cos(forward) * np.cos(out), -np.sin(forward) * np.cos(out)])


def _make_limb(
    materials: tuple[Material, Material, Material], start: Triple, angles: Triple, lengths: tuple[float, float],
    thick: float, foot: float = 0.0,
) -> list[Solid]:  # fmt: skip
    """Return an arm or a leg: upper and lower part, and a hand or foot turned forward by `foot` radians."""
    first, second, out = (float(angle) for angle in angles)
    joint = floats(start) + np.float32(lengths[0]) * _swing(first, out)
    end = joint + np.float32(lengths[1]) * _swing(second, out * 0.5)
    tip = end + np.float32(0.17 if foot else 0.08) * _swing(second + foot, out * 0.3)
    return [
        rod(materials[0], start, joint, thick, thick * 0.7),
        rod(materials[1], joint, end, thick * 0.68, thick * 0.5),
        rod(materials[2], end, tip, thick * 0.52, thick * 0.45),
    ]


def make_animal(rng: np.random.Generator) -> list[Solid]:
    """Return a four-legged animal, which looks towards +x, with random proportions, coat and gait."""
    coat = draw_material("coat", rng) if rng.random() < 0.75 else draw_paint(rng, 0.3, 0.0, 0.6)
    girth, leg, neck = (float(rng.uniform(*bounds)) for bounds in ((0.13, 0.27), (0.15, 0.5), (0.14, 0.5)))
    rise, swing, lift = (float(rng.uniform(*bounds)) for bounds in ((0.2, 1.2), (-0.5, 0.5), (-1.2, 0.9)))
    back = leg + girth * 0.6
    solids: list[Solid] = [rod(coat, (-0.36, back, 0), (0.36, back + 0.02, 0), girth, girth * 1.02)]
    for x, side, phase in ((-0.36, -1, 1), (-0.36, 1, -1), (0.36, -1, -1), (0.36, 1, 1)):
        bend = abs(swing) * float(rng.uniform(0.2, 0.9)) * (1 if x < 0 else -1)
        angles = (swing * phase, swing * phase - bend, 0.0)
        parts = _make_limb((coat, coat, coat), (0, 0, 0), angles, (leg * 0.6, leg * 0.5), girth * 0.45)
        hip = (x, leg + girth * 0.2, side * girth * 0.5)
        solids += [part.moved(rotation(yaw=-np.pi / 2), hip) for part in parts]
    root = floats([-0.4 - girth * 0.6, back + girth * 0.4, 0])
    tip = root + np.float32(rng.uniform(0.1, 0.5)) * floats([-np.cos(lift), np.sin(lift), rng.uniform(-0.4, 0.4)])
    top = floats([0.4 + neck * np.cos(rise), back + girth * 0.4 + neck * np.sin(rise), 0])
    solids += [rod(coat, root, tip, 0.035, 0.03), rod(coat, (0.36, back + girth * 0.2, 0), top, girth * 0.8, 0.09)]
    turn = rotation(yaw=float(rng.uniform(-0.7, 0.7)), roll=float(rng.uniform(-0.45, 0.15)))
    return stand([*solids, *(part.moved(turn, top) for part in make_object("muzzle", rng, {"coat": coat}))])


# Materials of objects: ranges of hue (turns), saturation and value, patterns to choose from, and options of `surface`.
MATERIALS = {
    "skin": ((0.04, 0.09), (0.25, 0.6), (0.35, 0.95), "plain", {"grain": 0.1, "shine": 0.08}),
    "hair": ((0.03, 0.12), (0.1, 0.7), (0.06, 0.75), "plain", {"grain": 0.5, "period": 0.1}),
    "coat": ((0.03, 0.12), (0.05, 0.7), (0.12, 0.95), "plain patches spots stripes", {"period": 0.25, "dark": 0.2}),
    "dark": ((0.0, 1.0), (0.0, 0.2), (0.06, 0.1), "plain", {"shine": 0.3}),
    "wood": ((0.03, 0.11), (0.1, 0.6), (0.25, 0.85), "planks", {"period": 1.3, "grain": 0.4, "vary": 0.3}),
    "metal": ((0.6, 0.6), (0.0, 0.1), (0.3, 0.85), "plain", {"grain": 0.1, "shine": 0.5}),
    "rubber": ((0.6, 0.6), (0.0, 0.1), (0.1, 0.2), "plain", {"grain": 0.2, "period": 0.2}),
    "glass": ((0.57, 0.57), (0.3, 0.4), (0.3, 0.45), "plain", {"grain": 0.05, "shine": 0.6}),
    "glow": ((0.0, 0.16), (0.1, 0.6), (0.7, 1.0), "plain", {"glow": 0.6}),
    "leaves": ((0.05, 0.42), (0.3, 0.75), (0.2, 0.6), "cloudy", {"period": 0.8, "grain": 0.9, "dark": 0.35}),
    "bark": ((0.04, 0.1), (0.2, 0.5), (0.2, 0.5), "stripes", {"period": 0.15, "grain": 0.5}),
    "stone": ((0.0, 0.12), (0.0, 0.3), (0.3, 0.7), "cloudy", {"period": 0.7, "grain": 0.5}),
    "roof": ((0.0, 0.1), (0.3, 0.7), (0.3, 0.6), "bricks", {"period": 0.6}),
    "books": ((0.0, 1.0), (0.1, 0.8), (0.25, 0.95), "stripes", {"period": 0.09, "vary": 0.8}),
    "facade": ((0.0, 1.0), (0.0, 0.5), (0.4, 0.9), "windows bricks planks", {"period": 1.6, "vary": 0.2, "dark": 0.2}),
}

OBJECTS: dict[str, tuple[list[str], list[str]]] = {}  # places and parts by name
for _block in Path(__file__).with_name("objects.txt").read_text().split("\n\n")[1:]:
    _head, *_parts = _block.strip().splitlines()
    OBJECTS[_head.split()[0]] = (_head.split()[1:], _parts)


def draw_material(name: str, rng: np.random.Generator) -> Material:
    """Draw a material of the table; any other name draws paint."""
    if name not in MATERIALS:
        return draw_paint(rng, 0.3, 0.2, 0.45)
    *colour, patterns, options = MATERIALS[name]
    return surface(rng, draw_colour(rng, *colour), str(rng.choice(patterns.split())), **options)


def make_object(name: str, rng: np.random.Generator, materials: dict[str, Material] | None = None) -> list[Solid]:
    """Return an object of the table with random proportions and optional parts; paints that are missing are drawn."""
    materials, stretch = dict(materials or {}), np.exp(rng.normal(0, 0.12, 3))
    solids: list[Solid] = []
    for part in OBJECTS[name][1]:
        paint, shape, *rest = part.split()
        numbers = np.array([float(word) for word in rest if word[-1].isdigit()])
        if "?" in rest and rng.random() < 0.5:
            continue
        if paint not in materials:
            materials[paint] = draw_material(paint, rng)
        if "~" in rest:
            numbers[:3] += rng.normal(0, 0.25, 3) * [numbers[3], 0.6 * numbers[4], numbers[5]]
        for x, z in product((1, -1) if "mx" in rest else (1,), (1, -1) if "mz" in rest else (1,)):
            solids += _make_part(materials[paint], shape, numbers, stretch * [x, 1, z])
    return solids


def _make_part(material: Material, shape: str, numbers: np.ndarray, stretch: np.ndarray) -> list[Solid]:
    """Return the solids of one part; negative stretch mirrors its place."""
    x, y, z = (stretch * numbers[:3]).tolist()
    if shape == "ring":
        turns = np.linspace(0, 2 * np.pi, 13)
        points = [floats([x + numbers[3] * np.cos(a), y + numbers[3] * np.sin(a), z]) for a in turns]
        return [rod(material, start, end, float(numbers[4])) for start, end in pairwise(points)]
    if shape in ("rod", "tube"):
        foot, top = (numbers[6:] * np.abs(stretch).mean()).tolist()
        return [rod(material, (x, y, z), floats(stretch * numbers[3:6]), foot, top, rounded=shape == "rod")]
    a, b, c = (np.abs(stretch) * numbers[3:]).tolist()
    if shape == "box":
        return [box(material, (x, y, z), (a, b, c))]
    return [ball(material, (x, y, z), a, b, c, ragged=0.7 if shape == "leaf" else 0.0)]
