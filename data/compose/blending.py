"""Paste foregrounds on an image, with mask, depth and shadow."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.placement import Placement, Window, compute_overlap
from data.compose.sources import OPAQUE, UNKNOWN, Background, resize

DISTANCE_RATIOS = (0.85, 0.98)  # distance of a foreground relative to the nearest distance that it covers
UNKNOWN_DEPTH = 0.5  # relative inverse depth of a foreground on an image without known depth
SHADOW_BLUR = 0.04  # width of a shadow's soft edge, as a fraction of the image side


@dataclass(frozen=True)
class Canvas:
    """A square image on which foregrounds are pasted in place."""

    image: UInt8[np.ndarray, "px px 3"]
    mask: UInt8[np.ndarray, "px px"]  # 0 or 255
    depth: Float32[np.ndarray, "px px"]  # relative inverse depth, negative where unknown
    offset: float  # add to `depth` to make it proportional to 1/z

    @classmethod
    def from_background(cls, background: Background, window: Window) -> "Canvas":
        """Copy a square window of a background."""
        image, depth = background.image[window].copy(), background.depth[window].copy()
        return cls(image, np.zeros(depth.shape, np.uint8), depth, background.offset)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Direction and strength of shadows."""

    side: float  # shift to the side per height
    length: float  # length along the ground per height
    strength: float  # share of the light that the shadow removes

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Light":
        """Draw a light."""
        side, length, strength = rng.uniform((-0.9, 0.12, 0.3), (0.9, 0.4, 0.6)).tolist()
        return cls(side=side, length=length, strength=strength)


def cast_shadow(
    image: UInt8[np.ndarray, "px px 3"], alpha: UInt8[np.ndarray, "h w"], place: Placement, light: Light
) -> None:
    """Darken the image, in place, under the outline (alpha at its final size) laid flat on the ground."""
    px, (height, width) = image.shape[0], alpha.shape
    left, bottom = place.x * px - width / 2, place.y * px + height / 2
    across, down = [1, -light.side, left + light.side * height], [0, light.length, bottom - light.length * height]
    half = np.array([across, down], np.float32) / 2  # half the resolution suffices for a blurred shadow
    shadow = cv2.warpAffine(alpha, half, (-(-px // 2), -(-px // 2)))
    window = (max(3, round(SHADOW_BLUR * px / 2)),) * 2
    shadow = cv2.blur(cv2.blur(shadow, window), window)
    remaining = cv2.convertScaleAbs(cv2.resize(shadow, (px, px)), alpha=-light.strength, beta=255)
    image[:] = cv2.multiply(image, cv2.merge([remaining] * 3), scale=1 / 255)


def paste_foreground(
    canvas: Canvas,
    pixels: UInt8[np.ndarray, "h w 4"],
    place: Placement,
    *,
    distance_ratio: float,
    foot: float = UNKNOWN,
    light: Light | None = None,
) -> None:
    """Paste a foreground (RGB premultiplied with alpha, and alpha) in place, in front of everything that it covers.

    Its distance is `distance_ratio` times the nearest that it covers; it is never behind the ground that it stands on,
    whose relative inverse depth is `foot`.
    """
    px = canvas.image.shape[0]
    resized = resize(pixels, place.size * px / max(pixels.shape[:2]))
    foreground = cv2.flip(resized, 1) if place.mirrored else resized
    if light is not None:
        cast_shadow(canvas.image, cv2.extractChannel(foreground, 3), place, light)
    at, inside = compute_overlap(place, foreground.shape[:2], px)
    part, image, depth = foreground[inside], canvas.image[at], canvas.depth[at]
    alpha = cv2.extractChannel(part, 3)
    behind = cv2.multiply(image, cv2.merge([255 - alpha] * 3), scale=1 / 255)
    image[:] = cv2.add(behind, cv2.cvtColor(part, cv2.COLOR_RGBA2RGB))
    opaque = alpha >= OPAQUE
    nearest = max(float(depth[opaque].max(initial=UNKNOWN)), foot)
    nearest = nearest if nearest >= 0 else float(canvas.depth.max())  # no covered depth is known
    before = min((nearest + canvas.offset) / distance_ratio - canvas.offset, 1.0)
    canvas.mask[at][opaque] = 255
    depth[opaque] = before if nearest >= 0 else UNKNOWN_DEPTH
