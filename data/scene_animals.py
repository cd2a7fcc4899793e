"""Random animals: four-legged ones and birds, as figures of limbs. They look to the right (x), about one unit long."""

from dataclasses import dataclass

import numpy as np

from data.scene_figures import Ball, Figure, Limb, Part, turned, vector
from data.scene_textures import Colour, Material, draw_colour, plain_material, rgb

STILL = np.eye(3, dtype=np.float32)
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Breed:
    """Ranges of build, in lengths of the trunk, and of looks.

    Attributes:
        leg: Length of the legs.
        girth: Radius of the trunk.
        neck: Length of the neck.
        rise: Angle of the neck above the trunk, radians.
        head: Radius of the head.
        muzzle: Length of the muzzle in radii of the head.
        ear: Length of the ears in radii of the head.
        tail: Length of the tail.
        horn: Length of the horns in radii of the head; 0 for none.
        trunk: Whether it has a trunk like an elephant.
        height_m: Length of the trunk in metres.
        hues: Hue, saturation and value of the coat.
        patterns: What the coat may show.
    """

    leg: Range
    girth: Range
    neck: Range
    rise: Range
    head: Range
    muzzle: Range
    ear: Range
    tail: Range
    height_m: Range
    hues: tuple[Range, Range, Range]
    patterns: tuple[str, ...]
    horn: float = 0.0
    trunk: bool = False


_BROWN = ((0.03, 0.11), (0.1, 0.7), (0.2, 0.95))
_GREY = ((0.0, 1.0), (0.0, 0.12), (0.1, 0.95))

BREEDS = {
    "dog": Breed(leg=(0.5, 0.8), girth=(0.16, 0.22), neck=(0.2, 0.35), rise=(0.5, 1.1), head=(0.13, 0.18), muzzle=(1.2, 2.0), ear=(0.8, 1.4), tail=(0.4, 0.8), height_m=(0.5, 0.8), hues=_BROWN, patterns=("plain", "patches", "cloudy")),
    "cat": Breed(leg=(0.4, 0.55), girth=(0.15, 0.2), neck=(0.12, 0.2), rise=(0.5, 1.0), head=(0.15, 0.19), muzzle=(0.5, 0.7), ear=(0.8, 1.0), tail=(0.8, 1.1), height_m=(0.35, 0.5), hues=_BROWN, patterns=("stripes", "plain", "patches")),
    "horse": Breed(leg=(0.85, 1.05), girth=(0.2, 0.25), neck=(0.5, 0.65), rise=(0.7, 1.0), head=(0.13, 0.15), muzzle=(2.0, 2.6), ear=(0.6, 0.8), tail=(0.5, 0.7), height_m=(1.3, 1.7), hues=_BROWN, patterns=("plain", "plain", "patches")),
    "zebra": Breed(leg=(0.8, 0.95), girth=(0.22, 0.26), neck=(0.4, 0.5), rise=(0.7, 0.9), head=(0.13, 0.15), muzzle=(1.9, 2.3), ear=(0.8, 1.0), tail=(0.4, 0.6), height_m=(1.2, 1.4), hues=((0.1, 0.15), (0.0, 0.05), (0.9, 0.98)), patterns=("stripes",)),
    "cow": Breed(leg=(0.55, 0.7), girth=(0.26, 0.32), neck=(0.22, 0.3), rise=(0.1, 0.5), head=(0.15, 0.17), muzzle=(1.6, 2.0), ear=(0.8, 1.1), tail=(0.5, 0.7), height_m=(1.4, 1.7), hues=_BROWN, patterns=("patches", "patches", "plain"), horn=0.9),
    "sheep": Breed(leg=(0.45, 0.55), girth=(0.3, 0.36), neck=(0.15, 0.2), rise=(0.3, 0.7), head=(0.13, 0.15), muzzle=(1.2, 1.5), ear=(0.9, 1.2), tail=(0.1, 0.2), height_m=(0.8, 1.0), hues=_GREY, patterns=("cloudy",)),
    "giraffe": Breed(leg=(1.2, 1.5), girth=(0.24, 0.28), neck=(1.3, 1.6), rise=(1.0, 1.3), head=(0.13, 0.15), muzzle=(1.8, 2.2), ear=(0.8, 1.0), tail=(0.4, 0.6), height_m=(1.6, 1.9), hues=((0.09, 0.12), (0.3, 0.5), (0.85, 0.95)), patterns=("spots",), horn=0.7),
    "elephant": Breed(leg=(0.6, 0.75), girth=(0.33, 0.4), neck=(0.25, 0.3), rise=(0.2, 0.5), head=(0.24, 0.28), muzzle=(0.9, 1.0), ear=(1.3, 1.6), tail=(0.4, 0.5), height_m=(1.8, 2.4), hues=_GREY, patterns=("cloudy", "plain"), trunk=True),
    "pig": Breed(leg=(0.3, 0.4), girth=(0.26, 0.32), neck=(0.12, 0.16), rise=(0.0, 0.3), head=(0.18, 0.22), muzzle=(1.2, 1.4), ear=(0.7, 1.0), tail=(0.1, 0.2), height_m=(0.8, 1.1), hues=((0.94, 1.05), (0.1, 0.4), (0.5, 0.95)), patterns=("plain", "patches")),
}  # fmt: skip


def quadruped(rng: np.random.Generator) -> Figure:
    """A random four-legged animal."""
    name = str(rng.choice(list(BREEDS)))
    breed = BREEDS[name]
    coat = _coat(rng, breed)
    girth, leg = float(rng.uniform(*breed.girth)), float(rng.uniform(*breed.leg))
    back = leg + girth * 0.6
    parts: list[Part] = [
        Limb(start=vector(-0.36, back, 0), end=vector(0.36, back + float(rng.uniform(-0.03, 0.06)), 0), thick=girth, thin=girth * 1.02, material=coat),
        *_legs(rng, coat, leg, girth),
        *_tail(rng, breed, coat, back),
        *_neck_and_head(rng, breed, coat, back + girth * 0.4),
    ]
    return Figure(name=name, parts=tuple(parts), height_m=float(rng.uniform(*breed.height_m)))


def _coat(rng: np.random.Generator, breed: Breed) -> Material:
    first = draw_colour(rng, *breed.hues)
    dark: Colour = tuple(0.15 * c for c in first)
    second = dark if rng.random() < 0.6 else draw_colour(rng, *_GREY)
    pattern = str(rng.choice(breed.patterns))
    period = {"stripes": rng.uniform(0.07, 0.13), "spots": rng.uniform(0.18, 0.3), "patches": rng.uniform(0.25, 0.5)}.get(pattern, 0.3)
    if pattern == "spots":
        second = rgb(0.5, 0.3, 0.15)
    offset = tuple(rng.uniform(0, 50, 2).tolist())
    return Material(colours=(first, second), pattern=pattern, period=float(period), grain=0.3, turn=float(rng.uniform(-0.15, 0.15)), offset=offset)


def _legs(rng: np.random.Generator, coat: Material, leg: float, girth: float) -> list[Part]:
    swing, thick = float(rng.uniform(-0.5, 0.5)), girth * 0.36
    parts: list[Part] = []
    for x, side, phase in ((-0.36, -1, 1), (-0.36, 1, -1), (0.36, -1, -1), (0.36, 1, 1)):
        angle, bend = swing * phase, abs(swing) * float(rng.uniform(0.2, 0.9)) * (1 if x < 0 else -1)
        hip = vector(x, leg + girth * 0.2, side * girth * 0.55)
        knee = hip + leg * 0.6 * vector(np.sin(angle), -np.cos(angle), 0)
        foot = knee + leg * 0.52 * vector(np.sin(angle - bend), -np.cos(angle - bend), 0)
        parts.append(Limb(start=hip, end=knee, thick=thick * 1.3, thin=thick * 0.75, material=coat))
        parts.append(Limb(start=knee, end=foot, thick=thick * 0.7, thin=thick * 0.55, material=coat))
    return parts


def _tail(rng: np.random.Generator, breed: Breed, coat: Material, back: float) -> list[Part]:
    length, angle = float(rng.uniform(*breed.tail)), float(rng.uniform(-1.2, 0.9))
    root = vector(-0.36 - 0.15, back + 0.05, 0)
    middle = root + length * 0.5 * vector(-np.cos(angle), np.sin(angle), 0)
    end = middle + length * 0.5 * vector(-np.cos(angle + 0.6), np.sin(angle + 0.6), float(rng.uniform(-0.4, 0.4)))
    return [
        Limb(start=root, end=middle, thick=0.04, thin=0.035, material=coat),
        Limb(start=middle, end=end, thick=0.035, thin=0.045, material=coat),
    ]


def _neck_and_head(rng: np.random.Generator, breed: Breed, coat: Material, shoulder: float) -> list[Part]:
    neck, rise, head = (float(rng.uniform(*range_)) for range_ in (breed.neck, breed.rise, breed.head))
    root = vector(0.4, shoulder - 0.08, 0)
    top = root + (neck + head) * vector(np.cos(rise), np.sin(rise), 0)
    turn = turned(yaw=float(rng.uniform(-0.7, 0.7)), roll=float(rng.uniform(-0.45, 0.15)))
    parts: list[Part] = [part.moved(turn, top) for part in _head(rng, breed, coat, head)]
    parts.append(Limb(start=root, end=top, thick=head * 1.15, thin=head * 0.8, material=coat))
    return parts


def _head(rng: np.random.Generator, breed: Breed, coat: Material, head: float) -> list[Part]:
    dark = plain_material(rgb(0.06, 0.05, 0.05), rng, grain=0.0, shine=0.5)
    muzzle, ear = float(rng.uniform(*breed.muzzle)) * head, float(rng.uniform(*breed.ear)) * head
    nose = vector(muzzle, -0.25 * head, 0)
    parts: list[Part] = [
        Ball(centre=vector(0, 0, 0), radii=vector(head * 1.05, head, head * 0.9), material=coat, axes=STILL),
        Limb(start=vector(head * 0.3, -0.1 * head, 0), end=nose, thick=head * 0.62, thin=head * 0.42, material=coat),
        Ball(centre=nose + vector(head * 0.36, head * 0.12, 0), radii=vector(0.16, 0.14, 0.2) * np.float32(head), material=dark, axes=STILL),
    ]
    droop = -0.9 if breed.trunk else float(rng.uniform(-0.8, 0.9))
    for side in (-1, 1):
        parts.append(Ball(centre=vector(head * 0.62, head * 0.38, side * head * 0.6), radii=vector(0.14, 0.14, 0.14) * np.float32(head), material=dark, axes=STILL))
        base = vector(-head * 0.3, head * 0.6, side * head * 0.6)
        tip = base + ear * vector(-0.25, np.sin(droop), side * np.cos(droop) * 0.6)
        if breed.trunk:
            parts.append(Ball(centre=vector(-head * 0.4, 0, side * head * 1.0), radii=vector(ear * 0.75, ear * 0.9, 0.03), material=coat, axes=turned(yaw=side * 0.5)))
        else:
            parts.append(Limb(start=base, end=tip, thick=head * 0.3, thin=head * 0.12, material=coat))
        if breed.horn:
            horn = vector(0, head * 0.8, side * head * 0.35)
            parts.append(Limb(start=horn, end=horn + breed.horn * head * vector(0.1, 0.9, side * 0.5), thick=head * 0.13, thin=head * 0.06, material=dark))
    if breed.trunk:
        bend = nose + vector(head * 0.5, -head * 1.3, 0)
        parts.append(Limb(start=nose, end=bend, thick=head * 0.4, thin=head * 0.28, material=coat))
        parts.append(Limb(start=bend, end=bend + vector(head * 0.4, -head, 0), thick=head * 0.28, thin=head * 0.18, material=coat))
    return parts


def bird(rng: np.random.Generator) -> Figure:
    """A random bird, standing or with its wings spread."""
    coat = Material(
        colours=(draw_colour(rng), draw_colour(rng)), pattern=str(rng.choice(["plain", "stripes", "spots", "patches"])),
        period=float(rng.uniform(0.08, 0.3)), grain=0.35, offset=tuple(rng.uniform(0, 50, 2).tolist()),
    )  # fmt: skip
    beak = plain_material(draw_colour(rng, (0.02, 0.15), (0.5, 0.9), (0.5, 0.95)), rng, grain=0.1)
    dark = plain_material(rgb(0.05, 0.05, 0.05), rng, grain=0.0, shine=0.5)
    lean, neck, leg = float(rng.uniform(0.0, 0.9)), float(rng.uniform(0.1, 0.5)), float(rng.uniform(0.1, 0.5))
    along = vector(np.cos(lean), np.sin(lean), 0)
    head = along * np.float32(0.36) + neck * vector(0.35, 0.9, 0)
    parts: list[Part] = [
        Ball(centre=vector(0, 0, 0), radii=vector(0.4, 0.24, 0.22), material=coat, axes=turned(roll=lean)),
        Limb(start=along * np.float32(0.25), end=head, thick=0.14, thin=0.08, material=coat),
        Ball(centre=head, radii=vector(0.13, 0.12, 0.11), material=coat, axes=STILL),
        Limb(start=head + vector(0.08, 0, 0), end=head + vector(float(rng.uniform(0.2, 0.36)), -0.03, 0), thick=0.05, thin=0.012, material=beak),
        Limb(start=along * np.float32(-0.3), end=along * np.float32(-0.75), thick=0.09, thin=0.07, material=coat),
    ]
    parts += [Ball(centre=head + vector(0.06, 0.035, side * 0.09), radii=vector(0.02, 0.02, 0.02), material=dark, axes=STILL) for side in (-1, 1)]
    spread = bool(rng.random() < 0.35)
    for side in (-1, 1):
        if spread:
            up = float(rng.uniform(0.2, 0.9))
            parts.append(Limb(start=vector(0.05, 0.1, side * 0.15), end=vector(-0.1, 0.1 + 0.7 * up, side * 0.8), thick=0.13, thin=0.05, material=coat))
        else:
            parts.append(Ball(centre=vector(-0.08, 0.02, side * 0.17), radii=vector(0.36, 0.15, 0.07), material=coat, axes=turned(roll=lean)))
        foot = vector(0.02, -0.2 - leg, side * 0.09)
        parts.append(Limb(start=vector(0, -0.15, side * 0.09), end=foot, thick=0.03, thin=0.02, material=beak))
        parts.append(Limb(start=foot, end=foot + vector(0.12, -0.01, 0), thick=0.022, thin=0.015, material=beak))
    return Figure(name="bird", parts=tuple(parts), height_m=float(rng.uniform(0.4, 1.0)))
