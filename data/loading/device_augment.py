"""The changes of `augment.py` for all samples of a batch at once, on the device that holds them.

The distributions are the same, but not the values: all geometric changes are interpolated together, in float32.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from data.loading import augment as limits
from data.loading.augment import AugmentConfig, build_paste_matrix
from data.loading.loaders import Pixels

DRAWS = {  # numbers in [0, 1) that each change draws for a sample; the first decides whether the sample is changed
    "copy_paste": limits.PASTE_DRAWS, "flip": 1, "rotate": 2, "zoom": 5, "grid_distortion": 13,
    "brightness_contrast": 3, "grayscale": 1, "hue_saturation": 3, "blur": 2,
}  # fmt: skip
CELLS, CELL_LIMIT = 5, 0.3  # of the grid along each axis, and the largest relative change of their sides
GREY = (0.299, 0.587, 0.114)
Draws = Float[np.ndarray, "n numbers"]
Rows = Int[np.ndarray, " n"]
Gather = Callable[[Rows], Pixels]


def is_expressible(config: AugmentConfig) -> bool:
    """Return whether all changes of a config can be made here, rather than by albumentations."""
    return all(name in DRAWS for name, p in vars(config).items() if p > 0)


def change(pixels: Pixels, config: AugmentConfig, seeds: UInt64[np.ndarray, " b"], gather: Gather, count: int) -> None:
    """Change a batch in place, each sample by its own seed; `gather` returns other samples of the pack of `count`."""
    numbers = draw(seeds, sum(DRAWS.values()))
    ends = np.cumsum(list(DRAWS.values()))[:-1]
    drawn = dict(zip(DRAWS, np.split(numbers, ends, axis=1), strict=True))
    chosen = {name: np.flatnonzero(drawn[name][:, 0] < getattr(config, name)) for name in DRAWS}
    if len(rows := chosen["copy_paste"]):
        source = (drawn["copy_paste"][rows, 1] * count).astype(np.int64)
        _paste(pixels, rows, gather(source), drawn["copy_paste"][rows, 2:])
    _move(pixels, chosen, drawn)
    for name, apply in PHOTOMETRY.items():
        if len(rows := chosen[name]):
            on_device = _to_device(rows, pixels)
            image = pixels.image.index_select(0, on_device)
            pixels.image.index_copy_(0, on_device, apply(image, _to_device(drawn[name][rows, 1:], pixels)))


def draw(seeds: UInt64[np.ndarray, " b"], count: int) -> Draws:
    """Return `count` numbers in [0, 1) for each seed, by a hash: no generator is built for each sample.

    Source: Steele et al. 2014, doi:10.1145/2660193.2660195 (SplitMix64).
    """
    state = seeds[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers: np.ndarray = ((state ^ (state >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def _to_device(array: np.ndarray, pixels: Pixels) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array if array.dtype == np.int64 else array.astype(np.float32)))
    return tensor.to(pixels.image.device, non_blocking=True)


def _scale(draws: Float[np.ndarray, "*n"], low: float, high: float) -> Float[np.ndarray, "*n"]:
    return low + draws * (high - low)


def _move(pixels: Pixels, chosen: dict[str, np.ndarray], drawn: dict[str, np.ndarray]) -> None:
    """Flip, rotate, zoom and bend the chosen samples by one interpolation; a flip alone needs none."""
    bent = np.unique(np.concatenate([chosen[name] for name in ("rotate", "zoom", "grid_distortion")]))
    flipped = np.setdiff1d(chosen["flip"], bent)
    soft = [pixels.image, pixels.mask]
    hard = [plane for plane in (pixels.depth, pixels.mask_valid) if plane is not None]
    if len(flipped):
        rows = _to_device(flipped, pixels)
        for plane in (*soft, *hard):
            plane.index_copy_(0, rows, plane.index_select(0, rows).flip(3))
    if len(bent):
        where = {name: np.isin(bent, rows) for name, rows in chosen.items()}
        px = pixels.image.shape[-1]
        matrix = _build_matrices({name: numbers[bent] for name, numbers in drawn.items()}, where, px)
        axes = _bend_axes(drawn["grid_distortion"][bent, 1:], where["grid_distortion"], px)
        grid = _build_grid(matrix, *axes, pixels)
        rows = _to_device(bent, pixels)
        for planes, mode in ((soft, "bilinear"), (hard, "nearest")):
            moved = _sample(torch.cat([plane.index_select(0, rows) for plane in planes], 1), grid, mode)
            parts = moved.split([plane.shape[1] for plane in planes], 1)
            for plane, part in zip(planes, parts, strict=True):
                plane.index_copy_(0, rows, part.to(plane.dtype))


def _build_matrices(drawn: dict[str, np.ndarray], where: dict[str, np.ndarray], px: int) -> Float[np.ndarray, "n 2 3"]:
    """Return the maps from places in changed images to those in the given ones, -1 to 1 from edge to edge."""
    flip, angle = np.where(where["flip"], -1.0, 1.0), np.zeros(len(where["flip"]))
    degrees = limits.ROTATION_DEG * (2 * drawn["rotate"][where["rotate"], 1] - 1)
    angle[where["rotate"]] = np.deg2rad(degrees)
    size, shift = np.ones((len(angle), 2)), np.zeros((len(angle), 2, 1))
    zoomed = drawn["zoom"][where["zoom"]]
    size[where["zoom"]] = _scale(zoomed[:, 1:3], *limits.ZOOM)
    shift[where["zoom"], :, 0] = _scale(zoomed[:, 3:5], *limits.ZOOM_SHIFT) * 2 * px / (px - 1)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    linear = np.stack([flip, np.ones_like(flip)], 1)[:, :, None] * rotation / size[:, None, :]
    return np.concatenate([linear, -linear @ shift], 2)


def _bend_axes(draws: Draws, where: np.ndarray, px: int) -> tuple[Float[np.ndarray, "n px"], Float[np.ndarray, "n px"]]:
    """Return the places, -1 to 1, from which columns and rows come; images that are not bent keep theirs.

    Each axis has CELLS cells and a remainder; their sides change and are scaled so that the last one ends at the edge.
    """
    side, own = px // CELLS, np.linspace(-1, 1, px)
    cell = np.arange(px) // side
    widths = np.minimum(np.arange(1, CELLS + 2) * side, px) - np.arange(CELLS + 1) * side
    inside = (np.arange(px) - cell * side) / np.maximum(widths[cell] - 1, 1)
    axes = []
    for sides in np.split(_scale(draws, 1 - CELL_LIMIT, 1 + CELL_LIMIT), 2, axis=1):
        sides = sides * widths
        sides *= px / sides.sum(1, keepdims=True)
        starts = np.cumsum(sides, 1) - sides
        place = starts[:, cell] + sides[:, cell] * inside
        axes.append(np.where(where[:, None], 2 * place / (px - 1) - 1, own))
    return axes[0], axes[1]


def _build_grid(matrix: np.ndarray, columns: np.ndarray, rows: np.ndarray, pixels: Pixels) -> Float[Tensor, "n h w 2"]:
    """Return the places from which the pixels of changed images come, for `grid_sample`."""
    a = _to_device(matrix, pixels)[:, :, :, None, None]
    x, y = _to_device(columns, pixels)[:, None, :], _to_device(rows, pixels)[:, :, None]
    return torch.stack([a[:, i, 0] * x + a[:, i, 1] * y + a[:, i, 2] for i in range(2)], 3)


def _sample(planes: Tensor, grid: Tensor, mode: str, padding: str = "reflection") -> Tensor:
    return F.grid_sample(planes, grid, mode=mode, padding_mode=padding, align_corners=True)


def _paste(pixels: Pixels, rows: Rows, source: Pixels, draws: Draws) -> None:
    """Paste foregrounds of `source` into samples; see `augment.paste_foregrounds`."""
    px = pixels.image.shape[-1]
    straight = np.tile(np.linspace(-1, 1, px), (len(rows), 1))
    grid = _build_grid(_invert_paste_matrices(draws, px), straight, straight, pixels)
    usable = source.mask_known & (source.mask >= limits.PASTE_OPAQUE).flatten(1).any(1)
    pasted = _sample(source.mask, grid, "bilinear", "zeros") * usable[:, None, None, None]
    alpha, opaque = pasted / 255, pasted.round() >= limits.PASTE_OPAQUE
    target = _to_device(rows, pixels)
    image = pixels.image.index_select(0, target).lerp(_sample(source.image, grid, "bilinear"), alpha)
    pixels.image.index_copy_(0, target, image)
    known = pixels.mask_known.index_select(0, target)[:, None, None, None]
    mask = pixels.mask.index_select(0, target)
    pixels.mask.index_copy_(0, target, torch.where(known, mask * (1 - alpha) + pasted, mask))
    if pixels.mask_valid is not None:
        valid = pixels.mask_valid.index_select(0, target)
        pixels.mask_valid.index_copy_(0, target, valid | (opaque & known))
    depth = pixels.depth.index_select(0, target)
    placed = _shift_depth(_sample(source.depth, grid, "nearest", "zeros"), depth, opaque)
    measured = (depth != 0).flatten(1).any(1)[:, None, None, None]
    pixels.depth.index_copy_(0, target, torch.where(opaque & measured, placed, depth))


def _invert_paste_matrices(draws: Draws, px: int) -> Float[np.ndarray, "n 2 3"]:
    """Return the maps from places in the images to those in the pasted samples, like `_build_matrices`."""
    forward = np.stack([np.vstack([build_paste_matrix(numbers, px), [0, 0, 1]]) for numbers in draws])
    half = (px - 1) / 2
    to_px = np.array([[half, 0, half], [0, half, half], [0, 0, 1]])
    inverse: np.ndarray = np.linalg.inv(to_px) @ np.linalg.inv(forward) @ to_px
    return inverse[:, :2]


def _shift_depth(pasted: Tensor, depth: Tensor, opaque: Tensor) -> Tensor:
    """Shift pasted depth codes to the nearest depth that they cover, as if the foreground stood there; 0 is unknown."""
    known, behind = opaque & (pasted > 0), opaque & (depth > 0)
    shift = _quantile(depth, behind, limits.PASTE_NEAREST / 100) - _quantile(pasted, known, 0.5)
    shifted = torch.where(pasted > 0, (pasted + shift).clamp(1, 65535), 0.0)
    return torch.where(torch.isfinite(shift), shifted, pasted)


def _quantile(values: Tensor, chosen: Tensor, share: float) -> Tensor:
    """Return a quantile of the chosen values of each sample, interpolated linearly; not finite where none is chosen."""
    order = torch.where(chosen, values, torch.inf).flatten(1).sort(1).values
    place = share * (chosen.flatten(1).sum(1, keepdim=True) - 1).clamp_min(0)
    low = place.floor().long()
    below, above = order.gather(1, low), order.gather(1, place.ceil().long())
    return torch.where(torch.isfinite(below), below + (above - below) * (place - low), below)[:, :, None, None]


def _change_brightness(image: Tensor, numbers: Tensor) -> Tensor:
    contrast, brightness = (limits.BRIGHTNESS * (2 * numbers[:, i, None, None, None] - 1) for i in range(2))
    return (image * (1 + contrast) + 255 * brightness).clamp(0, 255)


def _remove_colour(image: Tensor, numbers: Tensor) -> Tensor:
    del numbers
    return (image * torch.tensor(GREY, device=image.device)[:, None, None]).sum(1, keepdim=True).expand_as(image)


def _shift_hue(image: Tensor, numbers: Tensor) -> Tensor:
    """Shift hue and saturation, with the brightest channel of each pixel kept."""
    red, green, blue = image.unbind(1)
    value = image.amax(1)
    span = (value - image.amin(1)).clamp_min(1e-6)
    hue = torch.where(value == green, 2 + (blue - red) / span, 4 + (red - green) / span)
    hue = torch.where(value == red, (green - blue) / span, hue)
    shift = limits.HUE / 30 * (2 * numbers[:, 0, None, None] - 1)
    saturation = span / value.clamp_min(1e-6)
    added = limits.SATURATION / 255 * (2 * numbers[:, 1, None, None] - 1)
    saturation = torch.where(span > 1e-6, (saturation + added).clamp(0, 1), 0.0)
    sixths = torch.stack([hue + shift + start for start in (5, 3, 1)], 1) % 6
    return value[:, None] * (1 - saturation[:, None] * torch.minimum(sixths, 4 - sixths).clamp(0, 1))


def _blur(image: Tensor, numbers: Tensor) -> Tensor:
    few, many = (F.avg_pool2d(F.pad(image, [px // 2] * 4, mode="reflect"), px, stride=1) for px in limits.BLUR_PX)
    return torch.where(numbers[:, 0, None, None, None] < 0.5, few, many)


PHOTOMETRY = {
    "brightness_contrast": _change_brightness,
    "grayscale": _remove_colour,
    "hue_saturation": _shift_hue,
    "blur": _blur,
}
