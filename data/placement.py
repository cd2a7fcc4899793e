"""Where a thing stands in the picture: the study's rule.

Source: the original study's description of its data: centre anywhere in the picture, size 0.3 to 0.6 of its side.
"""

from dataclasses import dataclass

import numpy as np

SMALLEST, LARGEST = 0.3, 0.6


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Place of a thing: middle of its bounding box and its longer side, in sides of the picture; mirrored or not."""

    x: float
    y: float
    size: float
    mirrored: bool


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """The part of a cut-out that lies inside the picture: the same pixels in the picture and in the cut-out."""

    picture: tuple[slice, slice]
    cutout: tuple[slice, slice]


def draw_placement(rng: np.random.Generator) -> Placement:
    """A place by the study's rule."""
    x, y = rng.uniform(0, 1, 2).tolist()
    return Placement(x=x, y=y, size=float(rng.uniform(SMALLEST, LARGEST)), mirrored=bool(rng.random() < 0.5))


def overlap(place: Placement, shape: tuple[int, int], px: int) -> Overlap:
    """Where a cut-out meets the picture.

    Args:
        place: Its place.
        shape: Height and width of the cut-out, pixels.
        px: Side of the picture.

    Returns:
        Slices of rows and columns in both. Never empty, for the middle lies inside the picture.
    """
    picture, cutout = [], []
    for middle, length in ((place.y, shape[0]), (place.x, shape[1])):
        start = min(round(middle * px - length / 2), px - 1)
        low, high = max(start, 0), max(min(start + length, px), 1)
        picture.append(slice(low, high))
        cutout.append(slice(low - start, high - start))
    return Overlap(picture=(picture[0], picture[1]), cutout=(cutout[0], cutout[1]))
