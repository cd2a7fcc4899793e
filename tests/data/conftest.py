"""Tiny data sets for the tests of data/."""

import json

import cv2
import numpy as np
import pytest


def write_triplet(root, number, *, px=32, image=None, mask=None, depth=None):
    """One triplet under the study's names: noise, a square mask, depth that rises from left to right after zeros."""
    rng = np.random.default_rng(number)
    ramp = np.uint8(np.arange(px) * 8)
    ramp[: px // 8] = 0
    square = np.zeros((px, px), np.uint8)
    square[px // 4 : px // 2, px // 4 : px // 2] = 255
    pictures = {
        f"images/fgbg{number:06d}.png": rng.integers(0, 200, (px, px, 3), np.uint8) if image is None else image,
        f"masks/mask{number:06d}.png": square if mask is None else mask,
        f"depth/fgbg{number:06d}.png": np.tile(ramp, (px, 1)) if depth is None else depth,
    }
    for name, picture in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), picture)


@pytest.fixture(name="write_triplet")
def write_triplet_fixture():
    """The function above, for tests that need other pictures."""
    return write_triplet


@pytest.fixture
def make_dataset(tmp_path):
    """Factory of data set folders in the study's layout, without a manifest."""

    def make(count=12, *, name="set", px=32, spec=None):
        root = tmp_path / name
        for number in range(1, count + 1):
            write_triplet(root, number, px=px)
        if spec is not None:
            (root / "dataset.json").write_text(json.dumps(spec))
        return root

    return make
