"""The things of the built-in scenes: which kinds there are and how each is turned to the viewer."""

import numpy as np

from data.scene_figures import Figure, turned
from data.scene_people import person

KINDS = {"person": (person, 0.5, np.pi)}  # maker, share, how far it may be turned


def draw_thing(rng: np.random.Generator) -> Figure:
    """A random thing, turned the way it shall be seen."""
    names = list(KINDS)
    shares = np.array([KINDS[name][1] for name in names])
    maker, _, range_ = KINDS[str(rng.choice(names, p=shares / shares.sum()))]
    turn = turned(yaw=float(rng.uniform(-range_, range_)), pitch=-float(rng.uniform(-0.05, 0.3)), roll=float(rng.normal(0, 0.07)))
    return maker(rng).moved(turn)
