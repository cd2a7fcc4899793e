"""The things of the built-in scenes: which kinds there are and how each is turned to the viewer."""

import numpy as np

from data.scenes.animals import quadruped
from data.scenes.birds import bird
from data.scenes.objects import thing
from data.scenes.parts import Figure, turned
from data.scenes.people import person

# Maker, share of all things, and how far it may be turned to either side (radians).
KINDS = {
    "person": (person, 0.45, np.pi),
    "quadruped": (quadruped, 0.25, 0.9),
    "bird": (bird, 0.07, 0.9),
    "object": (thing, 0.23, 0.9),
}


def draw_thing(rng: np.random.Generator) -> Figure:
    """A random thing, turned the way it shall be seen; half of all look to the left."""
    names = list(KINDS)
    maker, _, most = KINDS[str(rng.choice(names, p=[KINDS[name][1] for name in names]))]
    yaw = float(rng.uniform(-most, most)) + float(rng.choice([0.0, np.pi]))
    return maker(rng).moved(turned(yaw=yaw, pitch=-float(rng.uniform(-0.05, 0.3)), roll=float(rng.normal(0, 0.07))))
