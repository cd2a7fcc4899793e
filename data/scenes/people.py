"""Random people: bodies, clothes and poses, as figures of limbs.

A person is one unit tall, stands on y = 0 and looks towards the viewer (-z).
"""

from dataclasses import dataclass

import numpy as np

from data.scenes.parts import Ball, Figure, Limb, Part, Slab, Vector, turned, vector
from data.scenes.poses import POSES, Pose
from data.scenes.textures import Material, draw_colour, plain_material, rgb, somewhere

HIP, SHOULDER, HEAD = 0.50, 0.81, 0.915
THIGH, SHIN, UPPER_ARM, FOREARM = 0.24, 0.23, 0.16, 0.15


@dataclass(frozen=True, kw_only=True)
class Outfit:
    """What a person wears and how they are built."""

    skin: Material
    hair: Material
    top: Material
    bottom: Material
    shoes: Material
    stout: float
    long_sleeves: bool
    long_legs: bool
    skirt: bool
    long_hair: bool
    hat: bool
    bag: str


def person(rng: np.random.Generator) -> Figure:
    """A random person, sometimes two side by side."""
    parts = _person_parts(rng)
    if rng.random() < 0.15:
        beside = vector(float(rng.uniform(0.28, 0.4)), 0, float(rng.uniform(-0.1, 0.1)))
        parts += [part.moved(np.eye(3, dtype=np.float32), beside) for part in _person_parts(rng)]
    return Figure(name="person", parts=tuple(parts), height_m=float(rng.uniform(1.5, 1.9)))


def _person_parts(rng: np.random.Generator) -> list[Part]:
    outfit, pose = _outfit(rng), POSES[str(rng.choice(list(POSES)))](rng)
    parts = _torso(outfit) + _head(rng, outfit) + _bag(outfit)
    for side in (-1, 1):
        parts += _arm(outfit, pose, side)
    lean = turned(pitch=-pose.lean)
    hip = vector(0, HIP, 0)
    parts = [part.moved(lean, hip - lean @ hip) for part in parts]
    for side in (-1, 1):
        parts += _leg(outfit, pose, side)
    return parts


def _cloth(rng: np.random.Generator) -> Material:
    first, second = (draw_colour(rng, saturation=(0.0, 0.9), value=(0.08, 0.98)) for _ in range(2))
    pattern = str(rng.choice(["plain", "plain", "stripes", "plaid", "spots", "checker", "cloudy"]))
    return Material(
        colours=(first, second),
        pattern=pattern,
        period=float(rng.uniform(0.04, 0.12)),
        grain=float(rng.uniform(0.1, 0.35)),
        turn=float(rng.choice([0.0, np.pi / 2, 0.6])),
        offset=somewhere(rng),
    )


def _outfit(rng: np.random.Generator) -> Outfit:
    skin = draw_colour(rng, (0.04, 0.09), (0.25, 0.6), (0.35, 0.95))
    hair = draw_colour(rng, (0.03, 0.12), (0.1, 0.7), (0.06, 0.75))
    return Outfit(
        skin=plain_material(skin, rng, grain=0.08, period=0.3, shine=0.08),
        hair=plain_material(hair, rng, grain=0.5, period=0.08, shine=0.1),
        top=_cloth(rng),
        bottom=_cloth(rng)
        if rng.random() < 0.4
        else plain_material(draw_colour(rng, (0.5, 0.7), (0.0, 0.7), (0.08, 0.7)), rng, grain=0.25, period=0.1),
        shoes=plain_material(draw_colour(rng, value=(0.05, 0.95)), rng, grain=0.1, shine=0.2),
        stout=float(rng.uniform(0.95, 1.5)),
        long_sleeves=bool(rng.random() < 0.55),
        long_legs=bool(rng.random() < 0.7),
        skirt=bool(rng.random() < 0.2),
        long_hair=bool(rng.random() < 0.4),
        hat=bool(rng.random() < 0.2),
        bag=str(rng.choice(["none", "none", "none", "backpack", "handbag"])),
    )


def _direction(forward: float, out: float, side: int) -> Vector:
    """Way of a limb that hangs down, swung forward and away from the body."""
    return vector(side * np.sin(out), -np.cos(forward) * np.cos(out), -np.sin(forward) * np.cos(out))


def _torso(outfit: Outfit) -> list[Part]:
    wide = outfit.stout
    parts: list[Part] = [
        Limb(
            start=vector(s * 0.055 * wide, SHOULDER - 0.07, 0),
            end=vector(s * 0.04 * wide, HIP + 0.05, 0),
            thick=0.068 * wide,
            thin=0.058 * wide,
            material=outfit.top,
        )
        for s in (-1, 1)
    ]
    parts.append(
        Limb(
            start=vector(-0.095 * wide, SHOULDER - 0.02, 0),
            end=vector(0.095 * wide, SHOULDER - 0.02, 0),
            thick=0.042,
            thin=0.042,
            material=outfit.top,
        )
    )
    parts.append(
        Limb(
            start=vector(-0.04 * wide, HIP + 0.015, 0),
            end=vector(0.04 * wide, HIP + 0.015, 0),
            thick=0.068 * wide,
            thin=0.068 * wide,
            material=outfit.bottom,
        )
    )
    parts.append(
        Limb(
            start=vector(0, SHOULDER, 0),
            end=vector(0, HEAD - 0.05, -0.01),
            thick=0.035,
            thin=0.03,
            material=outfit.skin,
        )
    )
    return parts


def _head(rng: np.random.Generator, outfit: Outfit) -> list[Part]:
    turn = turned(yaw=float(rng.uniform(-0.6, 0.6)), pitch=float(rng.uniform(-0.3, 0.2)))
    still = np.eye(3, dtype=np.float32)
    dark = plain_material(rgb(0.08, 0.06, 0.06), rng, grain=0.0)
    parts: list[Part] = [
        Ball(centre=vector(0, 0, 0), radii=vector(0.054, 0.075, 0.064), material=outfit.skin, axes=still),
        Ball(centre=vector(0, -0.008, -0.066), radii=vector(0.011, 0.016, 0.014), material=outfit.skin, axes=still),
        Ball(
            centre=vector(0, -0.038, -0.056),
            radii=vector(0.02, 0.005, 0.006),
            material=plain_material(rgb(0.6, 0.25, 0.25), rng),
            axes=still,
        ),
        Ball(centre=vector(0, 0.024, 0.016), radii=vector(0.061, 0.065, 0.062), material=outfit.hair, axes=still),
    ]
    parts += [
        Ball(centre=vector(s * 0.021, 0.012, -0.058), radii=vector(0.008, 0.007, 0.006), material=dark, axes=still)
        for s in (-1, 1)
    ]
    if outfit.long_hair:
        parts.append(
            Limb(start=vector(0, 0.02, 0.035), end=vector(0, -0.14, 0.04), thick=0.05, thin=0.045, material=outfit.hair)
        )
    if outfit.hat:
        parts.append(
            Ball(centre=vector(0, 0.05, 0), radii=vector(0.066, 0.045, 0.07), material=outfit.shoes, axes=still)
        )
        parts.append(
            Ball(centre=vector(0, 0.045, -0.05), radii=vector(0.055, 0.01, 0.06), material=outfit.shoes, axes=still)
        )
    return [part.moved(turn, vector(0, HEAD, -0.01)) for part in parts]


def _bag(outfit: Outfit) -> list[Part]:
    still = np.eye(3, dtype=np.float32)
    if outfit.bag == "backpack":
        return [
            Ball(
                centre=vector(0, SHOULDER - 0.14, 0.11),
                radii=vector(0.085, 0.13, 0.06),
                material=outfit.shoes,
                axes=still,
            )
        ]
    if outfit.bag == "handbag":
        return [
            Slab(centre=vector(0.19, HIP - 0.02, 0), half=vector(0.025, 0.06, 0.08), material=outfit.shoes, axes=still)
        ]
    return []


def _arm(outfit: Outfit, pose: Pose, side: int) -> list[Part]:
    index = (side + 1) // 2
    shoulder = vector(side * 0.105 * outfit.stout, SHOULDER - 0.025, 0)
    elbow = shoulder + UPPER_ARM * _direction(pose.arm[index], pose.arm_out[index], side)
    wrist = elbow + FOREARM * _direction(pose.arm[index] + pose.elbow[index], pose.arm_out[index] * 0.6, side)
    hand = wrist + np.float32(0.25) * (wrist - elbow)
    sleeve = outfit.top if outfit.long_sleeves else outfit.skin
    return [
        Limb(start=shoulder, end=elbow, thick=0.038, thin=0.03, material=outfit.top),
        Limb(start=elbow, end=wrist, thick=0.028, thin=0.022, material=sleeve),
        Limb(start=wrist, end=hand, thick=0.021, thin=0.018, material=outfit.skin),
    ]


def _leg(outfit: Outfit, pose: Pose, side: int) -> list[Part]:
    index = (side + 1) // 2
    hip = vector(side * 0.045 * outfit.stout, HIP, 0)
    knee = hip + THIGH * _direction(pose.thigh[index], pose.leg_out, side)
    bend = pose.thigh[index] - pose.knee[index]
    ankle = knee + SHIN * _direction(bend, pose.leg_out * 0.5, side)
    toe = ankle + 0.09 * _direction(bend + 1.35, 0.1, side)
    wide = 0.5 + 0.5 * outfit.stout
    shin = outfit.bottom if outfit.long_legs and not outfit.skirt else outfit.skin
    parts: list[Part] = [
        Limb(
            start=hip,
            end=knee,
            thick=0.062 * wide,
            thin=0.042 * wide,
            material=outfit.skin if outfit.skirt else outfit.bottom,
        ),
        Limb(start=knee, end=ankle, thick=0.041 * wide, thin=0.028, material=shin),
        Limb(start=ankle - vector(0, 0.012, 0), end=toe, thick=0.03, thin=0.022, material=outfit.shoes),
    ]
    if outfit.skirt:
        middle = hip + np.float32(0.75) * (knee - hip)
        parts.append(
            Limb(
                start=vector(0, HIP + 0.03, 0), end=middle, thick=0.06 * wide, thin=0.095 * wide, material=outfit.bottom
            )
        )
    return parts
