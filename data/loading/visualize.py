"""Render masks, depth and predictions as RGB images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from data.pack.pack import RawBatch
from data.values.depth import decode_depth

if TYPE_CHECKING:
    import torch


def render_grey(values: np.ndarray) -> np.ndarray:
    """Render values in [0, 1] of shape (h, w) as grey of shape (h, w, 3)."""
    return np.repeat((np.clip(values, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def render_mask(mask: np.ndarray, known: bool | np.bool_) -> np.ndarray:
    """Render a true mask in [0, 1] of shape (h, w); an unknown mask is uniformly half grey."""
    return render_grey(mask if known else np.full_like(mask, 0.5))


def render_depth(depth: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Render depth in [0, 1] of shape (h, w) in colours: near is bright, unknown is black."""
    image = apply_colormap((np.clip(depth, 0, 1) * 255).astype(np.uint8))[..., ::-1]
    return image if valid is None else np.where(valid[..., None], image, 0).astype(np.uint8)


def apply_colormap(near: np.ndarray) -> np.ndarray:
    """Colour depth in 0..255 of shape (h, w) in OpenCV's order, blue before red: near is bright."""
    return cv2.applyColorMap(near, cv2.COLORMAP_INFERNO)


def stack_rows(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Stack images of one size into one image, a row per sample."""
    return np.vstack([np.hstack(row) for row in rows])


def render_truth(raw: RawBatch) -> np.ndarray:
    """Render image, true mask and true depth of packed samples, a row per sample."""
    depth, valid = decode_depth(raw.depth)
    masks = [render_mask(mask / np.float32(255), known) for mask, known in zip(raw.mask, raw.mask_known, strict=True)]
    columns = zip(raw.image, masks, depth, valid, strict=True)
    return stack_rows([(image, mask, render_depth(far, known)) for image, mask, far, known in columns])


def render_comparison(truth: RawBatch, prediction: np.ndarray) -> list[list[np.ndarray]]:
    """Render image, true and predicted mask, true and predicted depth, and the larger error of both: a row per sample.

    The prediction is mask and depth in [0, 1] of shape (b, 2, h, w). Errors are 0 where the truth is unknown.
    """
    depth, valid = decode_depth(truth.depth)
    mask, known = truth.mask / np.float32(255), truth.mask_known
    known_pixels = known[:, None, None] if truth.mask_valid is None else truth.mask_valid
    mask_error = np.abs(mask - prediction[:, 0]) * known_pixels
    error = np.maximum(mask_error, np.where(valid, np.abs(depth - prediction[:, 1]), 0.0))
    return [
        [
            truth.image[i],
            render_mask(mask[i], known[i]),
            render_grey(prediction[i, 0]),
            render_depth(depth[i], valid[i]),
            render_depth(prediction[i, 1]),
            render_grey(error[i]),
        ]
        for i in range(len(truth))
    ]


def quantise_predictions(prediction: "torch.Tensor") -> np.ndarray:
    """Quantise predictions in [0, 1] of shape (b, 2, h, w) to 0..255 of shape (b, h, w, 2)."""
    scaled = (prediction * 255).round().clamp(0, 255).byte()
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def render_predictions(quantised: np.ndarray) -> np.ndarray:
    """Render predicted mask and depth, 0..255 of shape (n, h, w, 2), a row per sample."""
    planes = quantised / np.float32(255)
    return stack_rows([(render_grey(plane[..., 0]), render_depth(plane[..., 1])) for plane in planes])
