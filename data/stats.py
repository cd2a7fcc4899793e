"""Mean and deviation of image, mask and depth, added up sample by sample while packing."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64

from data.decode import Depth, Image, Mask, decode_depth

SUMS = 11  # of a sample: 3 + 3 of the image, 1 + 1 of the mask, 1 + 1 of the depth, share of known depth
SUM_ENDS = (3, 6, 7, 8, 9, 10)


@dataclass(frozen=True)
class Stats:
    """Statistics over all pixels of a data set; values in [0, 1].

    Attributes:
        images: Number of samples.
        image_mean: Mean of red, green, blue.
        image_std: Deviation of red, green, blue.
        mask_mean: Share of the picture that the mask covers.
        mask_std: Deviation of the mask.
        depth_mean: Mean relative inverse depth where known; None where it is known nowhere.
        depth_std: Its deviation.
        depth_known: Share of the pixels whose depth is known.
    """

    images: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    mask_mean: float
    mask_std: float
    depth_mean: float | None
    depth_std: float | None
    depth_known: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Stats":
        """Inverse of `to_dict`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def sample_sums(image: Image, mask: Mask, depth: Depth) -> Float64[np.ndarray, "11"]:
    """A sample's mean values and mean squares (depth's over all pixels, counting unknown as 0).

    Args:
        image: RGB.
        mask: 0..255.
        depth: Codes.

    Returns:
        Means and mean squares of image / 255, mask / 255 and depth, then the share of known depth.
    """
    values, known = decode_depth(depth)
    moments = [*_moments(image, 255.0), *_moments(mask, 255.0), *_moments(values, 1.0)]
    return np.concatenate([*moments, [known.mean()]])


def stats_of(sums: Float64[np.ndarray, "n 11"]) -> Stats:
    """Statistics of samples from their sums."""
    image, image_square, mask, mask_square, depth, depth_square, known = np.split(sums.mean(axis=0), SUM_ENDS)
    red, green, blue = _deviation(image, image_square)
    depth_known = float(known[0])
    if depth_known:
        depth, depth_square = depth / depth_known, depth_square / depth_known
    return Stats(
        images=len(sums),
        image_mean=(float(image[0]), float(image[1]), float(image[2])),
        image_std=(red, green, blue),
        mask_mean=float(mask[0]),
        mask_std=_deviation(mask, mask_square)[0],
        depth_mean=float(depth[0]) if depth_known else None,
        depth_std=_deviation(depth, depth_square)[0] if depth_known else None,
        depth_known=depth_known,
    )


def _moments(values: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square of each channel, in units of `unit`."""
    mean, deviation = (moment[:, 0] / unit for moment in cv2.meanStdDev(values))
    return mean, deviation**2 + mean**2


def _deviation(mean: Float64[np.ndarray, " n"], mean_square: Float64[np.ndarray, " n"]) -> list[float]:
    deviations: list[float] = np.sqrt(np.maximum(mean_square - mean**2, 0.0)).tolist()
    return deviations
