"""Random birds, as figures of limbs. They look to the right (x), about one unit long."""

import numpy as np

from data.scenes.parts import Ball, Figure, Limb, Part, turned, vector
from data.scenes.textures import Material, draw_colour, plain_material, rgb, somewhere

STILL = np.eye(3, dtype=np.float32)


def _spread_wing(rng: np.random.Generator, side: int, coat: Material) -> Part:
    end = vector(-0.1, 0.1 + 0.7 * float(rng.uniform(0.2, 0.9)), side * 0.8)
    return Limb(start=vector(0.05, 0.1, side * 0.15), end=end, thick=0.13, thin=0.05, material=coat)


def _folded_wing(side: int, coat: Material, lean: float) -> Part:
    centre, radii = vector(-0.08, 0.02, side * 0.17), vector(0.36, 0.15, 0.07)
    return Ball(centre=centre, radii=radii, material=coat, axes=turned(roll=lean))


def bird(rng: np.random.Generator) -> Figure:
    """A random bird, standing or with its wings spread."""
    coat = Material(
        colours=(draw_colour(rng), draw_colour(rng)),
        pattern=str(rng.choice(["plain", "stripes", "spots", "patches"])),
        period=float(rng.uniform(0.08, 0.3)),
        grain=0.35,
        offset=somewhere(rng),
    )
    beak = plain_material(draw_colour(rng, (0.02, 0.15), (0.5, 0.9), (0.5, 0.95)), rng, grain=0.1)
    dark = plain_material(rgb(0.05, 0.05, 0.05), rng, grain=0.0, shine=0.5)
    lean, neck, leg = float(rng.uniform(0.0, 0.9)), float(rng.uniform(0.1, 0.5)), float(rng.uniform(0.1, 0.5))
    along = vector(np.cos(lean), np.sin(lean), 0)
    head = along * np.float32(0.36) + neck * vector(0.35, 0.9, 0)
    parts: list[Part] = [
        Ball(centre=vector(0, 0, 0), radii=vector(0.4, 0.24, 0.22), material=coat, axes=turned(roll=lean)),
        Limb(start=along * np.float32(0.25), end=head, thick=0.14, thin=0.08, material=coat),
        Ball(centre=head, radii=vector(0.13, 0.12, 0.11), material=coat, axes=STILL),
        Limb(
            start=head + vector(0.08, 0, 0),
            end=head + vector(float(rng.uniform(0.2, 0.36)), -0.03, 0),
            thick=0.05,
            thin=0.012,
            material=beak,
        ),
        Limb(start=along * np.float32(-0.3), end=along * np.float32(-0.75), thick=0.09, thin=0.07, material=coat),
    ]
    parts += [
        Ball(centre=head + vector(0.06, 0.035, side * 0.09), radii=vector(0.02, 0.02, 0.02), material=dark, axes=STILL)
        for side in (-1, 1)
    ]
    spread = bool(rng.random() < 0.35)
    for side in (-1, 1):
        parts.append(_spread_wing(rng, side, coat) if spread else _folded_wing(side, coat, lean))
        foot = vector(0.02, -0.2 - leg, side * 0.09)
        parts.append(Limb(start=vector(0, -0.15, side * 0.09), end=foot, thick=0.03, thin=0.02, material=beak))
        parts.append(Limb(start=foot, end=foot + vector(0.12, -0.01, 0), thick=0.022, thin=0.015, material=beak))
    return Figure(name="bird", parts=tuple(parts), height_m=float(rng.uniform(0.4, 1.0)))
