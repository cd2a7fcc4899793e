"""Materials of made things."""

import numpy as np

from data.scenes.textures import Material, draw_colour, plain_material, rgb, somewhere


def painted(rng: np.random.Generator, period: float = 0.15, shine: float = 0.15) -> Material:
    """Paint, cloth or plastic of any colour, often patterned; `period` in units of the figure."""
    first, second = (draw_colour(rng, saturation=(0.0, 0.95), value=(0.1, 0.98)) for _ in range(2))
    pattern = str(rng.choice(["plain", "plain", "plain", "stripes", "checker", "spots", "plaid"]))
    offset = somewhere(rng)
    return Material(
        colours=(first, second),
        pattern=pattern,
        period=period,
        grain=0.2,
        turn=float(rng.choice([0.0, np.pi / 2, 0.7])),
        offset=offset,
        shine=shine,
    )


def rubber(rng: np.random.Generator) -> Material:
    """Black rubber."""
    return plain_material(rgb(0.15, 0.15, 0.16), rng, grain=0.2, period=0.2)


def bare_metal(rng: np.random.Generator) -> Material:
    """Grey metal."""
    return plain_material(rgb(*(float(rng.uniform(0.45, 0.85)),) * 3), rng, grain=0.1, shine=0.5)
