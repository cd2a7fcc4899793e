"""Place foregrounds: anywhere, as in the study, or standing on the ground, larger towards the bottom."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

SMALLEST, LARGEST = 0.3, 0.6  # longer side as a fraction of the image side, as in the study
HORIZON = 0.45  # share of the height from the top: feet on the ground are below
SMALLEST_STANDING, LARGEST_STANDING = 0.12, 0.9  # as a fraction of the image side
RULES = {"study": LARGEST, "ground": LARGEST_STANDING}  # rule of placement -> largest size
HEIGHTS = (0.85, 1.15)  # range of the factor by which sizes vary
NEAREST_PERCENTILE = 98  # percentile of the ground's inverse depth at which foregrounds have the largest size
LEVEL = (1.005, 1.5)  # growth of inverse depth per `STEP` downwards; below it is a wall, above it an edge
STEP = 1 / 40  # share of the height
SKY = 0.02  # relative inverse depth up to which nothing can stand

Window = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Centre and longer side of the bounding box, as a fraction of the image side; mirrored or not."""

    x: float
    y: float
    size: float
    mirrored: bool = False

    def bottom(self, shape: tuple[int, int]) -> float:
        """Return the lowest row of a foreground of shape (height, width), as a fraction of the image side."""
        return self.y + self.size * shape[0] / max(shape) / 2


def draw_placement(rng: np.random.Generator, sizes: tuple[float, float] = (SMALLEST, LARGEST)) -> Placement:
    """Draw a place by the study's rule, with a size within `sizes`."""
    x, y = rng.uniform(0, 1, 2).tolist()
    place = Placement(x=x, y=y, size=float(rng.uniform(*sizes)))
    rng.random()  # unused; earlier versions drew it, and a seed still gives the same data
    return place


def compute_standing_sizes(inverse: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Compute the longer side of a foreground standing at each pixel, in fractions of the image side; 0 where none can.

    Size is proportional to inverse depth (1/z, negative where unknown). Ground lies below the horizon and gets nearer
    downwards; an image without such ground gets a plane that starts at the horizon.
    """
    ground = np.where(_find_level_pixels(inverse), inverse, np.float32(0))
    ground[: round(HORIZON * len(inverse))] = 0
    if not ground.any():
        return compute_plane_sizes(inverse)
    nearest = np.percentile(ground[ground > 0], NEAREST_PERCENTILE)
    return _scale_sizes(np.minimum(ground / np.float32(nearest), 1))


def compute_plane_sizes(inverse: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Compute sizes on a plane that starts at the horizon and covers everything but the sky."""
    plane = compute_plane_depth(len(inverse))
    return _scale_sizes(np.where((inverse < 0) | (inverse > SKY), plane, np.float32(0)))


def compute_plane_depth(height: int) -> Float32[np.ndarray, "h 1"]:
    """Compute the inverse depth of level ground by row, as shares of the nearest: 0 down to the horizon."""
    first = round(HORIZON * height)
    rows = np.maximum(np.arange(height, dtype=np.float32) - first, 0) / np.float32(max(height - 1 - first, 1))
    return rows[:, None]


def _scale_sizes(share: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Convert shares of the largest size to sizes; sizes too small to be seen become 0."""
    sizes = share * np.float32(LARGEST_STANDING)
    return np.where(sizes >= SMALLEST_STANDING, sizes, np.float32(0))


def _find_level_pixels(inverse: Float32[np.ndarray, "h w"]) -> np.ndarray:
    """Find pixels at which inverse depth grows downwards as on level ground."""
    step = max(2, round(inverse.shape[0] * STEP))
    smooth = cv2.medianBlur(inverse, 5)
    above = np.roll(smooth, step, axis=0)
    growth = smooth / np.where(above > 0, above, np.float32(np.inf))
    level: np.ndarray = (inverse > 0) & (growth >= LEVEL[0]) & (growth <= LEVEL[1])
    return level


def draw_standing(
    sizes: Float32[np.ndarray, "h w"], shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Placement, tuple[int, int]] | None:
    """Draw a place on the ground and the pixel (row, column) to stand on, evenly over the pixels with a size."""
    feet = np.flatnonzero(sizes > 0)
    if feet.size == 0:
        return None
    row, column = divmod(int(feet[rng.integers(feet.size)]), sizes.shape[1])
    size = float(sizes[row, column]) * float(rng.uniform(*HEIGHTS))
    middle = (row + 1) / sizes.shape[0] - size * shape[0] / max(shape) / 2
    return Placement(x=(column + 0.5) / sizes.shape[1], y=middle, size=size), (row, column)


def compute_overlap(place: Placement, shape: tuple[int, int], px: int) -> tuple[Window, Window]:
    """Return rows and columns of the overlapping window, in image and in foreground coordinates.

    The foreground is moved until at least one pixel lies inside the image of side `px`.
    """
    image, foreground = [], []
    for middle, length in ((place.y, shape[0]), (place.x, shape[1])):
        start = min(max(round(middle * px - length / 2), 1 - length), px - 1)
        low, high = max(start, 0), min(start + length, px)
        image.append(slice(low, high))
        foreground.append(slice(low - start, high - start))
    return (image[0], image[1]), (foreground[0], foreground[1])
