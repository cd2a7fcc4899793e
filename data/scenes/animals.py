"""Random animals: four-legged ones, as figures of limbs. They look to the right (x), about one unit long."""

import numpy as np

from data.scenes.breeds import BREEDS, GREY, Breed
from data.scenes.parts import Ball, Figure, Limb, Part, turned, vector
from data.scenes.textures import Colour, Material, darker, draw_colour, plain_material, rgb, somewhere

STILL = np.eye(3, dtype=np.float32)


def quadruped(rng: np.random.Generator) -> Figure:
    """A random four-legged animal."""
    name = str(rng.choice(list(BREEDS)))
    breed = BREEDS[name]
    coat = _coat(rng, breed)
    girth, leg = float(rng.uniform(*breed.girth)), float(rng.uniform(*breed.leg))
    back = leg + girth * 0.6
    parts: list[Part] = [
        Limb(
            start=vector(-0.36, back, 0),
            end=vector(0.36, back + float(rng.uniform(-0.03, 0.06)), 0),
            thick=girth,
            thin=girth * 1.02,
            material=coat,
        ),
        *_legs(rng, coat, leg, girth),
        *_tail(rng, breed, coat, back),
        *_neck_and_head(rng, breed, coat, back + girth * 0.4),
    ]
    return Figure(name=name, parts=tuple(parts), height_m=float(rng.uniform(*breed.height_m)))


def _coat(rng: np.random.Generator, breed: Breed) -> Material:
    first = draw_colour(rng, *breed.hues)
    dark: Colour = darker(first, 0.15)
    second = dark if rng.random() < 0.6 else draw_colour(rng, *GREY)
    pattern = str(rng.choice(breed.patterns))
    period = {
        "stripes": rng.uniform(0.07, 0.13),
        "spots": rng.uniform(0.18, 0.3),
        "patches": rng.uniform(0.25, 0.5),
    }.get(pattern, 0.3)
    if pattern == "spots":
        second = rgb(0.5, 0.3, 0.15)
    offset = somewhere(rng)
    return Material(
        colours=(first, second),
        pattern=pattern,
        period=float(period),
        grain=0.3,
        turn=float(rng.uniform(-0.15, 0.15)),
        offset=offset,
    )


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
        Ball(
            centre=nose + vector(head * 0.36, head * 0.12, 0),
            radii=vector(0.16, 0.14, 0.2) * np.float32(head),
            material=dark,
            axes=STILL,
        ),
    ]
    droop = -0.9 if breed.trunk else float(rng.uniform(-0.8, 0.9))
    for side in (-1, 1):
        parts.append(
            Ball(
                centre=vector(head * 0.62, head * 0.38, side * head * 0.6),
                radii=vector(0.14, 0.14, 0.14) * np.float32(head),
                material=dark,
                axes=STILL,
            )
        )
        parts.append(_fan(side, head, ear, coat) if breed.trunk else _ear(side, head, ear, droop, coat))
        if breed.horn:
            horn = vector(0, head * 0.8, side * head * 0.35)
            parts.append(
                Limb(
                    start=horn,
                    end=horn + breed.horn * head * vector(0.1, 0.9, side * 0.5),
                    thick=head * 0.13,
                    thin=head * 0.06,
                    material=dark,
                )
            )
    if breed.trunk:
        parts += _trunk(nose, head, coat)
    return parts


def _ear(side: int, head: float, ear: float, droop: float, coat: Material) -> Part:
    base = vector(-head * 0.3, head * 0.6, side * head * 0.6)
    tip = base + ear * vector(-0.25, np.sin(droop), side * np.cos(droop) * 0.6)
    return Limb(start=base, end=tip, thick=head * 0.3, thin=head * 0.12, material=coat)


def _fan(side: int, head: float, ear: float, coat: Material) -> Part:
    """The ear of what has a trunk."""
    centre, radii = vector(-head * 0.4, 0, side * head * 1.0), vector(ear * 0.75, ear * 0.9, 0.03)
    return Ball(centre=centre, radii=radii, material=coat, axes=turned(yaw=side * 0.5))


def _trunk(nose: np.ndarray, head: float, coat: Material) -> list[Part]:
    bend = nose + vector(head * 0.5, -head * 1.3, 0)
    tip = bend + vector(head * 0.4, -head, 0)
    return [
        Limb(start=nose, end=bend, thick=head * 0.4, thin=head * 0.28, material=coat),
        Limb(start=bend, end=tip, thick=head * 0.28, thin=head * 0.18, material=coat),
    ]
