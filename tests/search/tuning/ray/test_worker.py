"""The worker's part in Ray Tune, driven by hand: no Ray is started."""

from types import SimpleNamespace

import pytest

from search.tuning.ray import trainable as ray_worker
from search.tuning.ray.trainable import Worker
from search.tuning.ray.trial_spec import StageContext


@pytest.mark.parametrize("stopped", [True, False])
def test_worker_whose_last_trial_does_not_stop_ends(stopped, monkeypatch):
    ended = []
    monkeypatch.setattr(Worker.__mro__[1], "reset_config", lambda self, config: stopped)
    monkeypatch.setattr(ray_worker, "exit_actor", lambda: ended.append(True))
    assert Worker.reset_config(object.__new__(Worker), {}) and bool(ended) != stopped


def test_report_is_sent_once_and_without_the_specification(monkeypatch):
    metrics = {"metrics": {"iou": 0.5}, "rates": [], "predictions": None, "score": 0.5, "checkpoint_dir_name": "one"}
    saved = SimpleNamespace(checkpoint="one", metrics=metrics)
    monkeypatch.setattr(Worker.__mro__[1], "save_checkpoint", lambda self, folder: saved)
    monkeypatch.setattr(Worker.__mro__[1], "get_auto_filled_metrics", lambda self: {"config": "long", "pid": 1})
    worker = object.__new__(Worker)
    assert worker.save_checkpoint().metrics == {"score": 0.5, "checkpoint_dir_name": "one"}
    assert worker.get_auto_filled_metrics() == {"pid": 1}


def test_reports_of_a_while_are_sent_together_with_their_ages_and_one_with_a_checkpoint_alone(monkeypatch):
    context = StageContext(stage=None, data=None, deadline=None, limit_s=None, threads=1, device="cpu", report_s=60.0)
    worker = object.__new__(Worker)
    worker.config = {"spec": SimpleNamespace(context=context)}
    made = iter([{"time_total_s": 1.0}, {"time_total_s": 3.0}, {"time_total_s": 7.0, "should_checkpoint": True}, "no"])
    monkeypatch.setattr(Worker, "train", lambda self: next(made))
    assert [result["age_s"] for result in worker.train_buffered(2, 1.0)] == [6.0, 4.0]
    assert worker.train_buffered(2, 1.0) == [{"time_total_s": 7.0, "should_checkpoint": True, "age_s": 0.0}]
    assert next(made) == "no" and not worker._held
