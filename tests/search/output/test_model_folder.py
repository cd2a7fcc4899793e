import dataclasses
import json
from contextlib import contextmanager
from dataclasses import replace

import cv2
import pytest
import torch
from safetensors.torch import load_file

from data.data_module import DataModule
from data.loading import device_loader
from data.values.depth import DepthScale
from models.architectures.registry import build_model
from models.score import Score
from search.output import model_folder
from search.output.model_folder import COLUMNS, TrainedModel, write_model_folder


@pytest.fixture
def winner(fit_data, small_config):
    torch.manual_seed(0)
    weights = build_model(small_config.model).state_dict()
    return TrainedModel(
        config=small_config, weights=weights, stats=fit_data.stats, score=Score(sigma=0.2), px=32, trial_id="f0001"
    )


def test_best_folder_holds_model_config_figures_and_pictures(winner, tiny_dataset, tmp_path):
    data_module = DataModule(tiny_dataset, seed=0)
    packs = {name: data_module.pack(name, 32) for name in ("val", "test")}
    metrics = write_model_folder(
        winner, tmp_path / "best", packs, sizes={n: len(p) for n, p in packs.items()}, deadline=None
    )
    assert sorted(p.name for p in (tmp_path / "best").iterdir()) == [
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "samples.png",
    ]
    saved = load_file(tmp_path / "best" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in winner.weights.items())
    about = json.loads((tmp_path / "best" / "config.json").read_text())
    assert about["config"] == winner.config.to_dict() and about["px"] == 32 and about["stats"]["images"] > 0
    picture = cv2.imread(str(tmp_path / "best" / "samples.png"))
    assert picture.shape[1] == 32 * len(COLUMNS)
    for part in ("val", "test"):
        assert metrics[part]["images"] == metrics[part]["of_images"] == len(packs[part])
        assert {"score", "boundary_f", "abs_rel", "silog", "delta1", "study_mse_ssim"} <= set(metrics[part])
        assert metrics[part]["constant_guess"]["iou"] == 0.0


def test_scale_of_the_depth_goes_with_the_model(winner, tiny_dataset, tmp_path):
    packs = {"val": DataModule(tiny_dataset, seed=0).pack("val", 32)}
    scaled = replace(winner, scale=DepthScale(near_m=0.5, far_m=8.0))
    for one, expected in ((scaled, {"near_m": 0.5, "far_m": 8.0}), (winner, None)):
        write_model_folder(one, tmp_path, packs, sizes={"val": 4}, deadline=None)
        assert json.loads((tmp_path / "config.json").read_text())["depth_scale"] == expected
        card = (tmp_path / "README.md").read_text()
        assert [words in card for words in ("1 is 0.5 m, 0 is 8 m", "metres are valid")] == [expected is not None] * 2


def test_data_without_test_split_says_so(winner, tiny_dataset, tmp_path):
    packs = {"val": DataModule(tiny_dataset, seed=0).pack("val", 32)}
    metrics = write_model_folder(winner, tmp_path, packs, sizes={"val": 4}, deadline=None)
    assert "test" not in metrics and "no test split" in metrics["note"]


def test_measuring_stops_at_its_deadline_and_says_how_many(winner, tiny_dataset, tmp_path):
    pack = DataModule(tiny_dataset, seed=0).pack("train", 32)
    told = []

    @contextmanager
    def show(title):
        yield lambda done, total: told.append((title, done, total))

    sizes = {"val": len(pack)}
    small = write_model_folder(winner, tmp_path, {"val": pack}, sizes=sizes, deadline=0.0, show=show)["val"]
    assert told == [("measuring f0001 on val", small["images"], len(pack))]
    assert small["images"] == min(32, len(pack)) and small["of_images"] == len(pack)


def test_leaking_split_says_how_optimistic_it_is(winner, tiny_dataset, tmp_path):
    data_module = DataModule(tiny_dataset, seed=0, split="random")
    packs = {name: data_module.pack(name, 32) for name in ("val", "test")}
    sizes = {name: len(pack) for name, pack in packs.items()}
    metrics = write_model_folder(winner, tmp_path, packs, sizes=sizes, deadline=None, leaks=True)
    apart = metrics["val"]["score"] - metrics["test"]["score"]
    assert metrics["validation_minus_test"]["score"] == apart and f"by {apart:.3f}" in metrics["note"]
    honest = write_model_folder(winner, tmp_path, packs, sizes=sizes, deadline=None)
    assert "validation_minus_test" not in honest and honest["note"] == ""


@pytest.mark.parametrize(("name", "absent"), [("mask_only", "rmse_depth"), ("depth_only", "iou")])
def test_partial_data_are_measured_on_what_they_have(winner, partial_datasets, tmp_path, name, absent):
    data_module = DataModule(partial_datasets[name], seed=0, split="random")
    packs = {part: data_module.pack(part, 32) for part in ("val", "test")}
    stats = packs["val"].stats
    told = dataclasses.replace(winner, stats=stats)
    metrics = write_model_folder(told, tmp_path, packs, sizes=data_module.sizes(), deadline=None, leaks=True)
    assert absent not in metrics["test"] and absent not in metrics["test"]["constant_guess"]
    assert absent not in metrics["validation_minus_test"] and "is known in" not in metrics["note"]
    said = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"No {absent.replace('iou', 'mask').removeprefix('rmse_')} was known in training" in said


def test_split_that_lacks_what_was_trained_says_so(winner, partial_datasets, tmp_path):
    packs = {"val": DataModule(partial_datasets["depth_only"], seed=0).pack("val", 32)}
    metrics = write_model_folder(winner, tmp_path, packs, sizes={"val": 4}, deadline=None)
    assert "no mask is known in val: the score there covers only the depth" in metrics["note"]


def test_model_is_measured_on_the_device_in_the_batches_that_it_allows(winner, tiny_dataset, tmp_path, monkeypatch):
    device, seen = torch.device("cpu", 0), []
    packs = {"val": DataModule(tiny_dataset, seed=0).pack("val", 32)}
    monkeypatch.setattr(model_folder, "find_device", lambda: device)
    monkeypatch.setattr(model_folder, "choose_images_per_pass", lambda config, px, where: 3 if where is device else 0)

    def build_loader(pack, **options):
        seen.append((options["device"], options["batch_size"]))
        return device_loader.DeviceLoader(pack, **options)

    monkeypatch.setattr(model_folder, "build_loader", build_loader)
    found = write_model_folder(winner, tmp_path, packs, sizes={"val": 4}, deadline=None)
    assert seen == [(device, 3)] and found["val"]["images"] == 4 and (tmp_path / "samples.png").exists()
