"""Tests of analysis.demo."""

import json
import math
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest

from analysis import load_model
from analysis.demo import (
    FARTHEST,
    FIELD_OF_VIEW_DEG,
    HOST,
    MAX_PX,
    build_parser,
    make_points,
    plot_points,
    predict_photo,
)


@pytest.fixture(scope="module")
def model(finished_run):
    return load_model(finished_run, device="cpu")


def noise(height, width):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_page_shows_what_the_model_predicts(model):
    photo = noise(60, 90)
    mask, depth, cutout, turning, text = predict_photo(model, photo)
    predicted, _ = model.predict(photo)
    assert np.abs(mask / 255 - predicted).max() < 0.51 / 255
    assert depth.shape == photo.shape and depth.dtype == np.uint8
    assert (cutout[..., :3] == photo).all() and (cutout[..., 3] == mask).all()
    assert len(json.loads(turning)["data"][0]["marker"]["color"]) == 60 * 90
    assert text.startswith(f"90 by 60 px, {(predicted > 0.5).mean():.1%} foreground.")


def test_large_photos_are_shown_smaller(model):
    mask, _, cutout, _, text = predict_photo(model, noise(MAX_PX // 2, 2 * MAX_PX))
    assert mask.shape == cutout.shape[:2] == (MAX_PX // 4, MAX_PX)
    assert f"{MAX_PX} by {MAX_PX // 4} px" in text


def test_without_a_photo_nothing_is_shown(model):
    assert predict_photo(model, None) == (None, None, None, None, "")


def refusal(*arguments, before=""):
    """Return the error of the command line, run in a process of its own because it starts a server."""
    code = f"import sys\n{before}\nfrom analysis.demo import main\nsys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, *map(str, arguments), "--device", "cpu"]
    process = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert process.returncode == 2 and process.stdout == "", process
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1, process.stderr
    return process.stderr


def test_port_in_use_is_refused(finished_run):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} is in use" in refusal(finished_run, "--port", port)


PAGE = """
import sys
import gradio
from analysis import demo
demo.MAX_UPLOAD = 1000
gradio.Blocks.block_thread = lambda self: sys.stdin.read()
sys.exit(demo.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def page(finished_run):
    """Address of a page that takes files of 1,000 bytes."""
    pytest.importorskip("gradio")
    words = [sys.executable, "-c", PAGE, str(finished_run), "--device", "cpu"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().split()[0]
        process.stdin.close()


def ask(page, path="", *, size=0, **headers):
    """Return the status of a request; one with a size uploads a file."""
    import httpx

    sent = {"files": {"files": ("photo.png", bytes(size))}} if size else {}
    return httpx.request("POST" if size else "GET", page + path, headers=headers, timeout=60, **sent).status_code


def test_page_answers_itself_and_no_other_page(page):
    port = page.rstrip("/").rpartition(":")[2]
    assert ask(page) == ask(page, host=f"localhost:{port}") == ask(page, origin=page.rstrip("/")) == 200
    assert ask(page, host=f"evil.example:{port}") == 403  # a name that was made to lead to this machine
    for origin in ("https://evil.example", "null", f"https://127.0.0.1:{port}", "http://127.0.0.1:1"):
        assert ask(page, "gradio_api/upload", size=10, origin=origin) == 403


def test_files_that_are_too_large_are_not_taken(page):
    assert ask(page, "gradio_api/upload", size=900) == 200
    assert ask(page, "gradio_api/upload", size=3000) == 413


@pytest.mark.parametrize("port", ["99999", "0", "-1", "eight"])
def test_invalid_port_is_refused(port, capsys):
    with pytest.raises(SystemExit, match="2"):
        build_parser().parse_args(["run", f"--port={port}"])
    assert "is not a port" in capsys.readouterr().err


def test_gradio_that_is_not_installed_is_named(finished_run):
    text = refusal(finished_run, before="sys.modules['gradio'] = None")
    assert 'gradio: not installed; run pip install -e ".[demo]"' in text


def scene(height, width):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    return photo, rng.random((height, width), dtype=np.float32)


def test_nearest_is_at_1_and_farthest_at_its_distance():
    photo, _ = scene(1, 3)
    xyz, _ = make_points(photo, np.array([[1, 0.5, 0]], np.float32))
    assert xyz[:, 1] == pytest.approx([1, 2 * FARTHEST / (1 + FARTHEST), FARTHEST])


@pytest.mark.parametrize(("height", "width"), [(7, 20), (20, 7), (1, 1)])
def test_points_are_seen_where_their_pixels_are(height, width):
    photo, depth = scene(height, width)
    xyz, rgb = make_points(photo, depth)
    focal = max(height, width) / 2 / math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)
    column = focal * xyz[:, 0] / xyz[:, 1] + width / 2 - 0.5
    row = -focal * xyz[:, 2] / xyz[:, 1] + height / 2 - 0.5
    np.testing.assert_allclose(column, np.tile(np.arange(width), height), atol=1e-4)
    np.testing.assert_allclose(row, np.repeat(np.arange(height), width), atol=1e-4)
    np.testing.assert_array_equal(rgb, photo.reshape(-1, 3))


def test_the_longer_side_fills_the_field_of_view():
    photo, depth = scene(40, 300)
    xyz, _ = make_points(photo, depth)
    angles = np.degrees(np.arctan2(xyz[:, 0], xyz[:, 1]))
    assert FIELD_OF_VIEW_DEG - 0.5 < angles.max() - angles.min() < FIELD_OF_VIEW_DEG


def test_large_photos_give_about_as_many_points_as_asked_for():
    photo, depth = scene(300, 400)
    xyz, rgb = make_points(photo, depth, most=1200)
    assert len(xyz) == len(rgb) == 30 * 40
    assert rgb.mean() == pytest.approx(photo.mean(), abs=1)


def test_plot_has_every_point_in_its_colour_and_nothing_else():
    photo = np.array([[[255, 0, 16]], [[1, 2, 3]]], np.uint8)
    figure = plot_points(*make_points(photo, np.ones((2, 1), np.float32)))
    (cloud,) = figure.data
    assert cloud.mode == "markers" and list(cloud.marker.color) == ["#ff0010", "#010203"]
    assert cloud.z[0] > 0 > cloud.z[1]  # what is above in the photo is above
    scene = json.loads(figure.to_json())["layout"]["scene"]
    assert scene["aspectmode"] == "data" and not scene["xaxis"]["visible"] and not scene["zaxis"]["visible"]
