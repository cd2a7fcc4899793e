import json

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from data.compose import depth_models as depth_cache
from data.compose.__main__ import main
from data.compose.depth_models import (
    OnnxDepthModel,
    Preprocessing,
    cache_depth_maps,
    list_presets,
    load_depth_model,
    predict_relative_depth,
)
from data.compose.sources import read_background
from data.dataset import DataError, DatasetSpec
from data.reading.layout import read_dataset

PREPROCESSING = {"width": 24, "height": 16, "layout": "nchw", "near": "bright"}


def write_model(path, *, layout="nchw"):
    """Write a model whose depth is the red channel."""
    shape, axis = ([1, 3, 16, 24], 1) if layout == "nchw" else ([1, 16, 24, 3], 3)
    output = [1, 16, 24] if layout == "nchw" else [1, 16, 24, 1]
    red = helper.make_tensor("red", TensorProto.INT64, [] if layout == "nchw" else [1], [0])
    node = helper.make_node("Gather", ["x", "red"], ["depth"], axis=axis)
    graph = helper.make_graph(
        [node],
        "red",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, output)],
        [red],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path):
    (tmp_path / "red.json").write_text(json.dumps(PREPROCESSING))
    return write_model(tmp_path / "red.onnx")


def ramp(height=40, width=60):
    """Draw red to the right, and as much blue to the left."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 200, width)
    picture[..., 2] = picture[:, ::-1, 0]
    return picture


@pytest.fixture
def sources(tmp_path):
    for number in range(3):
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / f"p{number}.png"), ramp(40 + number)[..., ::-1])
    (tmp_path / "things").mkdir()
    thing = np.zeros((22, 22, 4), np.uint8)
    thing[1:-1, 1:-1] = 255
    assert cv2.imwrite(str(tmp_path / "things/t.png"), thing)
    return tmp_path / "photos", tmp_path / "things"


def test_model_predicts_relative_inverse_depth_in_the_images_shape(model):
    depth = predict_relative_depth(load_depth_model(str(model)), ramp(), "ramp")
    assert depth.shape == (16, 24)
    assert depth.min() == 0
    assert depth.max() == 1
    assert (np.diff(depth[8]) >= 0).all()
    assert predict_relative_depth(load_depth_model(str(model)), ramp(80, 60), "ramp").shape == (21, 16)


def test_channels_last_models_see_the_same(tmp_path):
    first = OnnxDepthModel(write_model(tmp_path / "a.onnx"), Preprocessing(**PREPROCESSING))
    last = OnnxDepthModel(
        write_model(tmp_path / "b.onnx", layout="nhwc"), Preprocessing(**PREPROCESSING | {"layout": "nhwc"})
    )
    np.testing.assert_array_equal(first.predict(ramp()), last.predict(ramp()))


def test_normalisation_is_that_of_the_json(model):
    plain = OnnxDepthModel(model, Preprocessing(**PREPROCESSING)).predict(ramp())
    other = OnnxDepthModel(model, Preprocessing(**PREPROCESSING, mean=(0.5, 0.0, 0.0), std=(0.25, 1.0, 1.0))).predict(
        ramp()
    )
    np.testing.assert_allclose(other, (plain - 0.5) / 0.25, atol=1e-5)


def test_polarity_is_that_of_the_json(model):
    bright = predict_relative_depth(OnnxDepthModel(model, Preprocessing(**PREPROCESSING)), ramp(), "ramp")
    dark = predict_relative_depth(
        OnnxDepthModel(model, Preprocessing(**PREPROCESSING | {"near": "dark"})), ramp(), "ramp"
    )
    np.testing.assert_allclose(dark, 1 - bright, atol=1e-6)


def test_distances_become_their_reciprocals():
    metres = np.float32([[1.0, 2.0, 4.0]])
    np.testing.assert_allclose(Preprocessing(**PREPROCESSING, depth_unit="m").to_inverse(metres), [[1, 0.5, 0.25]])


@pytest.mark.parametrize("name", list_presets())
def test_list_presets_can_be_read_and_say_where_they_come_from(model, name):
    loaded = load_depth_model(str(model), name)
    assert loaded.preprocessing.source
    assert loaded.preprocessing.near == "bright"


def test_list_presets_are_those_promised():
    assert {"midas_small", "depth_anything_v2_small", "densedepth"} <= set(list_presets())


def test_model_sees_each_photo_once_and_the_next_time_none(model, sources, monkeypatch):
    photos = sorted(sources[0].iterdir())
    folder = cache_depth_maps(load_depth_model(str(model)), photos, workers=1)
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "p0.png", "p1.png", "p2.png"]
    depth = cv2.imread(str(folder / "p0.png"), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    assert depth.max() == 65535
    monkeypatch.setattr(depth_cache, "predict_relative_depth", lambda *_: pytest.fail("predicted a second time"))
    assert cache_depth_maps(load_depth_model(str(model)), photos, workers=1) == folder


@pytest.mark.parametrize("orientation", [3, 6])
def test_model_sees_a_photo_upright_and_its_depth_lies_upon_it(model, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.fromarray(ramp())
    upright.rotate({3: 180, 6: 90}[orientation], expand=True).save(tmp_path / "a.jpg", quality=98, exif=exif)
    folder = cache_depth_maps(load_depth_model(str(model)), [tmp_path / "a.jpg"], workers=1)
    photo = read_background(tmp_path / "a.jpg", folder / "a.png", DatasetSpec(), 40)
    assert photo.image.shape == (40, 60, 3) and photo.image[:, -1, 0].mean() > 190
    assert photo.depth[:, -1].mean() > 0.8 and photo.depth[:, 0].mean() < 0.1


def compose(sources, out, *options):
    places = ["--backgrounds", str(sources[0]), "--foregrounds", str(sources[1]), "--out", str(out)]
    return main([*places, "--count", "6", "--size", "32", "--workers", "1", *options])


def depth_of(out):
    return [
        (cv2.imread(str(t.depth), cv2.IMREAD_UNCHANGED), cv2.imread(str(t.mask), cv2.IMREAD_UNCHANGED) > 0)
        for t in read_dataset(out).triplets
    ]


def test_photos_without_depth_get_the_models(model, sources, tmp_path):
    assert compose(sources, tmp_path / "out", "--depth", str(model)) == 0
    assert read_dataset(tmp_path / "out").spec.near == "bright"
    for depth, mask in depth_of(tmp_path / "out"):
        assert len(np.unique(depth[mask])) == 1
        assert (np.diff(np.where(mask, 0, depth).astype(int)[~mask.any(axis=1)]) >= 0).all()


def test_photos_without_depth_get_level_ground_and_foregrounds_stand_on_it(sources, tmp_path):
    photos, cutouts = sources
    command = ["--backgrounds", str(photos), "--foregrounds", str(cutouts), "--count", "12", "--size", "64"]
    assert main([*command, "--depth", "ground", "--placement", "ground", "--out", str(tmp_path / "out")]) == 0
    for triplet in read_dataset(tmp_path / "out").triplets:
        mask, depth = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (triplet.mask, triplet.depth))
        ground = np.where(mask == 0, depth.astype(float), np.nan)
        rows = np.nanmedian(ground[:, ~np.isnan(ground).all(0)], axis=1)
        assert (np.diff(rows[~np.isnan(rows)]) >= -1).all() and np.nanmax(rows[:28]) <= 1  # the horizon is at 0.45
        feet = np.flatnonzero((mask > 0).any(1)).max()
        assert (depth[mask > 0] >= np.nanmax(rows[: feet + 1]) - 2).all()


def test_wrong_models_are_one_line(model, sources, tmp_path, capsys):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    other = write_model(tmp_path / "other.onnx")
    wrong = write_model(tmp_path / "wrong.onnx")
    (tmp_path / "wrong.json").write_text(json.dumps(PREPROCESSING | {"width": 20}))
    odd = write_model(tmp_path / "odd.onnx")
    (tmp_path / "odd.json").write_text(json.dumps(PREPROCESSING | {"wdith": 20}))
    cases = [
        (broken, "onnxruntime cannot load this model"),
        (other, "--depth-preset, one of densedepth"),
        (wrong, "does not take 1 x 3 x 16 x 20"),
        (odd, "unknown key 'wdith'"),
    ]
    for path, message in cases:
        assert compose(sources, tmp_path / "out", "--depth", str(path)) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_photo_in_which_the_model_sees_nothing_is_named(model, sources, tmp_path, capsys):
    assert cv2.imwrite(str(sources[0] / "p9.png"), np.zeros((40, 60, 3), np.uint8))
    assert compose(sources, tmp_path / "out", "--depth", str(model)) == 2
    assert "p9.png: the model predicts no depth" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [{"near": "left"}, {"width": 0}, {"width": "wide"}, {"mean": [1, 2]}, {"std": [0, 1, 1]}, {"mean": 5}, []]
)
def test_wrong_preparations_are_refused(tmp_path, wrong):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(PREPROCESSING | wrong if wrong else wrong))
    with pytest.raises(DataError, match=r"a\.json"):
        Preprocessing.read(path)


@pytest.mark.parametrize(("module", "depth"), [("onnxruntime", "red.onnx"), ("transformers", "hf:some/name")])
def test_missing_packages_are_named(model, monkeypatch, module, depth):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    stated = depth if depth.startswith("hf:") else str(model)
    with pytest.raises(DataError, match=f"needs {module}"):
        load_depth_model(stated)
