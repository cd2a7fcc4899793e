"""Pixels of composites: a cut-out on a picture, with its mask, its depth and its shadow. Knows no files."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.backgrounds import UNKNOWN, Photo
from data.compose.foregrounds import OPAQUE_BYTE
from data.compose.placement import Overlap, Placement, overlap

JUST_BEFORE = (0.85, 0.98)  # distance of a thing as a share of the nearest distance it covers
UNKNOWN_PLACE = 0.5  # relative inverse depth of a thing where nothing at all is known
SHADOW_EDGE = 0.04  # width of its blur, of the picture's side


@dataclass(frozen=True)
class Canvas:
    """A picture that is pasted on, in place.

    Attributes:
        image: RGB.
        mask: 0 or 255.
        depth: Relative inverse depth, negative where not known.
        beyond: What is added to `depth` to be in proportion to 1/z.
    """

    image: UInt8[np.ndarray, "px px 3"]
    mask: UInt8[np.ndarray, "px px"]
    depth: Float32[np.ndarray, "px px"]
    beyond: float

    @classmethod
    def of(cls, photo: Photo, window: tuple[slice, slice]) -> "Canvas":
        """A square window of a photo."""
        image, depth = photo.image[window].copy(), photo.depth[window].copy()
        return cls(image, np.zeros(depth.shape, np.uint8), depth, photo.beyond)

    def paste(self, thing: UInt8[np.ndarray, "h w 4"], at: Overlap, *, share: float, foot: float = UNKNOWN) -> None:
        """Put a thing in front of all that it covers.

        Args:
            thing: RGB premultiplied with alpha, and alpha, at its size.
            at: Where.
            share: Its distance as a share of the nearest distance it covers.
            foot: Relative inverse depth of what it stands on, if it stands on anything: it is not behind that.
        """
        part = thing[at.cutout]
        alpha = cv2.extractChannel(part, 3)
        behind = cv2.multiply(self.image[at.picture], cv2.merge([255 - alpha] * 3), scale=1 / 255)
        self.image[at.picture] = cv2.add(behind, cv2.cvtColor(part, cv2.COLOR_RGBA2RGB))
        opaque = alpha >= OPAQUE_BYTE
        nearest = max(float(self.depth[at.picture][opaque].max(initial=UNKNOWN)), foot)
        self.mask[at.picture][opaque] = 255
        self.depth[at.picture][opaque] = self._before(nearest, share)

    def _before(self, nearest: float, share: float) -> float:
        """Depth before what is covered; before all of the picture where nothing covered is known."""
        nearest = nearest if nearest >= 0 else float(self.depth.max())
        if nearest < 0:
            return UNKNOWN_PLACE
        return min((nearest + self.beyond) / share - self.beyond, 1.0)


@dataclass(frozen=True, kw_only=True)
class Light:
    """How shadows fall: to the side per height, along the ground per height, and how much light they take."""

    side: float
    length: float
    strength: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Light":
        """A light behind the viewer or before, to the left or right, hard or soft."""
        side, length, strength = rng.uniform((-0.9, 0.12, 0.3), (0.9, 0.4, 0.6)).tolist()
        return cls(side=side, length=length, strength=strength)


def cast_shadow(
    image: UInt8[np.ndarray, "px px 3"], alpha: UInt8[np.ndarray, "h w"], place: Placement, light: Light
) -> None:
    """Darken a picture where a thing takes the light: its outline laid flat behind its feet, with a soft edge.

    Args:
        image: The picture, in place; the thing comes after.
        alpha: Of the thing, at its size.
        place: Where the thing stands.
        light: How the shadow falls.
    """
    px, (height, width) = image.shape[0], alpha.shape
    left, bottom = place.x * px - width / 2, place.y * px + height / 2
    across, down = [1, -light.side, left + light.side * height], [0, light.length, bottom - light.length * height]
    half = np.array([across, down], np.float32) / 2  # what is blurred needs half the pixels
    shadow = cv2.warpAffine(alpha, half, (-(-px // 2), -(-px // 2)))
    window = (max(3, round(SHADOW_EDGE * px / 2)),) * 2
    shadow = cv2.blur(cv2.blur(shadow, window), window)
    light_left = cv2.convertScaleAbs(cv2.resize(shadow, (px, px)), alpha=-light.strength, beta=255)
    image[:] = cv2.multiply(image, cv2.merge([light_left] * 3), scale=1 / 255)


def sized(pixels: UInt8[np.ndarray, "h w 4"], place: Placement, px: int) -> UInt8[np.ndarray, "h2 w2 4"]:
    """A cut-out at the size and side of its place."""
    scale = place.size * px / max(pixels.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in pixels.shape[1::-1])
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return cv2.flip(resized, 1) if place.mirrored else resized


def paste_thing(
    canvas: Canvas,
    pixels: UInt8[np.ndarray, "h w 4"],
    place: Placement,
    *,
    share: float,
    foot: float = UNKNOWN,
    light: Light | None = None,
) -> None:
    """Paste a cut-out at its place, with a shadow if there is a light."""
    px = canvas.image.shape[0]
    thing = sized(pixels, place, px)
    if light is not None:
        cast_shadow(canvas.image, cv2.extractChannel(thing, 3), place, light)
    canvas.paste(thing, overlap(place, thing.shape[:2], px), share=share, foot=foot)
