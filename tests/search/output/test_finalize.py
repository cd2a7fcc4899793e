"""The models that a run leaves, from networks that have learnt nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ray.tune import Checkpoint

from analysis.export.formats import PortableNetwork
from analysis.predict.model import load_model
from data.data_module import DataModule
from data.scenes.scenes import FAR_M, NEAR_M
from models.architectures.efficientnet_lite import MOMENTS, EfficientNetLite
from models.architectures.registry import build_model, parse_model_config
from search.config.stages import build_stages
from search.output.finalize import FinalModels, NoModelError, describe_front, summarise_seeds, write_model
from search.records.run_state import RunState
from search.records.trials import TrialTable
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.trainable import STATE_FILE
from tests.trials import make_record

STAGES = build_stages()


@pytest.mark.parametrize(("splits", "measured"), [(("val", "test"), {"val", "test"}), (("val",), {"val"})])
def test_model_is_written_and_measured_on_the_parts_that_it_may_read(
    splits, measured, tiny_dataset, tmp_path, small_config
):
    data_module = DataModule(tiny_dataset, seed=0)
    data_module.load_stage_data(fraction=STAGES[0].fraction, px=STAGES[0].px)
    torch.manual_seed(0)
    (tmp_path / "checkpoint").mkdir()
    best = {"metrics": {"score": 0.5}, "weights": build_model(small_config.model).state_dict()}
    torch.save({"best": best, "epoch": 1}, tmp_path / "checkpoint" / STATE_FILE)
    metrics = {"px": 32, "score": 0.5}
    record = make_record("f0001", parent_id="c0001", config=small_config.flatten(), metrics=metrics)
    checkpoint, read = Checkpoint.from_directory(str(tmp_path / "checkpoint")), []
    pack = data_module.pack
    data_module.pack = lambda name, *args, **more: (read.append(name), pack(name, *args, **more))[1]
    more = {"seeds": summarise_seeds([record, record])}
    metrics = write_model(record, checkpoint, data_module, tmp_path / "front", splits=splits, more=more, deadline=None)
    assert metrics == json.loads((tmp_path / "front" / "metrics.json").read_text())
    assert {"val", "test"} & metrics.keys() == measured == set(read) and metrics["seeds"] == more["seeds"]
    assert (tmp_path / "front" / "model.safetensors").exists() and (tmp_path / "front" / "samples.png").exists()
    about = json.loads((tmp_path / "front" / "config.json").read_text())
    assert about["depth_scale"] == {"near_m": NEAR_M, "far_m": FAR_M}
    assert about["trained_on"]["fingerprint"] == data_module.dataset.fingerprint
    assert about["trained_on"]["split"] == data_module.split_by == "background"
    assert load_model(tmp_path / "front").fingerprints == (data_module.dataset.fingerprint,)
    assert about["trained_on"]["sizes"] == data_module.sizes() and about["trained_on"]["parent_id"] == "c0001"
    assert about["trained_on"]["warnings"] == data_module.list_warnings() != []
    assert "from the weights of c0001" in (tmp_path / "front" / "README.md").read_text()


def test_model_keeps_the_moments_of_its_encoder_and_needs_no_published_weights(
    tiny_dataset, tmp_path, small_config, monkeypatch
):
    monkeypatch.setattr(EfficientNetLite, "load_pretrained", None)
    config = replace(small_config, model=parse_model_config({"arch": "efficientnet_lite", "encoder_stride": 16}))
    data_module = DataModule(tiny_dataset, seed=0)
    stats = data_module.load_stage_data(fraction=1.0, px=32).stats
    torch.save({"best": {"weights": build_model(config.model).state_dict()}, "epoch": 1}, tmp_path / STATE_FILE)
    record = make_record("f0001", config=config.flatten(), metrics={"px": 32, "score": 0.5})
    checkpoint = Checkpoint.from_directory(str(tmp_path))
    write_model(record, checkpoint, data_module, tmp_path / "best", splits=("val",), deadline=None)
    model = load_model(tmp_path / "best", device="cpu")
    assert (model.stats.image_mean, model.stats.image_std) == (MOMENTS.mean, MOMENTS.std)
    assert model.stats.depth_mean == stats.depth_mean and stats.image_mean != MOMENTS.mean
    portable = PortableNetwork(model)
    assert portable.normalise.mean.flatten().tolist() == pytest.approx(MOMENTS.mean)
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with torch.inference_mode():
        mask, depth = portable(torch.from_numpy(photo).permute(2, 0, 1)[None])
    np.testing.assert_allclose(torch.cat((mask, depth), 1)[0], model.predict_squares(photo[None])[0], atol=1e-5)


def test_run_without_a_model_is_an_error_that_names_the_cause(tmp_path):
    run_state, table = RunState(folder=tmp_path, options={}, began=0.0), TrialTable(tmp_path)
    models = FinalModels(STAGES, run_state, table, CheckpointStore(tmp_path, seed=0), None)
    with pytest.raises(NoModelError, match="the budget ended before a trial began; start again with a larger --budget"):
        models.write(keep=0, wall_s=60.0)
    table.start(make_record("e0001"))
    with pytest.raises(NoModelError, match=r"no trial ended with a model; see the reasons in .*trials\.csv"):
        models.write(keep=0, wall_s=60.0)


def test_front_with_fewer_models_than_asked_for_is_explained():
    front = [{"trial_id": "f0001"}, {"trial_id": "f0002"}]
    assert describe_front(front, "f0001", 0) == describe_front(front, "f0001", 1) == ""
    said = "--keep 2: front/ has 1 model; no other network is on the Pareto front"
    assert describe_front(front, "f0001", 2) == said
