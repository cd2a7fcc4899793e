"""One trial as a worker runs it; its reports to Ray Tune are caught, no Ray is started."""

import dataclasses
import itertools
import shutil
import time

import pytest
import torch

from data.runtime.storage import OUTAGE_S
from models.cost import Throughput, estimate_training_mib, probe
from search.config.stages import Stage
from search.records.trials import TrialTable
from search.training.micro_batches import TrialOutOfMemoryError
from search.tuning.allocation import CONTEXT_MIB, GPU_SHARE, TRIAL_MIB, WEIGHT_COPIES
from search.tuning.ray import trainable
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.trainable import MAX_RATES, thin_rates, train_trial
from search.tuning.ray.trial_spec import StageContext, build_trial_spec
from tests.trials import make_record


@pytest.fixture
def reports(monkeypatch):
    results = []
    monkeypatch.setattr(trainable.tune, "report", lambda result, checkpoint=None: results.append(result))
    return results


@pytest.fixture
def context(fit_data):
    stage = Stage(name="confirm", kind="promote", fraction=1.0, px=32, epochs=2, samples=3)
    return StageContext(stage=stage, data=fit_data, deadline=None, limit_s=None, threads=1, device="cpu")


def run(context, config):
    train_trial({"spec": build_trial_spec(context, 1, config, seed=0)})


def test_rates_and_predictions_are_kept_apart_from_the_metrics(context, small_config, reports):
    run(context, small_config)
    steps = len(context.data.train) // small_config.optim.batch_size
    assert [step for result in reports for step, _ in result["rates"]] == list(range(1, 2 * steps + 1))
    assert [len(result["rates"]) for result in reports] == [steps, steps]
    assert max(rate for result in reports for _, rate in result["rates"]) <= small_config.optim.lr
    for result in reports:
        assert result["predictions"].shape == (3, 32, 32, 2)
        assert {"rates", "predictions"}.isdisjoint(result["metrics"])
        assert {"score", "train_total", "params", "micro_batch_size"} <= result["metrics"].keys()


def test_steps_of_a_trial_that_continues_are_counted_on(context, small_config, reports, monkeypatch, tmp_path):
    def interrupt(result, checkpoint):
        reports.append(result)
        shutil.copytree(checkpoint.path, folder)
        raise InterruptedError

    folder = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(trainable.tune, "report", interrupt)
        run(dataclasses.replace(context, checkpoint_s=0.0), small_config)
    spec = build_trial_spec(context, 1, small_config, seed=0)
    own = trainable.tune.Checkpoint.from_directory(folder)
    train_trial({"spec": dataclasses.replace(spec, own=own)})
    steps = len(context.data.train) // small_config.optim.batch_size
    assert [step for result in reports for step, _ in result["rates"]] == list(range(1, 2 * steps + 1))


def test_stage_without_samples_reports_none(context, small_config, reports):
    plain = dataclasses.replace(context.stage, samples=0, epochs=1)
    run(dataclasses.replace(context, stage=plain), small_config)
    assert reports[0]["predictions"] is None


def test_promoted_trial_starts_from_the_weights_that_its_stopped_parent_was_scored_on(
    context, small_config, tmp_path, monkeypatch
):
    measured, scores, results, reductions, started = {}, iter([0.1, 0.5, 0.3]), [], [], []

    def validate(self, runner):
        score = next(scores)
        measured[score] = {name: value.clone() for name, value in runner.model.state_dict().items()}
        return {"score": score}, None

    def stop_after_three(result, checkpoint):
        results.append(result)
        if result["epoch"] == 3:
            shutil.copytree(checkpoint.path, tmp_path / "c0001_unet" / "checkpoint_000002")
            raise InterruptedError

    monkeypatch.setattr("search.training.validation.Validator.validate", validate)
    monkeypatch.setattr(trainable.tune, "report", stop_after_three)
    stage = dataclasses.replace(context.stage, epochs=9)
    with pytest.raises(InterruptedError):
        run(dataclasses.replace(context, stage=stage, checkpoint_s=0.0), small_config)
    table = TrialTable(tmp_path)
    table.start(make_record("c0001"))
    record = table.report("c0001", results[-1]["metrics"])
    checkpoints = CheckpointStore(tmp_path, seed=0, discard=reductions.append)
    checkpoints.put("c0001", trainable.tune.Checkpoint.from_directory(tmp_path / "c0001_unet" / "checkpoint_000002"))
    checkpoints.finish(record)
    monkeypatch.setattr(trainable, "fit", lambda *args, weights, **options: started.append(weights))
    spec = build_trial_spec(context, 2, small_config, seed=0, parent_id="c0001", parent=checkpoints["c0001"])
    train_trial({"spec": spec})  # before the checkpoint is reduced
    (reduce,) = reductions
    reduce()
    train_trial({"spec": spec})
    assert len(started) == 2
    for weights in started:
        assert all(torch.equal(value, weights[name]) for name, value in measured[record.score].items())


def test_memory_of_a_trial_caps_the_micro_batch_size(context, small_config, reports):
    weights_mib = WEIGHT_COPIES * 4 * probe(small_config.model).params / 2**20
    memory_mib = weights_mib + 3.5 * estimate_training_mib(small_config.model, 32)
    run(dataclasses.replace(context, memory_mib=memory_mib), small_config)
    assert [result["metrics"]["micro_batch_size"] for result in reports] == [3, 3]


def test_network_too_slow_for_its_time_is_measured_on_fewer_images(context, small_config, reports):
    run(dataclasses.replace(context, limit_s=60.0, throughput=Throughput(1.0)), small_config)
    assert {result["metrics"]["val_images"] for result in reports} == {min(16, len(context.data.val))}


@pytest.mark.parametrize(
    "error",
    [TrialOutOfMemoryError("not even one image fits"), torch.OutOfMemoryError("not even one image fits\nadvice")],
)
def test_lack_of_memory_fails_the_trial_and_not_its_worker(context, small_config, reports, monkeypatch, error):
    def fit(*args, **options):
        raise error

    monkeypatch.setattr(trainable, "fit", fit)
    run(context, small_config)
    assert [(result["failed"], result["last"]) for result in reports] == [("not even one image fits", True)]


def test_rates_are_thinned_evenly_between_first_and_last():
    few = [(i, i / 10) for i in range(MAX_RATES)]
    assert thin_rates(few) == few
    many = [(i, i / 10) for i in range(1, 20_001)]
    kept = thin_rates(many)
    gaps = {b - a for (a, _), (b, _) in itertools.pairwise(kept)}
    assert len(kept) == MAX_RATES and kept[0] == many[0] and kept[-1] == many[-1]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(("total_gb", "trials"), [(141, 16), (8, 5), (8, 1), (4, 3)])
def test_memory_of_the_trials_of_a_gpu_and_of_their_processes_fits_on_it(total_gb, trials, monkeypatch):
    limits = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, total_gb * 2**30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    trainable.limit_gpu_memory(1 / trials)
    assert limits[0] >= 1 / trials / 2
    if total_gb * 1024 / trials >= TRIAL_MIB:
        assert trials * (limits[0] * total_gb * 1024 + CONTEXT_MIB) == pytest.approx(GPU_SHARE * total_gb * 1024)


def test_trial_on_a_gpu_is_limited_to_its_share(context, small_config, reports, monkeypatch):
    limits = []
    monkeypatch.setattr(trainable, "limit_gpu_memory", limits.append)
    monkeypatch.setattr(trainable, "fit", lambda *args, **options: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    run(dataclasses.replace(context, device="cuda", devices=0.25), small_config)
    assert limits == [0.25]


@pytest.fixture
def saved(monkeypatch):
    """Return the epochs of the reports that came with a checkpoint."""
    epochs = []

    def report(result, checkpoint=None):
        if checkpoint is not None:
            epochs.append(result["epoch"])

    monkeypatch.setattr(trainable.tune, "report", report)
    return epochs


@pytest.mark.parametrize(
    ("options", "seconds", "expected"),
    [
        ({"early_stopping": True}, 0, [4, 12, 13]),
        ({}, 0, [13]),
        ({}, 4, [3, 6, 9, 12, 13]),  # at the first epoch after ten seconds
        ({}, 20, list(range(1, 14))),
    ],
)
def test_state_is_saved_at_rungs_at_the_end_and_every_ten_seconds(
    options, seconds, expected, context, small_config, saved, clock, monkeypatch
):
    def fit(*args, report, **more):
        for epoch in range(1, 14):
            clock.now += seconds
            report({"score": 0.5, "epoch": epoch, "last": epoch == 13}, dict)

    monkeypatch.setattr(trainable, "fit", fit)
    stage = dataclasses.replace(context.stage, epochs=13, **options)
    run(dataclasses.replace(context, stage=stage), small_config)
    assert saved == expected


@pytest.mark.parametrize(("storage", "tries"), [("file:///storage", len(OUTAGE_S) + 1), (None, 1)])
def test_trial_waits_for_a_storage_that_does_not_answer_and_for_no_disk(
    storage, tries, context, small_config, monkeypatch
):
    failures = []

    def fail(result, checkpoint=None):
        failures.append(result["epoch"])
        raise OSError("AWS Error NETWORK_CONNECTION")

    monkeypatch.setattr(trainable.tune, "report", fail)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        run(dataclasses.replace(context, storage=storage, checkpoint_s=0.0), small_config)
    assert len(failures) == tries
