"""Tiny data sets for the tests of data/."""

import csv
import json

import cv2
import numpy as np
import pytest


def write_triplet(root, number, *, px=32, image=None, mask=None, depth=None, stem=None):
    """One triplet under the study's names or one stem: noise, a square mask, depth rising to the right after zeros."""
    rng = np.random.default_rng(number)
    ramp = np.uint8(np.arange(px) * 8)
    ramp[: px // 8] = 0
    square = np.zeros((px, px), np.uint8)
    square[px // 4 : px // 2, px // 4 : px // 2] = 255
    name, mask_name = stem or f"fgbg{number:06d}", stem or f"mask{number:06d}"
    pictures = {
        f"images/{name}.png": rng.integers(0, 200, (px, px, 3), np.uint8) if image is None else image,
        f"masks/{mask_name}.png": square if mask is None else mask,
        f"depth/{name}.png": np.tile(ramp, (px, 1)) if depth is None else depth,
    }
    for name, picture in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), picture)


@pytest.fixture(name="write_triplet")
def write_triplet_fixture():
    """The function above, for tests that need other pictures."""
    return write_triplet


def draw(number, *, ground=None, near=1, px=64):
    """A clean triplet: a bright disc on a ground of its own, nearer than the floor; with `near` 0 as far as that."""
    rng = np.random.default_rng(number if ground is None else ground)
    image = cv2.resize(rng.integers(0, 150, (6, 6, 3), np.uint8), (px, px), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((px, px), np.uint8)
    cv2.circle(mask, (20 + number % 3 * 8, 34), 12, 255, -1)
    image[mask > 0] = 255
    floor = np.tile(np.linspace(60, 180, px)[:: -1 if near < 0 else 1, None], (1, px))
    depth = np.where((mask > 0) & (near != 0), 128 + near * 110, floor).astype(np.uint8)
    return image, mask, depth


@pytest.fixture(name="pictures")
def pictures_fixture():
    """The function above."""
    return draw


@pytest.fixture(name="add")
def add_fixture():
    """Writes such a triplet into a folder."""

    def add(root, number, *, stem=None, **how):
        image, mask, depth = draw(number, **how)
        write_triplet(root, number, image=image, mask=mask, depth=depth, stem=stem)

    return add


def write_manifest(root, rows):
    """A manifest.csv of rows with equal keys."""
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.fixture(name="write_manifest")
def write_manifest_fixture():
    """The function above."""
    return write_manifest


@pytest.fixture
def make_dataset(tmp_path):
    """Factory of data set folders in the study's layout, without a manifest; near is bright unless `spec` is given."""

    def make(count=12, *, name="set", px=32, spec=None):
        root = tmp_path / name
        for number in range(1, count + 1):
            write_triplet(root, number, px=px)
        (root / "dataset.json").write_text(json.dumps({"near": "bright"} if spec is None else spec))
        return root

    return make
