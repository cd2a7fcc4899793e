import dataclasses
import json
import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis import AnalysisError, load_model
from analysis.predict.model import MIRROR_SCALE
from data.data_module import DataModule
from data.loading.loaders import Loader
from data.values.decoding import decode_color, read_pixels
from search.output.model_folder import predict_batches


@pytest.fixture(scope="module")
def model(finished_run):
    return load_model(finished_run, device="cpu")


@pytest.fixture
def broken(finished_run, tmp_path):
    """A copy to break."""
    return shutil.copytree(finished_run, tmp_path / "run")


def noise(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_run_folder_best_folder_and_weights_file_are_the_same_model(finished_run, model):
    photo = noise(40, 60)
    for path in (finished_run / "best", finished_run / "best" / "model.safetensors", str(finished_run)):
        again = load_model(path, device="cpu")
        assert (again.trial_id, again.px, again.stats) == ("f0001", 32, model.stats) and not again.network.training
        assert all(np.array_equal(a, b) for a, b in zip(again.predict(photo), model.predict(photo), strict=True))


@pytest.mark.parametrize("size", [(40, 60), (200, 90), (1, 1), (7, 300), (32, 32)])
def test_mask_and_depth_have_the_size_of_the_photo(model, size):
    for values in model.predict(noise(*size)):
        assert values.shape == size and values.dtype == np.float32 and 0 <= values.min() <= values.max() <= 1


def test_photo_is_resized_and_normalised_as_the_training_data(model, tiny_dataset):
    data_module = DataModule(tiny_dataset, seed=0)
    pack = data_module.pack("val", 32)
    _, expected = next(predict_batches(model.network, Loader(pack, batch_size=len(pack), stats=model.stats)))
    paths = {triplet.id: triplet.image for triplet in data_module.dataset.triplets}
    photos = [read_pixels(paths[name], decode_color)[0] for name in pack.ids]
    found = model.predict_squares(np.stack([model.to_square(photo) for photo in photos]))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def without_mirror(model):
    augment = dataclasses.replace(model.config.augment, flip=0.0)
    return dataclasses.replace(model, config=dataclasses.replace(model.config, augment=augment))


def test_model_that_saw_mirrored_images_averages_over_an_enlarged_mirror_image(model):
    photo, side = noise(50, 50), model.mirror_px
    assert model.config.augment.flip and side % model.network.stride == 0
    assert abs(side - MIRROR_SCALE * 32) <= model.network.stride / 2
    small, large = (cv2.resize(photo, (px, px), interpolation=cv2.INTER_AREA) for px in (32, side))
    one_pass, mirrored = model.predict_squares(small[None])[0], model.predict_squares(large[None, :, ::-1].copy())[0]
    for number, found in enumerate(model.predict(photo)):
        mean = (cv2.resize(one_pass[number], (side, side)) + mirrored[number, :, ::-1]) / 2
        np.testing.assert_allclose(found, cv2.resize(mean, (50, 50)), atol=1e-5)
    for number, found in enumerate(without_mirror(model).predict(photo)):
        np.testing.assert_allclose(found, cv2.resize(one_pass[number], (50, 50)), atol=1e-5)


@pytest.mark.parametrize(("size", "method"), [((64, 128), cv2.INTER_LINEAR), ((9, 40), cv2.INTER_AREA)])
def test_maps_of_the_square_are_laid_back_over_the_photo(model, size, method):
    photo, model = noise(*size), without_mirror(model)
    small = model.predict(cv2.resize(photo, (32, 32), interpolation=cv2.INTER_AREA))
    for found, square in zip(model.predict(photo), small, strict=True):
        np.testing.assert_allclose(found, cv2.resize(square, size[::-1], interpolation=method), atol=1e-6)


def test_batches_give_what_single_photos_give(model, monkeypatch):
    monkeypatch.setattr("analysis.predict.model.BATCH", 2)
    photos = [noise(30 + 5 * i, 70 - 5 * i, seed=i) for i in range(5)]
    predicted = list(model.predict_many(enumerate(photos)))
    assert [number for number, *_ in predicted] == list(range(5))
    for number, photo, *maps in predicted:
        assert photo is photos[number]
        for found, expected in zip(maps, model.predict(photo), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("photo", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_invalid_image_is_refused(model, photo):
    with pytest.raises(AnalysisError, match="uint8 of shape"):
        model.predict(photo)


def test_loading_leaves_random_numbers_alone(finished_run):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_model(finished_run, device="cpu")
    assert torch.rand(1) == expected


def refusal(path, **options):
    with pytest.raises(AnalysisError) as caught:
        load_model(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folder_without_a_run_is_refused(tmp_path):
    assert "no such file or folder" in refusal(tmp_path / "none")
    assert "not a run folder" in refusal(tmp_path)


def test_run_without_model_yet_is_reported(broken):
    shutil.rmtree(broken / "best")
    (broken / "run.json").write_text('{"state": "running"}')
    assert "no model (its state is 'running')" in refusal(broken)
    (broken / "run.json").write_text("{")
    assert "run.json: cannot be read" in refusal(broken)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda about: about.pop("px"), "lacks 'px'"),
        (lambda about: about["config"]["model"].update(widht=4), "the nearest is 'width'"),
        (lambda about: about["stats"].pop("image_mean"), "image_mean"),
        (lambda about: about.update(config=None), "not the config of a model"),
    ],
)
def test_config_that_is_none_is_refused(broken, change, reason):
    path = broken / "best" / "config.json"
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))
    assert reason in refusal(broken) and str(path) in refusal(broken)


def test_config_that_is_missing_or_damaged_is_refused(broken):
    path = broken / "best" / "config.json"
    path.write_text(path.read_text()[:100])
    assert "not the config of a model" in refusal(broken)
    path.unlink()
    assert f"{path}: missing" in refusal(broken)


def test_damaged_weights_are_refused(broken):
    path = broken / "best" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    assert "damaged" in refusal(broken)


def test_weights_that_do_not_fit_are_refused(broken):
    path = broken / "best" / "model.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    save_file({**weights, name: torch.zeros(1)}, path)
    assert f"does not fit config.json beside it (size mismatch for {name}: " in refusal(broken)
    save_file({**weights, "stray": torch.zeros(1)}, path)
    assert 'Unexpected key(s) in state_dict: "stray"' in refusal(broken)
    del weights[name]
    save_file(weights, path)
    assert f'Missing key(s) in state_dict: "{name}"' in refusal(broken)
    save_file({"stray": torch.zeros(1)}, path)
    assert len(refusal(broken)) < len(str(path)) + 400


def test_pickles_are_never_opened(broken, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for name in ("model.pt", "model.safetensors"):
        path = broken / "best" / name
        path.write_bytes(pickle.dumps(Trap()))
        assert refusal(path)
    assert not (tmp_path / "sprung").exists()


def test_device_that_is_not_there_is_refused(finished_run):
    for name in ("meta", "abacus"):
        assert f"device {name!r} is not available" in refusal(finished_run, device=name)
