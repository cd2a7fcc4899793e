"""Where a thing stands in the picture: the study's rule, or on the ground.

Source: the original study's description of its data: centre anywhere in the picture, size 0.3 to 0.6 of its side; and
what it wished for: larger towards the bottom, nothing in the sky.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

SMALLEST, LARGEST = 0.3, 0.6
RULES = ("study", "ground")

HORIZON = 0.45  # of the height, from the top: what stands on the ground has its feet below
SMALLEST_STANDING, LARGEST_STANDING = 0.12, 0.9  # of the picture's side
HEIGHTS = (0.85, 1.15)  # things differ in height
NEAREST_PERCENTILE = 98  # of the ground's inverse depth: where the largest stand
LEVEL = (1.005, 1.5)  # growth of inverse depth over `STEP` downwards: less is a wall, more an edge
STEP = 1 / 40  # of the height
SKY = 0.02  # relative inverse depth up to which nothing can stand


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Place of a thing: middle of its bounding box and its longer side, in sides of the picture; mirrored or not."""

    x: float
    y: float
    size: float
    mirrored: bool

    def bottom(self, shape: tuple[int, int]) -> float:
        """Where the lowest row of a thing of a shape (height, width) lies, in sides of the picture."""
        return self.y + self.size * shape[0] / max(shape) / 2


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """The part of a cut-out that lies inside the picture: the same pixels in the picture and in the cut-out."""

    picture: tuple[slice, slice]
    cutout: tuple[slice, slice]


def draw_placement(rng: np.random.Generator) -> Placement:
    """A place by the study's rule."""
    x, y = rng.uniform(0, 1, 2).tolist()
    return Placement(x=x, y=y, size=float(rng.uniform(SMALLEST, LARGEST)), mirrored=bool(rng.random() < 0.5))


def standing_sizes(inverse: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """How large something is that stands at a pixel of a photo; 0 where nothing can stand.

    Size goes with inverse depth, as perspective has it: the largest stand at the nearest ground of the photo. Ground is
    what lies below the horizon and comes nearer downwards. Where there is none of it, it is a plane that begins at the
    horizon.

    Args:
        inverse: Inverse depth of the photo in proportion to 1/z; negative where not known.

    Returns:
        Longer side of the thing, in sides of the picture.
    """
    ground = np.where(_level(inverse), inverse, np.float32(0))
    ground[: round(HORIZON * len(inverse))] = 0
    if not ground.any():
        return plane_sizes(inverse)
    nearest = np.percentile(ground[ground > 0], NEAREST_PERCENTILE)
    return _sizes(np.minimum(ground / np.float32(nearest), 1))


def plane_sizes(inverse: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The same on a plane that begins at the horizon and covers all that is not sky."""
    return _sizes(np.where((inverse < 0) | (inverse > SKY), plane_depth(len(inverse)), np.float32(0)))


def plane_depth(height: int) -> Float32[np.ndarray, "h 1"]:
    """Inverse depth of the rows of level ground in perspective, as shares of the nearest: 0 down to the horizon."""
    first = round(HORIZON * height)
    rows = np.maximum(np.arange(height, dtype=np.float32) - first, 0) / np.float32(max(height - 1 - first, 1))
    return rows[:, None]


def _sizes(share: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Sizes that are large enough to be seen, from shares of the largest."""
    sizes = share * np.float32(LARGEST_STANDING)
    return np.where(sizes >= SMALLEST_STANDING, sizes, np.float32(0))


def _level(inverse: Float32[np.ndarray, "h w"]) -> np.ndarray:
    """True where inverse depth grows downwards as that of level ground does."""
    step = max(2, round(inverse.shape[0] * STEP))
    smooth = cv2.medianBlur(inverse, 5)
    above = np.roll(smooth, step, axis=0)
    growth = smooth / np.where(above > 0, above, np.float32(np.inf))
    known: np.ndarray = (inverse > 0) & (growth >= LEVEL[0]) & (growth <= LEVEL[1])
    return known


def draw_standing(
    sizes: Float32[np.ndarray, "h w"], shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Placement, tuple[int, int]] | None:
    """A place on the ground: any pixel where something can stand is as likely as any other.

    Args:
        sizes: Of what stands at each pixel of the picture, from `standing_sizes`.
        shape: Height and width of the cut-out, in any unit.
        rng: Draws the place and how tall the thing is.

    Returns:
        The place, and row and column of the pixel it stands on; None if the picture has no ground.
    """
    feet = np.flatnonzero(sizes > 0)
    if feet.size == 0:
        return None
    row, column = divmod(int(feet[rng.integers(feet.size)]), sizes.shape[1])
    size = float(sizes[row, column]) * float(rng.uniform(*HEIGHTS))
    middle = (row + 1) / sizes.shape[0] - size * shape[0] / max(shape) / 2
    return Placement(x=(column + 0.5) / sizes.shape[1], y=middle, size=size, mirrored=False), (row, column)


def overlap(place: Placement, shape: tuple[int, int], px: int) -> Overlap:
    """Where a cut-out meets the picture.

    Args:
        place: Its place.
        shape: Height and width of the cut-out, pixels.
        px: Side of the picture.

    Returns:
        Slices of rows and columns in both. Never empty: one row and column at least are moved into the picture.
    """
    picture, cutout = [], []
    for middle, length in ((place.y, shape[0]), (place.x, shape[1])):
        start = min(max(round(middle * px - length / 2), 1 - length), px - 1)
        low, high = max(start, 0), min(start + length, px)
        picture.append(slice(low, high))
        cutout.append(slice(low - start, high - start))
    return Overlap(picture=(picture[0], picture[1]), cutout=(cutout[0], cutout[1]))
