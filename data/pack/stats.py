"""Mean and std of image, mask and depth, computed from sums of each sample that are taken while packing."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64

from data.values.depth import Depth, decode_depth
from data.values.triplet import Image, Mask
from models.config import ModelConfig

# Positions in the sums of a sample, for red, green, blue, mask and depth; shares of known depth and mask come last.
MEANS, SQUARES = [0, 1, 2, 6, 8], [3, 4, 5, 7, 9]
SUMS = 12


@dataclass(frozen=True)
class Stats:
    """Statistics over all pixels of a data set; values in [0, 1].

    Image values are given for red, green and blue. Mask and depth are measured where known, and None if nothing is
    known; `depth_known` and `mask_known` are the known shares of the pixels.
    """

    images: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    mask_mean: float | None
    mask_std: float | None
    depth_mean: float | None
    depth_std: float | None
    depth_known: float
    mask_known: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    def for_network(self, config: ModelConfig) -> "Stats":
        """Return the statistics with the image mean and std by which a network's images are normalised."""
        moments = config.image_moments
        return self if moments is None else dataclasses.replace(self, image_mean=moments.mean, image_std=moments.std)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Stats":
        """Build statistics from the values of `to_dict`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def compute_sums(image: Image, mask: Mask, depth: Depth, *, mask_known: float) -> Float64[np.ndarray, "12"]:
    """Return means and mean squares of image / 255, mask / 255 and depth, then the shares of known depth and mask.

    Means are over all pixels; unknown values count as 0. `depth` holds codes, `mask_known` is a share of the pixels.
    """
    values, known = decode_depth(depth)
    moments = [*_compute_moments(image, 255.0), *_compute_moments(mask, 255.0), *_compute_moments(values, 1.0)]
    return np.concatenate([*moments, [known.mean(), mask_known]])


def compute_stats(sums: Float64[np.ndarray, "n 12"]) -> Stats:
    """Compute the statistics of samples from their sums."""
    average = sums.mean(axis=0)
    depth_known, mask_known = average[-2:].tolist()
    share = np.array([1.0, 1.0, 1.0, mask_known, depth_known])
    known = np.where(share > 0, share, 1.0)
    mean = average[MEANS] / known
    std = np.sqrt(np.maximum(average[SQUARES] / known - mean**2, 0.0))
    (red, green, blue, *means), (red_std, green_std, blue_std, *stds) = mean.tolist(), std.tolist()
    return Stats(
        images=len(sums),
        image_mean=(red, green, blue),
        image_std=(red_std, green_std, blue_std),
        mask_mean=means[0] if mask_known else None,
        mask_std=stds[0] if mask_known else None,
        depth_mean=means[1] if depth_known else None,
        depth_std=stds[1] if depth_known else None,
        depth_known=depth_known,
        mask_known=mask_known,
    )


def _compute_moments(values: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and mean square of each channel, in units of `unit`."""
    mean, std = (moment[:, 0] / unit for moment in cv2.meanStdDev(values))
    return mean, std**2 + mean**2
