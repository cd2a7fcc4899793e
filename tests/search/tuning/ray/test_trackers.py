"""MLflow and Weights & Biases: what they get, and that a run does not depend on them."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from search.config.recipes import build_recipe
from search.run import main
from search.tuning.ray import trackers
from search.tuning.ray.trackers import Tracker
from tests.trials import make_record


class Recorder:
    """Takes the place of a callback of Ray Tune."""

    def __init__(self):
        self.seen = []

    def setup(self):
        self.seen.append("setup")

    def log_trial_start(self, trial):
        self.seen.append((str(trial), trial.trial_id, trial.config["optim/lr"], trial.config["stage"]))

    def log_trial_result(self, iteration, trial, result):
        self.seen.append((str(trial), iteration, result))

    def log_trial_end(self, trial, failed):
        self.seen.append((str(trial), failed))

    def on_experiment_end(self, trials):
        self.seen.append("end")


def record(number=1, status=""):
    metrics = {"score": 0.5, "iou": 0.4, "epochs": 2, "rmse_depth": float("nan"), "lr": [1.0]}
    return make_record(f"e{number:04d}", config=build_recipe("quick_unet").flatten(), status=status, metrics=metrics)


def track(tracker):
    """Report two trials, one of which fails."""
    for number, status in ((1, "completed"), (2, "failed")):
        one = record(number)
        tracker.start(one, None)
        tracker.report(one, one.metrics, rates=[], predictions=None)
        one.metrics = {**one.metrics, "score": 0.6, "epochs": 3}
        tracker.report(one, one.metrics, rates=[], predictions=None)
        one.status = status
        tracker.finish(one)
        tracker.finish(one)  # a trial that never started
    tracker.close()


def test_callback_gets_settings_metrics_by_epoch_and_ends(monkeypatch):
    callback, told = Recorder(), []
    monkeypatch.setattr(trackers, "build_callback", lambda address, run: callback)
    track(Tracker("mlflow:x", Path("run"), told.append))
    one = ("e0001_unet", "run-e0001", build_recipe("quick_unet").optim.lr, "explore")
    first = {"score": 0.5, "iou": 0.4, "epochs": 2, "training_iteration": 2}
    assert callback.seen[:3] == ["setup", one, ("e0001_unet", 2, first)]
    assert callback.seen[3][2]["score"] == 0.6 and callback.seen[4] == ("e0001_unet", False)
    assert callback.seen[-2:] == [("e0002_unet", True), "end"] and told == []


def test_trial_that_continues_on_another_worker_is_one_run(monkeypatch):
    callback = Recorder()
    monkeypatch.setattr(trackers, "build_callback", lambda address, run: callback)
    tracker, one = Tracker("mlflow:x", Path("run"), print), record(status="completed")
    tracker.start(one, None)
    tracker.report(one, one.metrics, rates=[], predictions=None)
    tracker.start(one, None)
    tracker.finish(one)
    tracker.close()
    begun = [entry for entry in callback.seen if entry[1] == "run-e0001"]
    assert len(begun) == 1 and callback.seen[-2:] == [("e0001_unet", False), "end"]


def test_tracker_that_fails_is_told_of_once_and_that_hangs_is_left(monkeypatch):
    callback, told = Recorder(), []
    monkeypatch.setattr(trackers, "build_callback", lambda address, run: callback)
    monkeypatch.setattr(callback, "log_trial_result", lambda *_: 1 / 0)
    track(Tracker("wandb:x", Path("run"), told.append))
    assert told == ["warning: --track wandb:x: division by zero; the run continues without it"]
    failed = Tracker("wandb:x", Path("run"), told.append)
    track(failed)
    queued = failed._events.qsize()
    track(failed)
    assert failed._events.qsize() == queued and told.pop()  # nothing is kept for a tracker that has failed
    monkeypatch.setattr(trackers, "WAIT_S", 0.1)
    monkeypatch.setattr(callback, "setup", lambda: time.sleep(60))
    track(Tracker("wandb:x", Path("run"), told.append))
    assert told[1:] == ["warning: --track wandb:x: the last reports were not taken within 0 s"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("mlflow", "'mlflow' is neither mlflow:URI nor wandb:PROJECT"),
        ("neptune:x", "'neptune:x' is neither mlflow:URI nor wandb:PROJECT"),
        ("mlflow:x", "'mlflow:x' needs the package mlflow: pip install"),
    ],
)
def test_wrong_tracker_is_one_clear_line(address, said, capsys, monkeypatch):
    monkeypatch.setattr("search.config.options.importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["--budget", "5m", "--track", address])
    assert said in capsys.readouterr().err


def test_server_that_does_not_answer_is_told_before_the_run(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("search.config.options.importlib.util.find_spec", lambda name: name)
    address = f"127.0.0.1:{find_free_port()}"
    out = tmp_path / "run"
    assert main(["--budget", "5m", "--out", str(out), "--track", f"mlflow:http://{address}"]) == 2
    assert f"error: {address} does not answer" in capsys.readouterr().err and not out.exists()


def find_free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def serve_mlflow(folder):
    """Run a real MLflow server; yield its address."""
    address = f"127.0.0.1:{(port := find_free_port())}"
    store = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "art")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *store]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield f"http://{address}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("mlflow") and find_spec("flask")), reason="no MLflow with a server is installed")
def test_real_mlflow_server_has_the_trials(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "WAIT_S", 120.0)
    with serve_mlflow(tmp_path) as address:
        told = []
        track(Tracker(f"mlflow:{address}", Path("my run"), told.append))
        assert told == []
        assert capsys.readouterr().out == ""  # MLflow would print the address of each trial
        from mlflow.tracking import MlflowClient

        client = MlflowClient(address)
        experiment = client.get_experiment_by_name("my run")
        found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        assert {name: run.info.status for name, run in found.items()} == {
            "e0001_unet": "FINISHED",
            "e0002_unet": "FAILED",
        }
        one = found["e0001_unet"]
        assert one.data.params["optim/lr"] == str(build_recipe("quick_unet").optim.lr)
        assert one.data.params["stage"] == "explore" and one.data.metrics["iou"] == 0.4
        assert [(m.step, m.value) for m in client.get_metric_history(one.info.run_id, "score")] == [(2, 0.5), (3, 0.6)]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(not find_spec("wandb"), reason="wandb is not installed")
def test_weights_and_biases_gets_the_trials_offline(tmp_path, monkeypatch):
    import ray

    monkeypatch.setenv("WANDB_MODE", "offline")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        told = []
        monkeypatch.setattr(trackers, "WAIT_S", 120.0)
        track(Tracker("wandb:project", tmp_path, told.append))
        assert told == []
        assert len(list((tmp_path / "wandb").glob("offline-run-*-e000?/*.wandb"))) == 2
    finally:
        ray.shutdown()
