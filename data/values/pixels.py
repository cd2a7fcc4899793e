"""Read the pixels of images, and the values of masks and depth maps as they are stored."""

import functools
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from data.dataset import DataError
from data.values.masks import is_coloured

_JPEG = b"\xff\xd8\xff"
_EXIF_PREFIX = 1 << 16  # bytes in which EXIF data are looked for
_PLAIN = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_OPENEXR = b"\x76\x2f\x31\x01"
_PNG = b"\x89PNG\r\n"
_JPEG2000 = b"\0\0\0\x0cjP"
_NUMPY = b"\x93NUMPY"
_IMAGE_HEADERS = (_JPEG, _PNG, b"BM", b"II*\0", b"MM\0*", b"RIFF")
_LFS_POINTER = b"version https://git-lfs"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

Decoder = Callable[[bytes], np.ndarray | None]

DIM = 32  # of 255: an image without a brighter pixel shows nothing
LIMIT_VARIABLE = "ONE_LOOK_MAX_PIXELS"
MAX_PIXELS = int(float(os.environ.get(LIMIT_VARIABLE, 1 << 28)))  # of a file that is decoded, by its header
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is below that
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it cannot decode is reported by file


def read_pixels(path: Path, decode: Decoder) -> tuple[np.ndarray, int]:
    """Read an image, mask or depth map as stored, with one of the decoders below, and its EXIF orientation."""
    content = read_bytes(path)
    pixels = decode(content)
    if pixels is None and (excess := _describe_excess(content)):
        raise DataError(f"{path}: {excess}", "too large")
    if pixels is None:
        kind = "truncated" if content.startswith(_IMAGE_HEADERS) else "unreadable"
        raise DataError(f"{path}: {_describe_broken_file(path.suffix.lower(), content)}", kind)
    return pixels, read_orientation(content)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore or remove it") from error


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


def _return_none_if_broken(decode: Decoder) -> Decoder:
    """Let a decoder return None where Pillow or NumPy raise an error."""

    @functools.wraps(decode)
    def checked(content: bytes) -> np.ndarray | None:
        try:
            return decode(content)
        except (OSError, ValueError, SyntaxError, EOFError):
            return None

    return checked


@_return_none_if_broken
def decode_color(content: bytes) -> np.ndarray | None:
    """Decode an image to RGB bytes, as stored (not turned by its EXIF orientation); None if it is broken."""
    pixels = _decode(content, _PLAIN)
    if pixels is None and (image := _open(content)) is not None:
        pixels = np.asarray(image.convert("RGB"))
    return _lay_as_stored(content, pixels)


@_return_none_if_broken
def decode_label(content: bytes) -> np.ndarray | None:
    """Decode a mask or depth map with its values as stored, not turned by its EXIF orientation; None if it is broken.

    Of an image with a palette, these are its indices, or its greys if it has no colour; of a JPEG without colour, the
    luminance.
    """
    if content.startswith(_NUMPY):
        return _decode_numpy(content)
    if content.startswith(_OPENEXR):
        return _decode_openexr(content)
    if content.startswith(_JPEG):
        return _decode_jpeg(content)
    image = _open(content)
    if image is not None and image.mode == "P":
        return _lay_as_stored(content, _decode_palette(image))
    pixels = _decode(content, cv2.IMREAD_UNCHANGED)
    if pixels is None and image is not None:
        pixels = np.asarray(image)
    pixels = pixels[..., 0] if pixels is not None and pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return _lay_as_stored(content, pixels)


@_return_none_if_broken
def decode_depth(content: bytes) -> np.ndarray | None:
    """Decode a depth map as `decode_label` does, but a palette with colour to its colours: indices are no depth."""
    image = _open(content)
    has_colours = image is not None and image.mode == "P" and not _has_grey_palette(image)
    return decode_color(content) if has_colours else decode_label(content)


DECODERS: dict[str, Decoder] = {"image": decode_color, "mask": decode_label, "depth": decode_depth}  # by role


def measure_dim(content: bytes) -> float | None:
    """Return the largest value of a PNG or TIFF image that is nearly black as 8 bits, as one of 12 bits; else None."""
    if not (content.startswith(_TIFF) or (content.startswith(_PNG) and content[24:25] == b"\x10")):
        return None
    stored, colours = decode_channels(content), decode_color(content)
    if stored is None or colours is None or stored.dtype == np.uint8 or colours.max() >= DIM:
        return None
    return float(np.nanmax(stored))


def decode_channels(content: bytes) -> np.ndarray | None:
    """Decode an image as stored with all its channels, a palette as its colours; None if it is broken."""
    return _lay_as_stored(content, _decode(content, cv2.IMREAD_UNCHANGED))


def _describe_excess(content: bytes) -> str:
    """Describe the excess of an image's size, by its header, over MAX_PIXELS; return "" without an excess."""
    image = _open_any(content)
    if image is None or image.width * image.height <= MAX_PIXELS:
        return ""
    shape = f"{image.width:,} x {image.height:,} px"
    return f"is {shape}, more than {MAX_PIXELS:,} in all; shrink it, or set {LIMIT_VARIABLE}"


def is_lossy(content: bytes) -> bool:
    """Return True if the values of an image file are not exact: JPEG, most WebP, AVIF, HEIC and JPEG 2000."""
    webp = content.startswith(b"RIFF") and b"VP8 " in content[:64]
    return content.startswith((_JPEG, _JPEG2000)) or webp or content[4:8] == b"ftyp"


def read_orientation(content: bytes) -> int:
    """Return the EXIF orientation of an image file, 1 (upright) to 8."""
    if not _may_have_orientation(content):
        return 1
    image = _open(content)
    try:
        tag = 1 if image is None else image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, ValueError, SyntaxError, KeyError):
        return 1
    return int(tag) if tag in range(1, 9) else 1


def read_mode(path: Path) -> str:
    """Return Pillow's name of the channels of an image file ("RGB", "L"), "" if Pillow cannot read it."""
    image = _open(read_bytes(path))
    return "" if image is None else image.mode


def apply_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as an EXIF orientation requires, so that the image is upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def pick_orientation(label: tuple[int, ...], own: int, image: tuple[int, ...], orientation: int) -> int:
    """Return the orientation by which a label must be turned to be upright: its own or, if it has none, the image's.

    A label without an orientation may also be upright already. Its shape decides; if both fit, it is turned. `label`
    and `image` are shapes as stored, `own` and `orientation` their EXIF orientations, 1 for none.
    """
    (height, width), (rows, columns) = image[:2], label[:2]
    lies_as_stored = orientation <= 4 or (width - height) * (columns - rows) >= 0
    return orientation if own == 1 and lies_as_stored else own


def is_orientation_unclear(label: np.ndarray, own: int, orientation: int) -> bool:
    """Return True if neither shape nor EXIF orientation of a label shows whether it is upright already."""
    return own == 1 != orientation and (orientation <= 4 or label.shape[0] == label.shape[1])


def undo_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Invert `apply_orientation`."""
    return apply_orientation(pixels, {6: 8, 8: 6}.get(orientation, orientation))


def _lay_as_stored(content: bytes, pixels: np.ndarray | None) -> np.ndarray | None:
    """Undo the turn by which OpenCV and Pillow decode TIFF files, whatever the flags."""
    if pixels is None or not content.startswith(_TIFF):
        return pixels
    return undo_orientation(pixels, read_orientation(content))


def _may_have_orientation(content: bytes) -> bool:
    """Return True unless a quick search shows that an image file has no orientation."""
    if content.startswith(b"RIFF"):
        return b"EXIF" in content
    if content[4:8] == b"ftyp":  # AVIF and HEIC store it as a property of the image, which Pillow reports as EXIF
        return any(name in content[:_EXIF_PREFIX] for name in (b"irot", b"imir", b"Exif"))
    return b"Exif" in content[:_EXIF_PREFIX] or b"eXIf" in content or content.startswith(_TIFF)


def _decode(content: bytes, flags: int) -> np.ndarray | None:
    if not content or _describe_excess(content):
        return None
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # an impossible size in the header
        return None


def _open(content: bytes) -> Image.Image | None:
    image = _open_any(content)
    return image if image is not None and image.width * image.height <= MAX_PIXELS else None


def _open_any(content: bytes) -> Image.Image | None:
    """Open an image file of any size; Pillow reads its header only."""
    _register_heif(content)
    try:
        with warnings.catch_warnings(action="ignore"):
            return Image.open(io.BytesIO(content))
    except (OSError, ValueError, SyntaxError):
        return None


def _register_heif(content: bytes) -> None:
    """Let Pillow read HEIC if pillow-heif is installed."""
    if content[4:8] == b"ftyp":
        try:
            import pillow_heif
        except ImportError:
            return
        pillow_heif.register_heif_opener()


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    """Return the luminance of a JPEG, or its colours if it has some."""
    image, colours = _open(content), None
    if image is not None and image.mode != "L":
        colours = _decode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if colours is not None and is_coloured(colours):
        return colours
    return _decode(content, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)


def _read_palette(image: Image.Image) -> UInt8[np.ndarray, "n 3"]:
    return np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _has_grey_palette(image: Image.Image) -> bool:
    palette = _read_palette(image)
    return bool((palette == palette[:, :1]).all() and np.asarray(image).max(initial=0) < len(palette))


def _decode_palette(image: Image.Image) -> np.ndarray:
    indices = np.asarray(image)
    return np.asarray(_read_palette(image)[indices, 0]) if _has_grey_palette(image) else indices


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
            if np.prod(most - least + 1.0) > MAX_PIXELS:
                return None
            channels = OpenEXR.File(file.name).channels()
        except (OSError, RuntimeError, ValueError):
            return None
    pixels = np.asarray(next(iter(channels.values())).pixels)
    return pixels[..., 0] if pixels.ndim == 3 else pixels
