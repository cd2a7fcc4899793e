"""Open image files by their header: size limit, channels, EXIF orientation, and whether values are exact."""

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path

from PIL import ExifTags, Image

from data.dataset import DataError

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG2000 = b"\0\0\0\x0cjP"
_EXIF_PREFIX = 1 << 16  # first bytes of a file in which EXIF data are searched
LIMIT_VARIABLE = "ONE_LOOK_MAX_PIXELS"


def read_limit() -> int:
    """Return the largest number of pixels that a decoded file may have; exit if LIMIT_VARIABLE is not a number."""
    text = os.environ.get(LIMIT_VARIABLE) or str(1 << 28)
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        print(f"error: {LIMIT_VARIABLE}={text!r} is not a number of pixels; write 500e6, for example", file=sys.stderr)
        raise SystemExit(2) from None


MAX_PIXELS = read_limit()
Image.MAX_IMAGE_PIXELS = None  # Pillow's default limit is lower


def read_bytes(path: Path) -> bytes:
    """Return the content of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore or remove it") from error


def is_too_large(pixels: int | float) -> bool:
    """Return True if an image has more pixels than are decoded."""
    return pixels > MAX_PIXELS


def open_image(content: bytes) -> Image.Image | None:
    """Open an image file without decoding its pixels; None if Pillow cannot or if it has more than MAX_PIXELS."""
    image = _open_any(content)
    return image if image is not None and not is_too_large(image.width * image.height) else None


def _open_any(content: bytes) -> Image.Image | None:
    if content[4:8] == b"ftyp":  # HEIC
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()
    try:
        with warnings.catch_warnings(action="ignore"):
            return Image.open(io.BytesIO(content))
    except (OSError, ValueError, SyntaxError):
        return None


def describe_excess(content: bytes) -> str:
    """Describe the excess of an image's size over MAX_PIXELS; return "" without an excess."""
    image = _open_any(content)
    if image is None or not is_too_large(image.width * image.height):
        return ""
    shape = f"{image.width:,} x {image.height:,} px"
    return f"is {shape}, more than {MAX_PIXELS:,} in all; shrink it, or set {LIMIT_VARIABLE}"


def is_lossy(content: bytes) -> bool:
    """Return True if the values of an image file are not exact: JPEG, most WebP, AVIF, HEIC and JPEG 2000."""
    webp = content.startswith(b"RIFF") and b"VP8 " in content[:64]
    return content.startswith((JPEG, _JPEG2000)) or webp or content[4:8] == b"ftyp"


def read_mode(path: Path) -> str:
    """Return Pillow's name of the channels of an image file ("RGB", "L"), "" if Pillow cannot read it."""
    image = open_image(read_bytes(path))
    return "" if image is None else image.mode


def read_orientation(content: bytes) -> int:
    """Return the EXIF orientation of an image file, 1 (upright) to 8."""
    if not _may_have_orientation(content):
        return 1
    image = open_image(content)
    try:
        tag = 1 if image is None else image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, ValueError, SyntaxError, KeyError):
        return 1
    return int(tag) if tag in range(1, 9) else 1


def _may_have_orientation(content: bytes) -> bool:
    """Return True unless a quick search shows that an image file has no orientation."""
    if content.startswith(b"RIFF"):
        return b"EXIF" in content
    if content[4:8] == b"ftyp":  # AVIF and HEIC store it as a property of the image, which Pillow reports as EXIF
        return any(name in content[:_EXIF_PREFIX] for name in (b"irot", b"imir", b"Exif"))
    return b"Exif" in content[:_EXIF_PREFIX] or b"eXIf" in content or content.startswith(TIFF)
