"""What the board writes, read back with TensorBoard's own reader."""

import dataclasses
import math

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from data.loading.visualize import render_predictions, render_truth
from data.pack.pack import RawBatch
from search.records.tensorboard import TensorBoard
from search.records.trials import TrialRecord

RECORD = TrialRecord(
    trial_id="c0001",
    parent_id="e0002",
    stage="confirm",
    config={"model/width": 8, "model/dilations": [2, 3, 4], "optim/lr": 0.01, "model/skips": True},
    seed=1,
)


@pytest.fixture
def logger(tmp_path):
    return TensorBoard(tmp_path)


def report(logger, metrics, record=RECORD, *, rates=(), predictions=None):
    """Let the board see a report, as the recorder would."""
    logger.report(record, metrics, rates=rates, predictions=predictions)


def read(logger):
    """Return what TensorBoard sees of the trial."""
    events = EventAccumulator(str(logger.folder / RECORD.trial_id), size_guidance={"scalars": 0, "images": 0})
    return events.Reload()


def scalars(events, tag):
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def picture(event):
    return cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_figures_are_curves_over_epochs(logger):
    constant = {"params": 1234, "last": False, "fit_s": 2.5}
    report(logger, {"epochs": 1, "score": 0.1, "train_mask": 0.9, "lr": 0.5, "ssim": math.nan, **constant})
    report(logger, {"epochs": 2, "score": 0.2, "train_mask": 0.8, "lr": 0.25, **constant})
    logger.finish(RECORD)
    events = read(logger)
    assert scalars(events, "metrics/score") == [(1, 0.1), (2, 0.2)]
    assert scalars(events, "loss/mask") == [(1, 0.9), (2, 0.8)]
    assert sorted(events.Tags()["scalars"]) == ["loss/mask", "lr/epoch", "metrics/score"]


def test_learning_rate_is_a_curve_over_steps(logger):
    report(logger, {"epochs": 1}, rates=[(1, 0.1), (2, 0.2)])
    report(logger, {"epochs": 2}, rates=[(3, 0.3)])
    logger.finish(RECORD)
    assert scalars(read(logger), "lr/batch") == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_truth_is_shown_once_and_predictions_at_each_epoch(logger):
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8), np.zeros((4, 16, 16), np.uint8)
    raw = RawBatch(image, mask, rng.integers(0, 65536, (4, 16, 16), dtype=np.uint16), np.ones(4, bool))
    predicted = rng.integers(0, 256, (2, 4, 16, 16, 2), dtype=np.uint8)
    logger.start(RECORD, raw)
    for epoch, pictures in enumerate(predicted, start=1):
        report(logger, {"epochs": epoch}, predictions=pictures)
    logger.finish(RECORD)
    events = read(logger)
    (truth,) = events.Images("pictures/truth")
    assert np.array_equal(picture(truth), render_truth(raw))
    assert [event.step for event in events.Images("pictures/prediction")] == [1, 2]
    for event, pictures in zip(events.Images("pictures/prediction"), predicted, strict=True):
        assert np.array_equal(picture(event), render_predictions(pictures))


def test_hyperparameters_stand_beside_the_score(logger):
    report(logger, {"epochs": 1, "score": 0.7})
    logger.finish(dataclasses.replace(RECORD, metrics={"score": 0.7}))
    events = read(logger)
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    start = HParamsPluginData.FromString(content).session_start_info
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    assert values == {
        "stage": "confirm",
        "model/width": 8,
        "model/dilations": "[2, 3, 4]",
        "optim/lr": 0.01,
        "model/skips": True,
    }
    assert events.Scalars("metrics/score")[-1].value == pytest.approx(0.7)


def test_figures_are_seen_while_the_trial_trains(logger):
    for epoch in (1, 2, 3):
        report(logger, {"epochs": epoch, "score": epoch / 10})
    assert scalars(read(logger), "metrics/score") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    logger.finish(RECORD)


def test_each_trial_has_a_folder_of_its_own(logger, tmp_path):
    other = dataclasses.replace(RECORD, trial_id="e0001")
    for record in (other, RECORD):
        report(logger, {"epochs": 1, "score": 0.1}, record)
    for record in (other, RECORD):
        logger.finish(record)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["c0001", "e0001"]
