"""Image files of too many pixels, which are refused by their header."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from analysis.predict.photos import read_photo
from data.check.inspection import inspect_files
from data.dataset import DataError, DatasetSpec
from data.reading.layout import read_dataset
from data.values import header
from data.values.decoding import decode_channels, decode_color, decode_label
from data.values.triplet import read_triplet

SIDE = 17_000  # 289 million pixels


def write_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture(scope="module")
def bomb():
    """A whole PNG file of one bit a pixel: 36 kB, and 867 MB once it is decoded to RGB."""
    rows = zlib.compress(bytes((1 + -(-SIDE // 8)) * SIDE), 9)
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + write_chunk(b"IHDR", header) + write_chunk(b"IDAT", rows) + write_chunk(b"IEND", b"")


@pytest.fixture
def undecoded(monkeypatch):
    """Fail if pixels are decoded."""
    monkeypatch.setattr(cv2, "imdecode", None)


@pytest.mark.parametrize("decode", [decode_color, decode_label, decode_channels])
@pytest.mark.usefixtures("undecoded")
def test_image_of_too_many_pixels_is_not_decoded(decode, bomb):
    assert len(bomb) < 50_000 and decode(bomb) is None


def test_limit_is_on_the_pixels(monkeypatch):
    content = cv2.imencode(".png", np.zeros((20, 30), np.uint8))[1].tobytes()
    monkeypatch.setattr(header, "MAX_PIXELS", 600)
    assert decode_color(content).shape == (20, 30, 3)
    monkeypatch.setattr(header, "MAX_PIXELS", 599)
    assert decode_color(content) is None


def test_openexr_map_of_too_many_pixels_is_not_decoded(monkeypatch, tmp_path):
    openexr = pytest.importorskip("OpenEXR")
    path = tmp_path / "depth.exr"
    openexr.File({}, {"Y": np.ones((20, 30), np.float32)}).write(str(path))
    monkeypatch.setattr(header, "MAX_PIXELS", 600)
    assert decode_label(path.read_bytes()).shape == (20, 30)
    monkeypatch.setattr(header, "MAX_PIXELS", 599)
    assert decode_label(path.read_bytes()) is None


@pytest.mark.usefixtures("undecoded")
def test_message_names_size_limit_and_remedy(bomb, tmp_path, write_triplet):
    write_triplet(tmp_path, 1)
    triplet = read_dataset(tmp_path, specs=[DatasetSpec()]).triplets[0]
    triplet.image.write_bytes(bomb)
    says = r"is 17,000 x 17,000 px, more than 268,435,456 in all; shrink it, or set ONE_LOOK_MAX_PIXELS"
    with pytest.raises(Exception, match=says) as caught:
        read_triplet(triplet, DatasetSpec())
    assert str(caught.value).startswith(f"{triplet.image}: ")
    with pytest.raises(DataError, match=says):
        read_photo(triplet.image)
    triplet.mask.unlink()
    triplet.depth.unlink()
    fault = inspect_files(triplet, DatasetSpec()).faults[0]
    assert fault.kind == "too large" and fault.file == str(triplet.image)


@pytest.mark.parametrize("text", ["500M", "inf", "nan"])
def test_limit_that_is_no_number_ends_the_command_with_one_line(monkeypatch, capsys, text):
    monkeypatch.setenv("ONE_LOOK_MAX_PIXELS", text)
    with pytest.raises(SystemExit) as caught:
        header.read_limit()
    line = f"error: ONE_LOOK_MAX_PIXELS={text!r} is not a number of pixels; write 500e6, for example\n"
    assert caught.value.code == 2 and capsys.readouterr().err == line


def test_limit_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("ONE_LOOK_MAX_PIXELS", "500e6")
    assert header.read_limit() == 500_000_000
