"""Orientation of image files: every format is decoded as it is stored, and its tag is read."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from data.values.decoding import decode_channels, decode_color, decode_label
from data.values.header import read_orientation
from data.values.orientation import apply_orientation, undo_orientation

GREY = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
COLOURS = np.dstack([GREY % 251, GREY // 4, 200 - GREY // 4]).astype(np.uint8)
PALETTE = [(37 * index * step) % 256 for index in range(256) for step in (1, 3, 7)]


def paint(kind):
    if kind == "palette":
        image = Image.fromarray((GREY % 9).astype(np.uint8), "P")
        image.putpalette(PALETTE)
        return image
    if kind in ("CMYK", "RGBA", "1"):
        return Image.fromarray(COLOURS).convert(kind)
    return Image.fromarray({"16 bits": GREY * 100, "floats": GREY.astype(np.float32), "colours": COLOURS}[kind])


def encode(image, file_format, orientation=1):
    tag, file = Image.Exif(), io.BytesIO()
    tag[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(file_format, {})
    about = {"tiffinfo": {0x0112: orientation}} if file_format == "TIFF" else {"exif": tag}
    image.save(file, file_format, **options, **(about if orientation != 1 else {}))
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("file_format", "kind"),
    [
        *(("TIFF", kind) for kind in ("colours", "16 bits", "floats", "palette", "CMYK", "RGBA", "1")),
        *(("PNG", kind) for kind in ("colours", "16 bits", "palette", "RGBA")),
        *((name, "colours") for name in ("JPEG", "WEBP", "AVIF")),
    ],
)
def test_pixels_are_those_stored_and_the_orientation_turns_them(file_format, kind, orientation):
    """OpenCV and Pillow turn TIFF of their own accord; WebP and AVIF name the tag in other ways than JPEG."""
    tagged, plain = (encode(paint(kind), file_format, tag) for tag in (orientation, 1))
    assert (read_orientation(tagged), read_orientation(plain)) == (orientation, 1)
    for decode in (decode_color, decode_label, decode_channels):
        pixels, expected = decode(tagged), decode(plain)
        assert (pixels is None) == (expected is None)
        if pixels is not None:
            np.testing.assert_array_equal(pixels, expected)
            np.testing.assert_array_equal(undo_orientation(apply_orientation(pixels, orientation), orientation), pixels)


def test_broken_files_leave_no_lines_of_opencv_behind(capfd):
    assert decode_color(cv2.imencode(".tif", np.zeros((4, 5, 3), np.float32))[1].tobytes()) is None
    assert capfd.readouterr().err == ""
