"""Read the pixels of images, and the values of masks and depth maps as they are stored."""

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import cv2
import numpy as np
from PIL import Image

from data.dataset import DataError
from data.values.header import JPEG, PNG, TIFF, describe_excess, is_too_large, open_image, read_bytes, read_orientation
from data.values.masks import is_coloured
from data.values.orientation import undo_orientation

_PLAIN = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_OPENEXR = b"\x76\x2f\x31\x01"
_NUMPY = b"\x93NUMPY"
_IMAGE_HEADERS = (JPEG, PNG, b"BM", b"II*\0", b"MM\0*", b"RIFF")
_LFS_POINTER = b"version https://git-lfs"

Decoder = Callable[[bytes], np.ndarray | None]
P = ParamSpec("P")

DIM = 32  # grey level of 255: an image without a brighter pixel shows nothing
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # undecodable files are reported singly


def read_pixels(path: Path, decode: Decoder) -> tuple[np.ndarray, int]:
    """Read an image, mask or depth map as stored, with one of the decoders below, and its EXIF orientation."""
    content = read_bytes(path)
    pixels = decode(content)
    if pixels is None and (excess := describe_excess(content)):
        raise DataError(f"{path}: {excess}", "too large")
    if pixels is None:
        kind = "truncated" if content.startswith(_IMAGE_HEADERS) else "unreadable"
        raise DataError(f"{path}: {_describe_broken_file(path.suffix.lower(), content)}", kind)
    return pixels, read_orientation(content)


def _describe_broken_file(suffix: str, content: bytes) -> str:
    if not content:
        return "not a whole image but an empty file; restore or remove it"
    if content.startswith(_LFS_POINTER):
        return "is a pointer of Git LFS, not the file itself; run git lfs pull"
    if suffix == ".exr":
        return "not read without the package OpenEXR, or not whole; pip install OpenEXR, or save it as TIFF"
    if suffix in (".heic", ".heif"):
        return "not read without the package pillow-heif, or not whole; pip install pillow-heif"
    return "not a whole image, or of a kind that is not read; save it as PNG, or remove it"


def _return_none_if_broken(decode: Callable[P, np.ndarray | None]) -> Callable[P, np.ndarray | None]:
    """Let a decoder return None where Pillow or NumPy raise an error."""

    @functools.wraps(decode)
    def checked(*args: P.args, **kwargs: P.kwargs) -> np.ndarray | None:
        try:
            return decode(*args, **kwargs)
        except (OSError, ValueError, SyntaxError, EOFError):
            return None

    return checked


@_return_none_if_broken
def decode_color(content: bytes) -> np.ndarray | None:
    """Decode an image to RGB bytes, as stored (not turned by its EXIF orientation); None if it is broken."""
    pixels = _decode(content, _PLAIN)
    if pixels is None and (image := open_image(content)) is not None:
        pixels = np.asarray(image.convert("RGB"))
    return _lay_as_stored(content, pixels)


@_return_none_if_broken
def decode_label(content: bytes, *, palette_colours: bool = False) -> np.ndarray | None:
    """Decode a mask or depth map with its values as stored, not turned by its EXIF orientation; None if it is broken.

    For an image with a palette, these are its indices, or its grey levels if the palette has no colour; for a JPEG
    without colour, the luminance.
    """
    if content.startswith(_NUMPY):
        return _decode_numpy(content)
    if content.startswith(_OPENEXR):
        return _decode_openexr(content)
    if content.startswith(JPEG):
        return _decode_jpeg(content)
    image = open_image(content)
    if image is not None and image.mode == "P":
        return _decode_palette(content, image, colours=palette_colours)
    pixels = _decode(content, cv2.IMREAD_UNCHANGED)
    if pixels is None and image is not None:
        pixels = np.asarray(image)
    pixels = pixels[..., 0] if pixels is not None and pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return _lay_as_stored(content, pixels)


def decode_depth_map(content: bytes) -> np.ndarray | None:
    """Decode a depth map like `decode_label`, but a coloured palette to its colours, because indices are not depth."""
    return decode_label(content, palette_colours=True)


DECODERS: dict[str, Decoder] = {"image": decode_color, "mask": decode_label, "depth": decode_depth_map}  # by role


def measure_dim(content: bytes) -> float | None:
    """Return the largest value of a PNG or TIFF image that is nearly black as 8 bits, as one of 12 bits; else None."""
    if not (content.startswith(TIFF) or (content.startswith(PNG) and content[24:25] == b"\x10")):
        return None
    stored, colours = decode_channels(content), decode_color(content)
    if stored is None or colours is None or stored.dtype == np.uint8 or colours.max() >= DIM:
        return None
    return float(np.nanmax(stored))


def decode_channels(content: bytes) -> np.ndarray | None:
    """Decode an image as stored with all its channels, a palette as its colours; None if it is broken."""
    return _lay_as_stored(content, _decode(content, cv2.IMREAD_UNCHANGED))


def _lay_as_stored(content: bytes, pixels: np.ndarray | None) -> np.ndarray | None:
    """Undo the turn by which OpenCV and Pillow decode TIFF files, whatever the flags."""
    if pixels is None or not content.startswith(TIFF):
        return pixels
    return undo_orientation(pixels, read_orientation(content))


def _decode(content: bytes, flags: int) -> np.ndarray | None:
    if not content or describe_excess(content):
        return None
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # an impossible size in the header
        return None


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    """Return the luminance of a JPEG, or its colours if it has some."""
    image, colours = open_image(content), None
    if image is not None and image.mode != "L":
        colours = _decode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if colours is not None and is_coloured(colours):
        return colours
    return _decode(content, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)


def _decode_palette(content: bytes, image: Image.Image, *, colours: bool) -> np.ndarray | None:
    """Return the greys of a palette without colour; of one with colour its indices, or its colours if `colours`."""
    indices: np.ndarray = np.asarray(image)
    palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if (palette == palette[:, :1]).all() and indices.max(initial=0) < len(palette):
        return _lay_as_stored(content, palette[indices, 0])
    return decode_color(content) if colours else _lay_as_stored(content, indices)


def _decode_numpy(content: bytes) -> np.ndarray | None:
    pixels = np.load(io.BytesIO(content), allow_pickle=False)
    if pixels.ndim == 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "buif" or not pixels.size:
        return None
    return np.asarray(pixels, np.uint8 if pixels.dtype.kind == "b" else pixels.dtype.newbyteorder("="))


def _decode_openexr(content: bytes) -> np.ndarray | None:
    """Decode the first channel of an OpenEXR file, which the package OpenEXR reads."""
    try:
        import OpenEXR
    except ImportError:
        return None
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".exr") as file:  # the package reads files only
        Path(file.name).write_bytes(content)
        try:
            least, most = OpenEXR.File(file.name, header_only=True).header()["dataWindow"]
            if is_too_large(float(np.prod(most - least + 1.0))):
                return None
            channels = OpenEXR.File(file.name).channels()
        except (OSError, RuntimeError, ValueError):
            return None
    pixels = np.asarray(next(iter(channels.values())).pixels)
    return pixels[..., 0] if pixels.ndim == 3 else pixels
