"""Mean and std of image, mask and depth, from sums that are taken sample by sample while packing."""

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

SUMS = 12  # per sample: 3 + 3 for the image, 1 + 1 for the mask, 1 + 1 for the depth, shares of known depth and mask
SUM_ENDS = (3, 6, 7, 8, 9, 10, 11)


@dataclass(frozen=True)
class Stats:
    """Statistics over all pixels of a data set; values in [0, 1].

    Image values are those of red, green and blue; mask and depth (relative inverse) are measured where known and None
    if nothing is known. `depth_known` and `mask_known` are shares of the pixels; most masks are known wholly or not.
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
        """Return the statistics with the image moments that a network's images are normalised by."""
        moments = config.image_moments
        return self if moments is None else dataclasses.replace(self, image_mean=moments.mean, image_std=moments.std)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Stats":
        """Build statistics from the values of `to_dict`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def sample_sums(image: Image, mask: Mask, depth: Depth, *, mask_known: float) -> Float64[np.ndarray, "12"]:
    """Return means and mean squares of image / 255, mask / 255 and depth, then the shares of known depth and mask.

    Means are over all pixels; unknown values count as 0. `depth` holds codes, `mask_known` is a share of the pixels.
    """
    values, known = decode_depth(depth)
    moments = [*_compute_moments(image, 255.0), *_compute_moments(mask, 255.0), *_compute_moments(values, 1.0)]
    return np.concatenate([*moments, [known.mean(), mask_known]])


def compute_stats(sums: Float64[np.ndarray, "n 12"]) -> Stats:
    """Compute the statistics of samples from their sums."""
    image, image_square, *tasks, depth_known, mask_known = np.split(sums.mean(axis=0), SUM_ENDS)
    red, green, blue = _compute_std(image, image_square)
    mask_mean, mask_std = _rescale_to_known(tasks[0], tasks[1], float(mask_known[0]))
    depth_mean, depth_std = _rescale_to_known(tasks[2], tasks[3], float(depth_known[0]))
    return Stats(
        images=len(sums),
        image_mean=(float(image[0]), float(image[1]), float(image[2])),
        image_std=(red, green, blue),
        mask_mean=mask_mean,
        mask_std=mask_std,
        depth_mean=depth_mean,
        depth_std=depth_std,
        depth_known=float(depth_known[0]),
        mask_known=float(mask_known[0]),
    )


def _compute_moments(values: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and mean square of each channel, in units of `unit`."""
    mean, std = (moment[:, 0] / unit for moment in cv2.meanStdDev(values))
    return mean, std**2 + mean**2


def _rescale_to_known(
    mean: Float64[np.ndarray, "1"], mean_square: Float64[np.ndarray, "1"], share: float
) -> tuple[float, float] | tuple[None, None]:
    """Return mean and std over the known share of values that are 0 elsewhere; None if nothing is known."""
    if not share:
        return None, None
    return float(mean[0] / share), _compute_std(mean / share, mean_square / share)[0]


def _compute_std(mean: Float64[np.ndarray, " n"], mean_square: Float64[np.ndarray, " n"]) -> list[float]:
    stds: list[float] = np.sqrt(np.maximum(mean_square - mean**2, 0.0)).tolist()
    return stds
