"""Procedural surfaces of the built-in scenes: colours (linear light in [0, 1]), noise and patterns per point."""

from collections.abc import Callable
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32

Field = Float32[np.ndarray, "*#n"]
Points = Float32[np.ndarray, " #n"]
Colours = Float32[np.ndarray, "#n 3"]
Colour = tuple[float, float, float]
Range = tuple[float, float]

TILE_PX = 512


def rgb(red: float, green: float, blue: float) -> Colour:
    """Return the linear colour of display values in [0, 1] (gamma 2, so that display = sqrt(linear))."""
    return (red * red, green * green, blue * blue)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return the linear colour of hue (turns, any), saturation and value in [0, 1] as displayed."""
    return rgb(*hsv_to_rgb(hue % 1.0, saturation, value))


def draw_colour(
    rng: np.random.Generator, hue: Range = (0.0, 1.0), saturation: Range = (0.1, 0.8), value: Range = (0.25, 0.95)
) -> Colour:
    """Draw a colour evenly from a box of hue (turns), saturation and value."""
    return hsv(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))


def darken(colour: Colour, share: float) -> Colour:
    """Return a colour with `share` of its light."""
    return (colour[0] * share, colour[1] * share, colour[2] * share)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Paint of a surface."""

    colours: tuple[Colour, Colour]  # colours of the surface and of its pattern, linear
    pattern: str = "plain"  # name in `PATTERNS`
    period: float = 1.0  # length of one repeat of the pattern, in the surface's own unit (metres for scenes)
    grain: float = 0.25  # strength in [0, 1] of the irregular light and dark that all real surfaces have
    vary: float = 0.0  # strength in [0, 1] with which single cells (bricks, planks) differ
    turn: float = 0.0  # direction of the pattern, radians
    offset: tuple[float, float] = (0.0, 0.0)  # position on the unbounded pattern; it also selects the noise
    shine: float = 0.0  # strength in [0, 1] of the highlight
    glow: float = 0.0  # light that the surface emits, 0 for none


def surface(rng: np.random.Generator, colour: Colour, pattern: str = "plain", **options: float) -> Material:
    """Return a material whose pattern is a darker shade of its colour; `options` as for `Material`, and `dark`."""
    offset = (float(rng.uniform(0, 50)), float(rng.uniform(0, 50)))
    colours = (colour, darken(colour, options.pop("dark", 0.5)))
    return Material(colours=colours, pattern=pattern, offset=offset, **options)


def draw_paint(rng: np.random.Generator, period: float = 0.3, shine: float = 0.15, patterned: float = 0.5) -> Material:
    """Draw paint, cloth or plastic of any colour, with a pattern of about `period` at probability `patterned`."""
    first, second = (draw_colour(rng, saturation=(0.0, 0.9), value=(0.08, 0.98)) for _ in range(2))
    patterns = ["stripes", "plaid", "spots", "checker", "cloudy", "patches"]
    return Material(
        colours=(first, second),
        pattern=str(rng.choice(patterns)) if rng.random() < patterned else "plain",
        period=float(period * rng.uniform(0.6, 1.6)),
        grain=float(rng.uniform(0.1, 0.4)),
        turn=float(rng.choice([0.0, np.pi / 2, 0.7])),
        offset=(float(rng.uniform(0, 50)), float(rng.uniform(0, 50))),
        shine=shine,
    )


@lru_cache(maxsize=16)
def build_noise_tile(smoothness: float = 1.6) -> Float32[np.ndarray, "px px"]:
    """Return tileable cloudy noise in [0, 1] with mean one half; its spectrum falls as 1 / frequency ** smoothness."""
    rng = np.random.default_rng([7, int(smoothness * 100)])
    frequency = np.hypot(np.fft.fftfreq(TILE_PX)[:, None], np.fft.rfftfreq(TILE_PX)[None, :]) * TILE_PX
    spectrum = np.fft.rfft2(rng.standard_normal((TILE_PX, TILE_PX))) / np.maximum(frequency, 2.0) ** smoothness
    spectrum[0, 0] = 0
    tile = np.fft.irfft2(spectrum, s=(TILE_PX, TILE_PX))
    return np.clip(0.5 + tile / (5.0 * tile.std()), 0, 1).astype(np.float32)


def noise(u: Field, v: Field, smoothness: float = 1.6) -> Field:
    """Return cloudy noise in [0, 1] at (u, v); it repeats every 16 units, its finest grain is 1/32."""
    scale = TILE_PX / 16
    column = (u * scale).astype(np.int32) & (TILE_PX - 1)
    row = (v * scale).astype(np.int32) & (TILE_PX - 1)
    return build_noise_tile(smoothness)[row, column]


def cell_values(u: Points, v: Points) -> Points:
    """Return a hash in [0, 1) of each point's unit cell."""
    column, row = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    mixed = (column * 73856093) ^ (row * 19349663)
    mixed = ((mixed ^ (mixed >> 7)) * 2654435761) >> 9
    return ((mixed & 1023) / 1024.0).astype(np.float32)


def wave(x: Points, blur: Points, duty: float = 0.5) -> Points:
    """Return a square wave of period 1 in [0, 1], 1 for `duty` of it, its edges softened over `blur` periods."""
    distance = np.abs(x - np.floor(x) - 0.5)
    width = np.maximum(blur, 0.02)
    sharp = np.clip((duty / 2 - distance) / width + 0.5, 0, 1)
    far = np.clip(blur * 1.5 - 0.5, 0, 1)
    return sharp * (1 - far) + np.float32(duty) * far


def _checker(u: Points, v: Points, blur: Points) -> Points:
    across, along = wave(u / 2, blur / 2), wave(v / 2, blur / 2)
    return across + along - 2 * across * along


def _bricks(u: Points, v: Points, blur: Points) -> Points:
    row = v * 2.5
    return np.maximum(wave(u + 0.5 * (np.floor(row + 0.5) % 2), blur, 0.05), wave(row, blur * 2.5, 0.12))


def _planks(u: Points, v: Points, blur: Points) -> Points:
    row = v * 6
    return np.maximum(wave(u + 0.37 * np.floor(row + 0.5), blur, 0.015), wave(row, blur * 6, 0.06))


PATTERNS: dict[str, Callable[[Points, Points, Points], Points]] = {
    "plain": lambda u, v, blur: np.zeros_like(u),
    "cloudy": lambda u, v, blur: np.clip((noise(u * 2, v * 2) - 0.5) * 3 + 0.5, 0, 1),
    "stripes": lambda u, v, blur: wave(u, blur),
    "plaid": lambda u, v, blur: 0.5 * (wave(u, blur, 0.4) + wave(v, blur, 0.4)),
    "checker": _checker,
    "tiles": lambda u, v, blur: np.maximum(wave(u, blur, 0.06), wave(v, blur, 0.06)),
    "bricks": _bricks,
    "planks": _planks,
    "windows": lambda u, v, blur: wave(u, blur, 0.5) * wave(v, blur, 0.55),
    "spots": lambda u, v, blur: np.clip((noise(u * 1.5, v * 1.5, 2.4) - 0.52) * 14, 0, 1),
    "patches": lambda u, v, blur: np.clip((noise(u, v, 3.0) - 0.5) * 20, 0, 1),
}


def paint(material: Material, u: Points, v: Points, blur: Points) -> Colours:
    """Return linear colours of points (u, v) of a surface; patterns finer than `blur`, a pixel's length there, fade."""
    cos, sin = np.float32(np.cos(material.turn)), np.float32(np.sin(material.turn))
    scale = np.float32(1 / material.period)
    across = (u * cos + v * sin) * scale + np.float32(material.offset[0])
    along = (v * cos - u * sin) * scale + np.float32(material.offset[1])
    weight = PATTERNS[material.pattern](across, along, blur * scale)
    grain = np.float32(2 * material.grain) * np.clip(1.5 - blur * scale * 4, 0.3, 1)
    light = 1 + grain * (noise(across * 3, along * 3, 1.2) - np.float32(0.5))
    if material.vary:
        light *= np.float32(1) + np.float32(material.vary) * (cell_values(across + 0.5, along * 2.5) - np.float32(0.5))
    colours = np.empty((3, len(u)), np.float32)  # channel by channel: loops over three are slow
    for channel, first, second in zip(colours, *material.colours, strict=True):
        np.multiply(np.float32(first) + weight * np.float32(second - first), light, out=channel)
    return np.clip(colours, 0, 1).T
