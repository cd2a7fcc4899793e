"""Find and read photos with their depth, and the foregrounds that are pasted on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.placement import compute_standing_sizes
from data.dataset import DataError, DatasetSpec
from data.reading.dataset_json import read_dataset_json, read_spec
from data.reading.listing import make_printable
from data.reading.matching import IMAGE_SUFFIXES, PHOTO_SUFFIXES, get_stem, is_image_name
from data.values.decoding import decode_channels, decode_color, decode_depth_map, read_pixels
from data.values.depth import find_known, to_inverse_depth, to_metres
from data.values.infer_depth import grows_downwards, infer_unit, measure_polarity, measure_values
from data.values.masks import check_channels, reduce_channels
from data.values.orientation import apply_orientation, pick_orientation
from data.values.triplet import is_stretched, resolve_near_distance

FOREGROUNDS = "RGBA foregrounds"
UNKNOWN = -1.0
RELATIVE_RANGE = 0.9  # range of relative depth, which leaves room for foregrounds in front of it
OPAQUE = 200  # alpha from which a pixel belongs to the mask, as in the study
FAINT = 8  # alpha below this is margin
SOLID = 250  # alpha from which a pixel's colour is that of the foreground alone
EDGE_SIGMA_PX = 1.2  # distance over which solid pixels give their colour to the edge
SAMPLED_MAPS = 16  # depth maps from which their unit is inferred
MIN_WEIGHT = 0.02  # least weight of solid pixels for which they give their colour

BackgroundFiles = tuple[Path, Path | None]


@dataclass(frozen=True)
class Background:
    """A photo and its depth."""

    image: UInt8[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"]  # relative inverse depth in [0, 1], `UNKNOWN` where it is not known
    offset: float = 0.0  # add to `depth` to make it proportional to 1/z

    @cached_property
    def standing_sizes(self) -> Float32[np.ndarray, "h w"]:
        """Size of a foreground that stands at each pixel; 0 where nothing can stand."""
        inverse = np.where(self.depth >= 0, self.depth + np.float32(self.offset), np.float32(UNKNOWN))
        return compute_standing_sizes(inverse)


def encode_depth_bytes(depth: Float32[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    """Encode relative inverse depth: 0 = unknown, 1..255 = 0..1."""
    codes = np.clip(depth * np.float32(255) + np.float32(0.5), 1, 255)
    return np.where(depth >= 0, codes, 0).astype(np.uint8)


def find_backgrounds(folder: Path, depth: Path | None) -> tuple[BackgroundFiles, ...]:
    """Find photos and, in the folder `depth` if there is one, depth maps of the same stems."""
    images = list_backgrounds(folder)
    if depth is None:
        return tuple((path, None) for path in images)
    maps = list_images(depth, "depth maps of the photos; or use --depth ground or none", IMAGE_SUFFIXES)
    depths = {get_stem(path.name): path for path in maps}
    for path in images:
        if get_stem(path.name) not in depths:
            raise DataError(f"{path}: no depth for this photo; add {depth / path.stem}.png or remove the photo")
    return tuple((path, depths[get_stem(path.name)]) for path in images)


def list_backgrounds(folder: Path) -> tuple[Path, ...]:
    """List the photos of a folder, or of images/ in it, in the order of their names."""
    images = list_images(folder / "images" if (folder / "images").is_dir() else folder, "photos")
    by_stem = {path.stem: path for path in images}
    for path in images:
        if by_stem[path.stem] != path:
            raise DataError(f"{path}: {by_stem[path.stem].name} has the same stem; rename one of them")
    return images


def list_images(folder: Path, content: str, suffixes: frozenset[str] = PHOTO_SUFFIXES) -> tuple[Path, ...]:
    """List the images of a folder in the order of their names; `content` names them in error messages."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; it should contain {content}")
    paths = sorted(path for path in folder.iterdir() if is_image_name(path.name, suffixes) and not path.is_fifo())
    if not paths:
        raise DataError(f"{folder}: no images in it; put {content} there ({', '.join(sorted(suffixes))})")
    for path in paths:
        if (shown := make_printable(path.name)) != path.name:
            raise DataError(f"{folder / shown}: its name is not UTF-8; rename it")
    return tuple(paths)


def find_depth_spec(depth: Path, maps: Sequence[Path]) -> DatasetSpec:
    """Read the encoding of depth maps from the dataset.json beside or above them; by default it is millimetres."""
    paths = [path for folder in (depth, depth.parent) if (path := folder / "dataset.json").is_file()]
    spec, configured = (read_spec(paths[0]), read_dataset_json(paths[0])) if paths else (DatasetSpec(), {})
    if configured.keys() & {"depth_unit", "near"}:
        return resolve_near_distance(spec, maps) if spec.depth_unit == "disparity" else spec
    spec = replace(spec, depth_unit="mm")
    few = maps[:: max(1, len(maps) // SAMPLED_MAPS)]
    values = [measure_values(_read_depth(path, spec)[0], spec.missing) for path in few]
    unit = infer_unit(values, measure_polarity((), ()))
    if unit.value != "mm" or (not unit.certain and grows_downwards(values)):
        remedy = f'write {{"depth_unit": "mm"}} into {depth / "dataset.json"} if they are, else {{"near": "bright"}}'
        problem = f"the values do not look like millimetres ({unit.reason})"
        raise DataError(f'{depth}: {problem}; {remedy} or {{"near": "dark"}}')
    return spec


def read_distances(depth: Path, spec: DatasetSpec) -> Float32[np.ndarray, " n"]:
    """Read known distances in metres, of every ninth pixel, from a metric depth map; none from a relative one."""
    raw, _ = _read_depth(depth, spec)
    if not spec.metric:
        return np.zeros(0, np.float32)
    few = raw[::3, ::3]
    return to_metres(few[find_known(few, spec)], spec)


def _read_depth(path: Path, spec: DatasetSpec) -> tuple[np.ndarray, int]:
    """Read the values of a depth map as stored, and its EXIF orientation."""
    raw, orientation = read_pixels(path, decode_depth_map)
    if spec.depth_unit == "mm" and (raw.dtype.itemsize < 2 or raw.ndim != 2):
        found = f"{raw.dtype.itemsize * 8}-bit with {raw.shape[2] if raw.ndim == 3 else 1} channels"
        remedy = "use 16-bit millimetres in one channel (0 = missing), or describe it in a dataset.json"
        raise DataError(f"{path}: depth is {found}; {remedy}")
    check_channels(path, raw)
    return reduce_channels(raw), orientation


@lru_cache(maxsize=4)
def read_background(image: Path, depth: Path | None, spec: DatasetSpec | None, px: int) -> Background:
    """Read a photo and its depth, upright and resized so that the shorter side measures `px`.

    The `spec` of metric depth must give near_m and far_m.
    """
    stored, orientation = read_pixels(image, decode_color)
    colours = apply_orientation(stored, orientation)
    small = resize(colours, px / min(colours.shape[:2]), least=px)
    if depth is None or spec is None:
        return Background(small, np.full(small.shape[:2], UNKNOWN, np.float32))
    raw, own = _read_depth(depth, spec)
    raw = apply_orientation(raw, pick_orientation(raw.shape, own, stored.shape, orientation))
    if is_stretched(raw.shape, colours.shape):
        shapes = [f"{width} x {height}" for height, width in (raw.shape, colours.shape[:2])]
        raise DataError(f"{depth}: is {shapes[0]} px but {image.name} is {shapes[1]}; they must have the same shape")
    try:
        inverse, known = to_inverse_depth(cv2.resize(raw, small.shape[1::-1], interpolation=cv2.INTER_NEAREST), spec)
    except DataError as error:
        raise DataError(f"{depth}: {error}") from error
    offset = 0.0
    if not spec.metric:
        inverse = inverse * np.float32(RELATIVE_RANGE)
    elif spec.near_m and spec.far_m:
        offset = spec.near_m / (spec.far_m - spec.near_m)  # (1/far) / (1/near - 1/far)
    return Background(small, np.where(known, inverse, np.float32(UNKNOWN)), offset)


def fit_depth_scale(spec: DatasetSpec, distances: Float32[np.ndarray, " n"]) -> DatasetSpec:
    """Set near_m and far_m unless configured: 0.9 times the 1st percentile of distances, and the 99th percentile."""
    first, last = np.percentile(distances, [1, 99])
    near_m = spec.near_m or round(0.9 * float(first), 3)
    far_m = spec.far_m or max(round(float(last), 3), round(near_m * 1.2, 3))
    return replace(spec, near_m=near_m, far_m=far_m)


@lru_cache(maxsize=256)
def read_foreground(path: Path, longest_px: int) -> UInt8[np.ndarray, "h w 4"]:
    """Read an 8-bit RGBA file, crop its margin, shrink it, clean its edges, and premultiply it with alpha."""
    pixels = apply_orientation(*read_pixels(path, decode_channels))
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise DataError(f"{path}: not RGBA with 8 bits; cut the object out and save it as PNG with transparency")
    if not (pixels[..., 3] >= OPAQUE).any():
        raise DataError(f"{path}: has no opaque pixel (alpha >= {OPAQUE}); remove it")
    if pixels[..., 3].min() >= OPAQUE:
        problem = f"nothing in it is transparent (alpha is {OPAQUE} or more everywhere)"
        raise DataError(f"{path}: {problem}; cut the object out")
    rows, columns = (np.flatnonzero((pixels[..., 3] > FAINT).any(axis=axis)) for axis in (1, 0))
    inside = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, [2, 1, 0, 3]]
    return _clean_edges(_shrink(np.ascontiguousarray(inside), longest_px))


def resize(pixels: np.ndarray, scale: float, *, least: int = 1) -> np.ndarray:
    """Resize both sides by a factor, to `least` pixels at least; area averages shrink, interpolation enlarges."""
    size = tuple(max(least, round(side * scale)) for side in pixels.shape[1::-1])
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))


def _shrink(pixels: UInt8[np.ndarray, "h w 4"], longest_px: int) -> UInt8[np.ndarray, "h2 w2 4"]:
    """Shrink pixels that are not premultiplied; averages weight colours with alpha."""
    scale = longest_px / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    alpha = resize(pixels[..., 3].astype(np.float32), scale)
    colour = resize(pixels[..., :3].astype(np.float32) * pixels[..., 3:], scale) / np.maximum(alpha, 1e-3)[..., None]
    return np.dstack([np.clip(colour, 0, 255), alpha]).round().astype(np.uint8)


def _clean_edges(pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Give translucent edge pixels the colour of solid pixels nearby, if there are any, and premultiply with alpha.

    The edge of a cut-out otherwise has the colours of its former background, which show as a halo.
    """
    alpha = pixels[..., 3]
    solid = (alpha >= SOLID).astype(np.float32)
    colour = pixels[..., :3].astype(np.float32)
    weight = cv2.GaussianBlur(solid, (0, 0), EDGE_SIGMA_PX)
    beside = cv2.GaussianBlur(colour * solid[..., None], (0, 0), EDGE_SIGMA_PX) / np.maximum(weight, 1e-6)[..., None]
    edge = (solid == 0) & (weight > MIN_WEIGHT)
    colour = np.where(edge[..., None], beside, colour) * (alpha[..., None] * np.float32(1 / 255))
    return np.dstack([np.clip(colour + np.float32(0.5), 0, 255).astype(np.uint8), alpha])
