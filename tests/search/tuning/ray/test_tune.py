"""Recorder and scheduler, driven by hand: no Ray is started."""

import dataclasses
import json
import random
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.air.execution._internal import actor_manager
from ray.tune import Checkpoint

from search.config.stages import GRACE_PERIOD, Stage
from search.records.run_state import RunState
from search.records.trials import TrialTable
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.private_api import get_asha_rungs, rotate_futures
from search.tuning.ray.scheduler import StageScheduler
from search.tuning.ray.searchers import StageChain
from search.tuning.ray.trainable import STATE_FILE
from search.tuning.ray.trial_spec import StageContext, build_trial_spec, read_outcome
from search.tuning.ray.tune import RecordCallback

METRICS = {"epoch": 1, "score": 0.5, "fit_s": 2.0, "devices": 2.0, "out_of_time": False}


class TrialLogger:
    """Keeps what it receives."""

    def __init__(self):
        self.seen = {}

    def start(self, record, raw):
        self.seen["raw"] = raw

    def report(self, record, metrics, **seen):
        self.seen |= {"metrics": metrics, **seen}

    def finish(self, record):
        self.seen["finished"] = record.trial_id


@pytest.fixture
def trial(fit_data, small_config):
    stage = Stage(name="confirm", kind="promote", fraction=1.0, px=32, epochs=2, samples=3)
    context = StageContext(stage=stage, data=fit_data, deadline=None, limit_s=None, threads=1, device="cpu")
    spec = build_trial_spec(context, 1, small_config, seed=0, parent_id="e0001")
    return SimpleNamespace(config={"spec": spec}, checkpoint=None, last_result={})


def record(trial, folder, result):
    """Record one trial from start to end; return the table, the checkpoints and what the logger received."""
    table, logger, checkpoints = TrialTable(folder), TrialLogger(), CheckpointStore(folder, seed=0)
    run_state = RunState(folder=folder, options={}, began=time.monotonic())
    recorder = RecordCallback(StageChain(iter([])), table, [logger], run_state, checkpoints, lambda record: None, print)
    recorder.on_trial_start(0, [], trial)
    recorder.on_trial_result(0, [], trial, result)
    if trial.checkpoint is not None:
        recorder.on_checkpoint(0, [], trial, trial.checkpoint)
    trial.last_result = result
    recorder.on_trial_complete(0, [], trial)
    return table, checkpoints, logger.seen


def test_rates_and_predictions_reach_the_logger_and_no_record(trial, tmp_path):
    predictions = np.zeros((3, 32, 32, 2), np.uint8)
    result = {"last": True, "metrics": dict(METRICS), "rates": [(1, 0.1), (2, 0.2)], "predictions": predictions}
    table, _, seen = record(trial, tmp_path, result)
    assert seen["rates"] == [(1, 0.1), (2, 0.2)] and seen["predictions"] is predictions
    assert seen["raw"].image.shape == (3, 32, 32, 3)
    line = json.loads((tmp_path / "reports.jsonl").read_text())
    columns = (tmp_path / "trials.csv").read_text().splitlines()[0].split(",")
    for names in (line, columns, table.records["c0001"].metrics):
        assert {"rates", "predictions"}.isdisjoint(names)
    assert line["score"] == 0.5 and line["device_s"] == 4.0
    assert result.keys() == {"last", "metrics"}  # what Ray Tune keeps of every trial


def test_loggers_draw_the_epoch_and_the_record_keeps_the_best_one(trial, tmp_path):
    metrics = {**METRICS, "score": 0.3, "best": {"score": 0.5, "best_epoch": 1}}
    result = {"last": True, "metrics": metrics, "rates": [], "predictions": None}
    table, _, seen = record(trial, tmp_path, result)
    assert seen["metrics"]["score"] == 0.3 and table.records["c0001"].score == 0.5


def test_trial_without_a_report_is_closed_with_its_reason(trial, tmp_path):
    table, _, seen = record(trial, tmp_path, {"failed": "not even one image fits", "last": True, "metrics": {}})
    assert (table.records["c0001"].status, table.records["c0001"].reason) == ("failed", "not even one image fits")
    assert seen["finished"] == "c0001"


def test_checkpoint_of_a_trial_that_ended_is_kept_and_of_a_failed_one_is_gone(trial, tmp_path):
    for result, kept in (({"last": True, "metrics": dict(METRICS)}, True), ({"failed": "loss is nan"}, False)):
        folder = tmp_path / str(kept)
        (folder / "checkpoint").mkdir(parents=True)
        torch.save({"best": {}, "epoch": 1, "optimizer": {}}, folder / "checkpoint" / STATE_FILE)
        trial.checkpoint = Checkpoint.from_directory(str(folder / "checkpoint"))
        table, checkpoints, _ = record(trial, folder, {"rates": [], "predictions": None, **result})
        assert list(checkpoints) == ["c0001"] * kept and (folder / "checkpoint").exists() == kept
        assert table.records["c0001"].status == ("completed" if kept else "failed")


def test_of_a_trial_that_trains_the_last_checkpoint_is_kept(trial, tmp_path):
    checkpoints = CheckpointStore(tmp_path, seed=0)
    recorder = RecordCallback(StageChain(iter([])), TrialTable(tmp_path), [], None, checkpoints, print, print)
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        recorder.on_checkpoint(0, [], trial, Checkpoint.from_directory(str(tmp_path / str(number))))
    assert [path.name for path in tmp_path.iterdir()] == ["2"] == [Path(checkpoints["c0001"].path).name]


def test_what_a_repetition_needs_is_written_with_the_end_of_a_trial_that_failed(trial, tmp_path):
    record(trial, tmp_path, {"failed": "loss is nan", "replay": {"epoch": 2}, "metrics": {}})
    lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert lines[-1]["replay"] == {"epoch": 2} and TrialTable.load(tmp_path).records["c0001"].status == "failed"


@pytest.mark.parametrize(
    ("result", "out_of_time", "status"),
    [
        ({"failed": "loss is nan", "last": True}, False, "failed"),
        ({"last": False}, False, "stopped"),
        ({"last": True}, True, "ended_by_budget"),
        ({"last": True}, False, "completed"),
    ],
)
def test_outcome_of_a_trial_is_read_from_its_last_report(result, out_of_time, status):
    assert read_outcome(result, {"out_of_time": out_of_time})[0] == status


def build_trial(name, *, early_stopping=False):
    """Return a trial as Ray Tune would add it."""
    context = SimpleNamespace(stage=SimpleNamespace(early_stopping=early_stopping))
    spec = SimpleNamespace(trial_id=name, context=context)
    return SimpleNamespace(trial_id=name, status="PENDING", config={"spec": spec}, placement_group_factory="one core")


def decisions(early_stopping, epoch=GRACE_PERIOD):
    """Return the decision after an epoch on a trial that scores less than three others with early stopping."""
    scheduler = StageScheduler(epochs=9, workers=0)
    decision = ""
    for number, (score, stopping) in enumerate([(0.9, True), (0.8, True), (0.7, True), (0.1, early_stopping)]):
        trial = build_trial(str(number), early_stopping=stopping)
        scheduler.on_trial_add(None, trial)
        decision = scheduler.on_trial_result(None, trial, {"epoch": epoch, "score": score})
    return decision


def test_only_trials_with_early_stopping_are_stopped():
    assert decisions(early_stopping=True) == "STOP"
    assert decisions(early_stopping=False) == "CONTINUE"


def test_no_trial_is_stopped_before_the_first_rung():
    assert {decisions(early_stopping=True, epoch=epoch) for epoch in range(1, GRACE_PERIOD)} == {"CONTINUE"}


@pytest.mark.parametrize("epochs", [1, GRACE_PERIOD - 1, GRACE_PERIOD])
def test_trials_shorter_than_the_first_rung_have_a_scheduler(epochs):
    assert get_asha_rungs(StageScheduler(epochs, workers=2)).keys() == {GRACE_PERIOD}


def test_scheduler_restores_the_rungs_from_reports(trial):
    def verdict(scheduler):
        spec = trial.config["spec"]
        stage = dataclasses.replace(spec.context.stage, early_stopping=True)
        spec = dataclasses.replace(spec, context=dataclasses.replace(spec.context, stage=stage))
        mine = SimpleNamespace(config={"spec": spec}, trial_id="x", placement_group_factory=None)
        scheduler.on_trial_add(SimpleNamespace(), mine)
        return scheduler.on_trial_result(None, mine, {"epoch": GRACE_PERIOD, "score": 0.5})

    new, restored = StageScheduler(9, 2), StageScheduler(9, 2)
    restored.restore_reports(
        [("e0001", GRACE_PERIOD, 0.8), ("e0002", GRACE_PERIOD, 0.9), ("e0002", GRACE_PERIOD + 1, 0.95)]
    )
    assert (verdict(new), verdict(restored)) == ("CONTINUE", "STOP")


def test_trial_that_resumes_does_not_enter_an_earlier_rung_again():
    scheduler = StageScheduler(epochs=9, workers=0)
    for epoch in range(GRACE_PERIOD + 1, 9):
        trial = build_trial("again", early_stopping=True)
        scheduler.on_trial_add(None, trial)
        assert scheduler.on_trial_result(None, trial, {"epoch": epoch, "score": 0.9}) == "CONTINUE"
    scheduler.on_trial_complete(None, trial, {"epoch": 8, "score": 0.9})
    assert "again" not in get_asha_rungs(scheduler)[GRACE_PERIOD]


def test_first_trial_that_waits_is_run_and_those_that_have_begun_are_not_looked_at_again():
    scheduler = StageScheduler(9, 2)
    trials = {name: build_trial(name) for name in ("e10001", "e9998", "e9999", "e10002")}
    for trial in trials.values():
        scheduler.on_trial_add(None, trial)
    begun = []
    trials["e9998"].status = "RUNNING"
    while (chosen := scheduler.choose_trial_to_run(None)) is not None:
        assert scheduler.choose_trial_to_run(None) is chosen
        begun.append(chosen.trial_id)
        chosen.status = "TERMINATED"
    assert begun == ["e9999", "e10001", "e10002"]


def test_ray_tune_begins_at_any_of_its_futures_and_leaves_none_out(monkeypatch):
    monkeypatch.setattr(actor_manager, "random", random)
    rotate_futures()
    first = set()
    for _ in range(200):
        futures = list(range(5))
        actor_manager.random.shuffle(futures)
        assert futures == [(futures[0] + step) % 5 for step in range(5)]
        first.add(futures[0])
    assert first == set(range(5))
    actor_manager.random.shuffle([])


def test_report_is_recorded_when_it_was_made(trial, tmp_path):
    sent = {"score": 0.5, "metrics": METRICS, "rates": [], "predictions": None, "age_s": 5.0, "last": True}
    table, _, _ = record(trial, tmp_path, sent)
    assert -5.0 < next(iter(table.records.values())).metrics["ended_s"] < -3.0


def test_idle_workers_are_kept_once_the_controller_has_a_cache():
    kept = []
    cache = SimpleNamespace(increase_max=lambda kind, by: kept.append((kind, by)))
    scheduler = StageScheduler(9, 2)
    for number, controller in enumerate([SimpleNamespace(), *[SimpleNamespace(_actor_cache=cache)] * 2]):
        scheduler.on_trial_add(controller, build_trial(str(number)))
    assert kept == [("one core", 2)]
