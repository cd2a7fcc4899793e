"""Copy-paste augmentation: the foreground of one sample over another, with its mask and depth.

Source: Ghiasi et al. 2021, arXiv:2012.07177, for one foreground and without occlusion by nearer things.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt64

from data.pack.pack import Pack, RawBatch

SCALE = (0.6, 1.4)  # size of the pasted foreground, relative to its own
ROTATION_DEG = 15
SHIFT = 0.3  # largest shift along each axis, as a share of the side
OPAQUE = 128  # masks from this value take the depth along
STREAM = 1  # separates these draws from those of the other augmentations, which use the same seed
DRAWS = 7  # chosen or not, source, flip, scale, angle, shift to the right, shift downwards


def paste_foregrounds(batch: RawBatch, seeds: UInt64[np.ndarray, " b"], pack: Pack, count: int, p: float) -> None:
    """Paste foregrounds into a batch in place.

    The source of a sample is drawn by the sample's own seed from the first `count` samples of the pack, so that neither
    batch size nor order matters. A source without a mask or without foreground pastes nothing. An unknown mask stays
    unknown, a sample without any depth stays without, and unknown depth of the source makes the pasted pixels unknown.

    Args:
        batch: Samples as packed; overwritten.
        seeds: One per sample; the same seed changes the same sample in the same way.
        pack: The samples from which foregrounds are taken.
        count: Number of samples that may be sources, from the first of the pack.
        p: Probability that a sample gets a foreground.
    """
    draws = np.stack([np.random.default_rng([seed, STREAM]).random(DRAWS) for seed in seeds.tolist()])
    rows = np.flatnonzero(draws[:, 0] < p)
    if not rows.size:
        return
    sources = pack.gather((draws[rows, 1] * count).astype(np.int64))
    for i, row in enumerate(rows.tolist()):
        if sources.mask_known[i] and (sources.mask[i] >= OPAQUE).any():
            _paste(batch, row, sources, i, _transform(draws[row, 2:], pack.px))


def _transform(draws: Float[np.ndarray, "5"], px: int) -> Float[np.ndarray, "2 3"]:
    """Return the affine transform of draws from [0, 1): flip, scale, angle, shift to the right, shift downwards."""
    scale = SCALE[0] + draws[1] * (SCALE[1] - SCALE[0])
    centre = (px - 1) / 2
    rotation = cv2.getRotationMatrix2D((centre, centre), ROTATION_DEG * (2 * draws[2] - 1), scale)
    matrix = np.asarray(rotation, np.float64)
    if draws[0] < 0.5:
        matrix = matrix @ np.array([[-1, 0, px - 1], [0, 1, 0], [0, 0, 1]], np.float64)
    matrix[:, 2] += SHIFT * px * (2.0 * draws[3:] - 1.0)
    return matrix


def _paste(batch: RawBatch, row: int, sources: RawBatch, i: int, matrix: Float[np.ndarray, "2 3"]) -> None:
    size = batch.mask.shape[1:]
    mask = cv2.warpAffine(sources.mask[i], matrix, size)
    alpha = mask.astype(np.float32)[..., None] / 255
    image = cv2.warpAffine(sources.image[i], matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    batch.image[row] = np.rint(batch.image[row] * (1 - alpha) + image * alpha)
    if batch.mask_known[row]:
        batch.mask[row] = np.rint(batch.mask[row] * (1 - alpha[..., 0]) + mask)
        if batch.mask_valid is not None:
            batch.mask_valid[row] |= mask >= OPAQUE
    if batch.depth[row].any():
        depth = cv2.warpAffine(sources.depth[i], matrix, size, flags=cv2.INTER_NEAREST)
        np.copyto(batch.depth[row], depth, where=mask >= OPAQUE)
