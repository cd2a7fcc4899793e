"""Workers that die and trials that raise: Ray is started and processes are killed."""

import json
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray
from ray.tune import Checkpoint

from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.records.run_state import RunState
from search.records.trials import TrialTable
from search.tuning.ray import session
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.scheduler import StageScheduler
from search.tuning.ray.searchers import ListSearcher, StageChain
from search.tuning.ray.trial_spec import StageContext, build_trial_spec
from search.tuning.ray.tune import MAX_RETRIES, WAIT_S, Overtime, RecordCallback, run_experiment
from tests.trials import make_record

EPOCHS = 3
pytestmark = [pytest.mark.slow, pytest.mark.ray]


class EndsItsWorker:
    """Stands for the data of a stage; a worker that loads it ends at once."""

    val = ()

    def __reduce__(self):
        return os._exit, (1,)

    def __deepcopy__(self, memo):
        return self


class RaisesInWorker(EndsItsWorker):
    """Raises in a worker, as a pack does that the worker's node does not see."""

    def __reduce__(self):
        return open, ("/no such folder/pack.json",)


class Killer(RecordCallback):
    """Kills the worker of some trials at a given event, once."""

    def __init__(self, at, *args):
        super().__init__(*args)
        self.at = at

    def kill(self, trial, event):
        if self.at.get(trial.config["spec"].trial_id) == event:
            del self.at[trial.config["spec"].trial_id]
            ray.kill(trial.temporary_state.ray_actor)

    def on_trial_start(self, iteration, trials, trial, **info):
        super().on_trial_start(iteration, trials, trial, **info)
        self.kill(trial, "start")

    def on_trial_result(self, iteration, trials, trial, result, **info):
        super().on_trial_result(iteration, trials, trial, result, **info)
        self.kill(trial, f"epoch {result['epoch']}")

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.kill(trial, "end")
        super().on_trial_complete(iteration, trials, trial, **info)


@pytest.fixture(scope="module")
def started():
    yield session.start(None)
    session.stop()


@pytest.fixture(scope="module")
def run(started, fit_data, tmp_path_factory):
    """Folder of an experiment of seven trials on one worker, its records, its lines on the screen."""
    config = TrialConfig.from_dict(
        {
            "model": {"arch": "unet", "width": 4, "stem_stride": 2, "levels": 3, "block": "plain"},
            "loss": {"depth_structural": "none"},
            "optim": {"batch_size": 8, "lr": 0.005},
        }
    )
    folder = tmp_path_factory.mktemp("faults") / "out"
    folder.mkdir()
    stage = Stage(name="confirm", kind="promote", fraction=1.0, px=32, epochs=EPOCHS)
    context = StageContext(stage=stage, data=fit_data, deadline=None, limit_s=None, threads=1, device="cpu")
    context = replace(context, checkpoint_s=0.0)
    contexts = dict.fromkeys(range(1, 8), context)
    contexts[5] = replace(context, data=EndsItsWorker())
    contexts[6] = replace(context, data=RaisesInWorker())
    specs = [build_trial_spec(contexts[i], i, config, seed=0) for i in contexts]
    specs[6] = replace(specs[6], parent=Checkpoint.from_directory("/no such folder"))
    chain, table, lines = StageChain(iter([ListSearcher(specs)])), TrialTable(folder), []
    checkpoints = CheckpointStore(folder / "ray", seed=0)
    kills = {"c0001": "start", "c0002": "epoch 2", "c0003": "end"}
    run_state = RunState(folder=folder, options={}, began=time.monotonic())
    recorder = Killer(kills, chain, table, [], run_state, checkpoints, lambda record: None, lines.append)
    run_experiment(chain, StageScheduler(EPOCHS, 1), recorder, name="1", workers=1)
    assert not kills
    return folder, table, lines


def reported(folder, trial_id):
    lines = map(json.loads, (folder / "reports.jsonl").read_text().splitlines())
    return [line["epochs"] for line in lines if line["trial_id"] == trial_id]


@pytest.mark.parametrize("trial_id", ["c0001", "c0002", "c0003", "c0004"])
def test_trial_whose_worker_died_ends_on_another_one(run, trial_id):
    folder, table, _ = run
    assert (table.records[trial_id].status, table.records[trial_id].reason) == ("completed", "")
    assert reported(folder, trial_id) == list(range(1, EPOCHS + 1))


def test_trial_continues_after_its_last_checkpoint(run):
    folder, _, lines = run
    assert [line for line in lines if "c0002 continues after epoch 2: worker died" in line]
    assert len(list(folder.glob("ray/1/c0002_unet*/checkpoint_*"))) == 1


def test_trial_that_ends_every_worker_fails_after_its_retries_and_the_run_goes_on(run):
    _, table, lines = run
    record = table.records["c0005"]
    assert record.status == "failed" and record.reason.startswith("worker died")
    assert sum("c0005 continues after epoch 0" in line for line in lines) == MAX_RETRIES
    assert sum("c0005 failed, 3 times" in line for line in lines) == 1
    assert list(table.records) == [f"c000{i}" for i in range(1, 8)]


def test_data_that_a_worker_cannot_read_is_the_reason(run):
    record = run[1].records["c0006"]
    assert record.status == "failed" and "/no such folder/pack.json" in record.reason


def test_exception_keeps_its_words_and_is_not_retried(run):
    folder, table, lines = run
    text = (folder / "errors" / "c0007.txt").read_text()
    assert table.records["c0007"].reason.startswith("FileNotFoundError: ") and "/no such folder" in text
    assert "in train_trial" in text and "in load_state" in text and "\x1b" not in text
    assert [line.strip() for line in lines if "c0007" in line] == [
        f"c0007 failed: {table.records['c0007'].reason} (full text: errors/c0007.txt)"
    ]
    rows = (folder / "trials.csv").read_text()
    assert table.records["c0007"].reason in rows


def test_trial_that_fits_on_no_node_any_more_is_left_unfinished_at_the_deadline(
    started, fit_data, small_config, tmp_path
):
    stage = Stage(name="confirm", kind="promote", fraction=1.0, px=32, epochs=EPOCHS)
    context = StageContext(stage=stage, data=fit_data, deadline=None, limit_s=None, threads=1, device="cpu")
    context = replace(context, reserved={"CPU": 1, "of_the_lost_node": 1})
    chain = StageChain(iter([ListSearcher([build_trial_spec(context, 1, small_config, seed=0)])]))
    table, run_state = TrialTable(tmp_path), RunState(folder=tmp_path, options={}, began=time.monotonic())
    with_a_model(table)
    checkpoints = CheckpointStore(tmp_path / "ray", seed=0)
    recorder = RecordCallback(chain, table, [], run_state, checkpoints, lambda record: None, print)
    begin = time.monotonic()
    run_experiment(
        chain,
        StageScheduler(EPOCHS, 1),
        recorder,
        name="1",
        workers=1,
        deadline=begin + 3,
    )
    assert time.monotonic() > begin + 3
    assert not chain.is_finished and not [record for record in table.records.values() if not record.metrics]


def with_a_model(table):
    """Add a trial that has ended with a score."""
    record = make_record("e0001")
    table.start(record)
    table.report("e0001", {"score": 0.5, "epochs": 1})
    table.finish("e0001", "completed", "")
    return record


@pytest.mark.parametrize(
    ("left", "late_s", "ends"),
    [
        ({}, -1, False),  # the time is not over
        ({}, 1, True),  # one that waits for a worker
        ({"score": 0.6, "epochs": 1}, 1, False),  # one in training, which ends itself
        ({"score": 0.6, "epochs": 1}, WAIT_S + 1, True),
    ],
)
def test_time_is_given_after_the_deadline_to_trials_that_may_bring_the_best_model(left, late_s, ends, clock, tmp_path):
    table = TrialTable(tmp_path)
    recorder = SimpleNamespace(table=table)
    assert not Overtime(clock.now - 1, recorder).stop_all()  # nothing has a model yet
    with_a_model(table)
    table.start(make_record("f0001", parent_id="e0001"))
    if left:
        table.report("f0001", left)
    assert Overtime(clock.now - late_s, recorder).stop_all() == ends
