# mypy: disable-error-code="no-any-return"
# (arithmetic on arrays of no stated shape has no stated type)
"""Procedural surfaces of the built-in scenes: colours, noise and patterns, painted per point.

Owns what a surface looks like from up close. Knows neither shapes, cameras nor files. Colours inside are linear
light in [0, 1]; `rgb` and `hsv` make them from display values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32

Field = Float32[np.ndarray, "*#n"]
Points = Float32[np.ndarray, " #n"]
Colours = Float32[np.ndarray, "#n 3"]
Colour = tuple[float, float, float]

TILE_PX = 512


def rgb(red: float, green: float, blue: float) -> Colour:
    """Linear colour of display values in [0, 1] (gamma 2, so that display = sqrt(linear))."""
    return (red * red, green * green, blue * blue)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Linear colour of hue (turns, any), saturation and value in [0, 1] as displayed."""
    pixel = np.array([[[hue % 1.0 * 360.0, saturation, value]]], np.float32)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return rgb(red, green, blue)


def draw_colour(
    rng: np.random.Generator,
    hue: tuple[float, float] = (0.0, 1.0),
    saturation: tuple[float, float] = (0.1, 0.8),
    value: tuple[float, float] = (0.25, 0.95),
) -> Colour:
    """A colour drawn evenly from a box of hue (turns), saturation and value."""
    return hsv(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))


def darker(colour: Colour, share: float) -> Colour:
    """A colour with `share` of its light."""
    return (colour[0] * share, colour[1] * share, colour[2] * share)


def somewhere(rng: np.random.Generator) -> tuple[float, float]:
    """A random place on an endless pattern."""
    return (float(rng.uniform(0, 50)), float(rng.uniform(0, 50)))


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a surface is painted with.

    Attributes:
        colours: Ground colour and colour of the pattern, linear.
        pattern: Name in `PATTERNS`.
        period: Length of one repeat of the pattern, in the surface's own unit (metres for scenes).
        grain: Strength in [0, 1] of the irregular light and dark that all real surfaces have.
        vary: Strength in [0, 1] with which single cells (bricks, planks) differ.
        turn: Direction of the pattern, radians.
        offset: Where on the endless pattern this surface lies; also picks the noise.
        shine: Strength in [0, 1] of the highlight.
        glow: Light the surface sends out itself, 0 for none.
    """

    colours: tuple[Colour, Colour]
    pattern: str = "plain"
    period: float = 1.0
    grain: float = 0.25
    vary: float = 0.0
    turn: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)
    shine: float = 0.0
    glow: float = 0.0

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ValueError(f"no pattern {self.pattern!r}; there are: {', '.join(PATTERNS)}")


def plain_material(
    colour: Colour,
    rng: np.random.Generator,
    *,
    period: float = 1.0,
    grain: float = 0.25,
    shine: float = 0.0,
    glow: float = 0.0,
) -> Material:
    """A surface of one colour with grain, its noise placed by `rng`."""
    offset = somewhere(rng)
    return Material(colours=(colour, colour), offset=offset, period=period, grain=grain, shine=shine, glow=glow)


@lru_cache(maxsize=16)
def noise_tile(smoothness: float = 1.6) -> Float32[np.ndarray, "px px"]:
    """Tileable cloudy noise in [0, 1] with mean one half; its spectrum falls as 1 / frequency ** smoothness."""
    rng = np.random.default_rng([7, int(smoothness * 100)])
    frequency = np.hypot(np.fft.fftfreq(TILE_PX)[:, None], np.fft.rfftfreq(TILE_PX)[None, :]) * TILE_PX
    spectrum = np.fft.rfft2(rng.standard_normal((TILE_PX, TILE_PX))) / np.maximum(frequency, 2.0) ** smoothness
    spectrum[0, 0] = 0
    tile = np.fft.irfft2(spectrum, s=(TILE_PX, TILE_PX))
    return np.clip(0.5 + tile / (5.0 * tile.std()), 0, 1).astype(np.float32)


def noise(u: Field, v: Field, smoothness: float = 1.6) -> Field:
    """Cloudy noise in [0, 1] at (u, v); it repeats every 16 units, its finest grain is 1/32."""
    scale = TILE_PX / 16
    column = (u * scale).astype(np.int32) & (TILE_PX - 1)
    row = (v * scale).astype(np.int32) & (TILE_PX - 1)
    return noise_tile(smoothness)[row, column]


def cell_values(u: Points, v: Points) -> Points:
    """One value in [0, 1) per unit cell of the plane, without order but always the same."""
    column, row = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    mixed = (column * 73856093) ^ (row * 19349663)
    mixed = ((mixed ^ (mixed >> 7)) * 2654435761) >> 9
    return ((mixed & 1023) / 1024.0).astype(np.float32)


def wave(x: Points, blur: Points, duty: float = 0.5) -> Points:
    """Square wave of period 1 in [0, 1], 1 for `duty` of it, its edges softened over `blur` periods."""
    distance = np.abs(x - np.floor(x) - 0.5)
    width = np.maximum(blur, 0.02)
    sharp = np.clip((duty / 2 - distance) / width + 0.5, 0, 1)
    far = np.clip(blur * 1.5 - 0.5, 0, 1)
    return sharp * (1 - far) + np.float32(duty) * far


def _plain(u: Points, v: Points, blur: Points) -> Points:
    return np.zeros_like(u)


def _cloudy(u: Points, v: Points, blur: Points) -> Points:
    return np.clip((noise(u * 2, v * 2) - 0.5) * 3 + 0.5, 0, 1)


def _stripes(u: Points, v: Points, blur: Points) -> Points:
    return wave(u, blur)


def _plaid(u: Points, v: Points, blur: Points) -> Points:
    return 0.5 * (wave(u, blur, 0.4) + wave(v, blur, 0.4))


def _checker(u: Points, v: Points, blur: Points) -> Points:
    across, along = wave(u / 2, blur / 2), wave(v / 2, blur / 2)
    return across + along - 2 * across * along


def _tiles(u: Points, v: Points, blur: Points) -> Points:
    return np.maximum(wave(u, blur, 0.06), wave(v, blur, 0.06))


def _bricks(u: Points, v: Points, blur: Points) -> Points:
    row = v * 2.5
    return np.maximum(wave(u + 0.5 * (np.floor(row + 0.5) % 2), blur, 0.05), wave(row, blur * 2.5, 0.12))


def _planks(u: Points, v: Points, blur: Points) -> Points:
    row = v * 6
    return np.maximum(wave(u + 0.37 * np.floor(row + 0.5), blur, 0.015), wave(row, blur * 6, 0.06))


def _windows(u: Points, v: Points, blur: Points) -> Points:
    return wave(u, blur, 0.5) * wave(v, blur, 0.55)


def _spots(u: Points, v: Points, blur: Points) -> Points:
    return np.clip((noise(u * 1.5, v * 1.5, 2.4) - 0.52) * 14, 0, 1)


def _patches(u: Points, v: Points, blur: Points) -> Points:
    return np.clip((noise(u, v, 3.0) - 0.5) * 20, 0, 1)


PATTERNS: dict[str, Callable[[Points, Points, Points], Points]] = {
    "plain": _plain,
    "cloudy": _cloudy,
    "stripes": _stripes,
    "plaid": _plaid,
    "checker": _checker,
    "tiles": _tiles,
    "bricks": _bricks,
    "planks": _planks,
    "windows": _windows,
    "spots": _spots,
    "patches": _patches,
}

# Where the cells of a pattern lie, in its own coordinates: (columns, rows, shift of each next row).
_CELLS = {"bricks": (1.0, 2.5, 0.5), "planks": (1.0, 6.0, 0.37)}


def _cells(pattern: str, u: Points, v: Points) -> Points:
    columns, rows, shift = _CELLS.get(pattern, (1.0, 1.0, 0.0))
    row = np.floor(v * rows + 0.5)
    shifted = (row % 2) * shift if pattern == "bricks" else row * shift
    return cell_values(u * columns + shifted + 0.5, row)


def paint(material: Material, u: Points, v: Points, blur: Points) -> Colours:
    """Linear colour of each point of a surface.

    Args:
        material: What the surface is painted with.
        u: First coordinate on the surface, in its own unit.
        v: Second coordinate.
        blur: How much of the surface one pixel covers there, in the same unit; finer patterns fade.

    Returns:
        Colours in [0, 1].
    """
    cos, sin = np.float32(np.cos(material.turn)), np.float32(np.sin(material.turn))
    scale = np.float32(1 / material.period)
    across = (u * cos + v * sin) * scale + np.float32(material.offset[0])
    along = (v * cos - u * sin) * scale + np.float32(material.offset[1])
    weight = PATTERNS[material.pattern](across, along, blur * scale)
    grain = np.float32(2 * material.grain) * np.clip(1.5 - blur * scale * 4, 0.3, 1)
    light = 1 + grain * (noise(across * 3, along * 3, 1.2) - np.float32(0.5))
    if material.vary:
        light *= np.float32(1) + np.float32(material.vary) * (_cells(material.pattern, across, along) - np.float32(0.5))
    colours = np.empty((3, len(u)), np.float32)  # channel by channel: loops over three are slow
    for channel, first, second in zip(colours, *material.colours, strict=True):
        np.multiply(np.float32(first) + weight * np.float32(second - first), light, out=channel)
    return np.clip(colours, 0, 1).T
