import dataclasses
import itertools
import math
import shutil
import time

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import search.training.trainer
import search.training.validation
from data.data_module import DataModule
from data.loading.device_loader import DeviceLoader
from data.loading.loaders import Loader
from data.loading.visualize import quantise_predictions
from models.architectures.efficientnet_lite import MOMENTS, EfficientNetLite, read_imagenet_weights
from models.architectures.registry import build_model, parse_model_config
from models.losses.loss import build_loss
from models.losses.registry import LossConfig
from search.config.stages import Stage
from search.training.lr_schedules import compute_peak_fraction
from search.training.micro_batches import MicroBatchRunner, TrialOutOfMemoryError
from search.training.optimizer import build_optimizer, set_learning_rate
from search.training.trainer import FitPlan, TrialDivergedError, build_refinement_loss, fit

PLANNED = ("seed", "refine", "samples", "micro_batch_size", "precision")


def train(config, data, *, epochs=2, **options):
    """Run fit and return its reports and its states, detached from the live network."""
    plan = FitPlan(epochs=epochs, **{name: options.pop(name) for name in PLANNED if name in options})
    reports, states = [], []

    def report(metrics, state):
        reports.append(metrics)
        states.append({k: _copied(v) for k, v in state().items()})

    model = fit(config, data, plan, report=report, **options)
    return model, reports, states


def _copied(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def with_(config, section, **changes):
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **changes)})


def test_fit_with_same_seed_gives_same_numbers(fit_data, small_config):
    config = with_(small_config, "augment", flip=0.5, brightness_contrast=0.5)
    _, first, a = train(config, fit_data, seed=3)
    _, second, b = train(config, fit_data, seed=3)
    assert [r["train_total"] for r in first] == [r["train_total"] for r in second]
    assert [r["score"] for r in first] == [r["score"] for r in second]
    assert all(torch.equal(a[-1]["model"][k], b[-1]["model"][k]) for k in a[-1]["model"])


def test_fit_with_another_seed_gives_other_numbers(fit_data, small_config):
    _, first, _ = train(small_config, fit_data, epochs=1, seed=1)
    _, second, _ = train(small_config, fit_data, epochs=1, seed=2)
    assert first[0]["train_total"] != second[0]["train_total"]


@pytest.mark.parametrize("refine", [0.0, 0.5])
@pytest.mark.parametrize("balance", ["fixed", "uncertainty"])
def test_resumed_run_equals_uninterrupted_run(fit_data, small_config, refine, balance):
    config = with_(with_(small_config, "loss", balance=balance), "augment", flip=0.5, rotate=0.5)
    _, whole, states = train(config, fit_data, epochs=4, refine=refine)
    _, rest, resumed = train(config, fit_data, epochs=4, refine=refine, resume=states[1])
    assert [r["epoch"] for r in rest] == [3, 4]
    assert [r["train_total"] for r in rest] == [r["train_total"] for r in whole[2:]]
    assert all(torch.equal(states[-1]["model"][k], resumed[-1]["model"][k]) for k in resumed[-1]["model"])


def test_fit_overfits_a_few_images(fit_data, small_config):
    few = dataclasses.replace(fit_data, train=fit_data.train.prefix(4), val=fit_data.train.prefix(4))
    config = with_(with_(small_config, "augment", flip=0.0), "optim", batch_size=4, lr=0.01)
    _, reports, _ = train(config, few, epochs=150)
    assert reports[-1]["score"] > 0.65
    assert reports[-1]["train_total"] < 0.25 * reports[0]["train_total"]


def test_fit_cut_by_the_clock_has_annealed(fit_data, small_config, monkeypatch):
    seconds = itertools.count()  # each reading of the clock is a second later
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    _, reports, _ = train(small_config, fit_data, epochs=100_000, limit_s=200.0)
    assert reports[-1]["last"] and reports[-1]["out_of_time"]
    assert reports[-1]["lr"] < 0.1 * small_config.optim.lr
    assert 150.0 < reports[-1]["fit_s"] < 220.0


def test_fit_that_ends_by_epochs_is_not_out_of_time(fit_data, small_config):
    _, reports, _ = train(small_config, fit_data, epochs=2, limit_s=600.0)
    assert [r["last"] for r in reports] == [False, True]
    assert not reports[-1]["out_of_time"]


def test_fit_with_no_time_left_still_reports_once(fit_data, small_config):
    _, reports, _ = train(small_config, fit_data, epochs=5, limit_s=0.0)
    assert len(reports) == 1 and math.isfinite(reports[0]["score"])


def test_fit_starts_from_the_weights_it_is_given(fit_data, small_config):
    model, before, _ = train(small_config, fit_data, epochs=8)
    idle = with_(small_config, "optim", lr=1e-12, weight_decay=0.0)
    _, after, _ = train(idle, fit_data, epochs=1, weights=model.state_dict(), seed=9)
    assert after[0]["train_total"] < before[0]["train_total"]


def test_diverged_loss_raises_with_the_epoch(fit_data, small_config):
    config = with_(small_config, "optim", name="sgd", lr=1e30, clip_norm=0.0)
    with pytest.raises(TrialDivergedError, match=r"loss is (nan|inf) in epoch \d"):
        train(config, fit_data, epochs=5)


def test_error_of_a_diverged_trial_carries_its_replay(fit_data, small_config):
    config = with_(small_config, "optim", name="sgd", lr=1e30, clip_norm=0.0)
    with pytest.raises(TrialDivergedError) as raised:
        train(config, fit_data, epochs=50, limit_s=0.05, seed=3, micro_batch_size=4, refine=0.25)
    replay = raised.value.replay
    assert replay["clock"] and replay["threads"] == 1
    plan = FitPlan(**replay["plan"])
    assert (plan.epochs, plan.seed, plan.micro_batch_size, plan.refine) == (50, 3, 4, 0.25)


def test_fit_with_recorded_clock_readings_reproduces_the_run(fit_data, small_config):
    _, cut, states = train(small_config, fit_data, epochs=1000, limit_s=0.5, refine=0.5)
    readings = [report["replay"]["clock"] for report in cut]
    _, again, repeated = train(small_config, fit_data, epochs=1000, refine=0.5, recorded_clock=readings)
    assert cut[-1]["out_of_time"] and any(readings)
    for name in ("train_total", "score", "lr", "progress", "last", "replay"):
        assert [r[name] for r in again] == [r[name] for r in cut]
    assert all(torch.equal(states[-1]["model"][k], repeated[-1]["model"][k]) for k in repeated[-1]["model"])


def test_refinement_stops_augmenting_and_doubles_the_mask_weight(fit_data, small_config, monkeypatch):
    from data.loading.augment import Augment

    changed = []
    original = Augment.change
    monkeypatch.setattr(Augment, "change", lambda self, raw, seeds: changed.append(1) or original(self, raw, seeds))
    steps = len(fit_data.train) // small_config.optim.batch_size
    train(small_config, fit_data, epochs=4, refine=0.5)
    assert len(changed) <= 2 * steps + 1  # one batch may be on its way when the refinement begins
    assert build_refinement_loss(small_config.loss).mask_weight == 2 * small_config.loss.mask_weight


def test_norms_and_biases_are_not_decayed(small_config):
    model = build_model(small_config.model)
    decayed, free = build_optimizer(small_config.optim, [model]).param_groups
    assert decayed["weight_decay"] == small_config.optim.weight_decay and free["weight_decay"] == 0.0
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim <= 1 for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_all_parameters_are_updated_by_one_kernel(small_config, name):
    config = with_(small_config, "optim", name=name, lr=0.1)
    model = build_model(config.model)
    optimizer = build_optimizer(config.optim, [model, build_loss(LossConfig(balance="uncertainty"), 32)])
    (model(torch.randn(2, 3, 32, 32)) - 0.3).square().mean().backward()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    kernels = [event.name for event in profile.events() if "fused" in event.name]
    assert len(kernels) == 2, kernels  # of the weights that decay, and of the others


def pretrained_config(config, **fields):
    model = parse_model_config({"arch": "efficientnet_lite", "encoder_stride": 16, **fields})
    return dataclasses.replace(config, model=model)


def test_part_of_a_network_has_its_own_learning_rate(small_config):
    config = pretrained_config(small_config, encoder_lr=0.1)
    model = build_model(config.model)
    optimizer = build_optimizer(config.optim, [model])
    set_learning_rate(optimizer, 0.02)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.keys() == {id(p) for p in model.parameters()}
    encoder = {id(p) for p in model.encoder.parameters()}
    assert {rate for p, rate in rates.items() if p in encoder} == {0.02 * 0.1}
    assert {rate for p, rate in rates.items() if p not in encoder} == {0.02}
    decays = [g["weight_decay"] for g in optimizer.param_groups for p in g["params"] if p.ndim > 1]
    assert set(decays) == {config.optim.weight_decay}


def test_only_a_trial_from_new_weights_loads_published_ones(fit_data, small_config, monkeypatch):
    loads = []
    monkeypatch.setattr(EfficientNetLite, "load_pretrained", lambda self, file: loads.append(1))
    config = pretrained_config(small_config)
    model, _, states = train(config, fit_data, epochs=1)
    assert loads == [1]
    train(config, fit_data, epochs=1, weights=model.state_dict())
    train(config, fit_data, epochs=2, resume=states[0])
    assert loads == [1]


def test_published_weights_arrive_in_the_training(fit_data, small_config):
    config = with_(pretrained_config(small_config), "optim", lr=1e-9, weight_decay=0.0)
    model, _, _ = train(config, fit_data, epochs=1)
    stem = read_imagenet_weights(0)["_conv_stem.weight"]
    assert torch.allclose(model.encoder.state_dict()["stem.0.weight"], stem, atol=1e-6)


def test_images_are_normalised_by_the_moments_of_the_encoder(fit_data, small_config, monkeypatch):
    seen = []
    monkeypatch.setattr(Loader, "__init__", recording(Loader.__init__, seen))
    own, stats = pretrained_config(small_config), fit_data.stats
    train(own, fit_data, epochs=1)
    assert {(s.image_mean, s.image_std) for s in seen} == {(MOMENTS.mean, MOMENTS.std)} and len(seen) == 2
    assert {s.depth_mean for s in seen} == {stats.depth_mean}
    seen.clear()
    train(small_config, fit_data, epochs=1)
    assert seen == [stats, stats]


def recording(function, seen):
    def record(self, *args, **options):
        seen.append(options["stats"])
        function(self, *args, **options)

    return record


def test_trial_ends_with_its_best_epoch(fit_data, small_config, monkeypatch):
    scripted = iter([0.1, 0.5, 0.3, 0.2])
    monkeypatch.setattr("search.training.validation.Validator.validate", lambda *_: ({"score": next(scripted)}, None))
    model, reports, states = train(small_config, fit_data, epochs=4)
    assert [r["score"] for r in reports] == [0.1, 0.5, 0.3, 0.2]
    best = [{"score": 0.1, "best_epoch": 1}, *[{"score": 0.5, "best_epoch": 2}] * 3]
    assert [r["best"] for r in reports] == best
    assert all(torch.equal(states[1]["average"]["model"][k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(states[3]["model"][k], v) for k, v in model.state_dict().items())
    assert not all(torch.equal(states[2]["model"][k], v) for k, v in model.state_dict().items())


def test_data_without_depth_trains_the_mask_and_scores_by_it(tiny_dataset, tmp_path, small_config):
    for folder in ("images", "masks"):
        shutil.copytree(tiny_dataset / folder, tmp_path / folder)
    (tmp_path / "dataset.json").write_text('{"group_size": 4}')
    stage = Stage(name="explore", kind="search", fraction=1.0, px=32, epochs=1)
    data = DataModule(tmp_path, seed=0).load_stage_data(fraction=stage.fraction, px=stage.px)
    _, reports, _ = train(with_(small_config, "loss", depth_structural="ssim"), data, epochs=2)
    assert reports[-1]["score"] == reports[-1]["iou"] and "rmse_depth" not in reports[-1]
    assert "train_depth" not in reports[-1] and reports[-1]["train_mask"] > 0


def test_each_step_reports_its_rate_and_its_loss(fit_data, small_config):
    steps = []
    _, reports, _ = train(small_config, fit_data, epochs=2, on_step=lambda rate, loss: steps.append((rate, loss)))
    planned = 2 * (len(fit_data.train) // small_config.optim.batch_size)
    rates = [small_config.optim.lr * compute_peak_fraction(small_config.schedule, i / planned) for i in range(planned)]
    assert [rate for rate, _ in steps] == pytest.approx(rates)
    assert all(loss.ndim == 0 and not loss.requires_grad for _, loss in steps)
    first = torch.stack([loss for _, loss in steps[: planned // 2]])
    assert float(first.mean()) == pytest.approx(reports[0]["train_total"])


def full_above(images, error):
    """Return the network's pass for a machine whose memory holds that many images."""
    predict = MicroBatchRunner._forward

    def limited(passes, batch):
        if len(batch) > images:
            raise error
        return predict(passes, batch)

    return limited


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_micro_batches_are_halved_for_good_where_memory_runs_out(fit_data, small_config, monkeypatch, error):
    _, expected, _ = train(small_config, fit_data, micro_batch_size=2)
    monkeypatch.setattr(MicroBatchRunner, "_forward", full_above(3, error))
    steps = []
    model, reports, states = train(small_config, fit_data, on_step=lambda rate, loss: steps.append(rate))
    assert [r["micro_batch_size"] for r in reports] == [r["micro_batch_size"] for r in expected] == [2, 2]
    assert [r["train_total"] for r in reports] == [r["train_total"] for r in expected]
    assert [r["score"] for r in reports] == [r["score"] for r in expected]
    assert len(steps) == 2 * (len(fit_data.train) // small_config.optim.batch_size)
    assert not model.training
    _, resumed, _ = train(small_config, fit_data, resume=states[0])
    assert resumed[0]["train_total"] == reports[1]["train_total"] and resumed[0]["micro_batch_size"] == 2


def test_each_epoch_begins_with_the_planned_batches(fit_data, small_config, monkeypatch):
    begun = []
    monkeypatch.setattr(MicroBatchRunner, "begin_epoch", lambda self: begun.append(self.shares_memory))
    train(small_config, fit_data, epochs=2)
    assert begun == [False] * 4  # two epochs, each of training and validation


def test_one_image_that_does_not_fit_fails_the_trial(fit_data, small_config, monkeypatch):
    monkeypatch.setattr(MicroBatchRunner, "_forward", full_above(0, OUT_OF_MEMORY[0]))
    with pytest.raises(TrialOutOfMemoryError, match="not even one image of 32 px fits in memory: CUDA out of memory"):
        train(small_config, fit_data)


def test_validation_is_split_into_micro_batches_too(fit_data, small_config, monkeypatch):
    seen, forward = {True: [], False: []}, MicroBatchRunner._forward

    def noted(passes, batch):
        seen[passes.model.training].append(len(batch))
        return forward(passes, batch)

    monkeypatch.setattr(MicroBatchRunner, "_forward", noted)
    train(small_config, fit_data, epochs=1, micro_batch_size=3)
    assert max(seen[True]) == 3
    assert max(seen[False]) <= 3 and sum(seen[False]) == len(fit_data.val)  # each image once


def test_reported_predictions_are_those_just_validated(fit_data, small_config):
    _, reports, states = train(small_config, fit_data, samples=3, precision="float32")
    model = build_model(small_config.model)
    batch = next(Loader(fit_data.val, batch_size=32, stats=fit_data.stats).epoch(0))
    for report, state in zip(reports, states, strict=True):
        model.load_state_dict(state["average"]["model"])
        with torch.inference_mode():
            expected = quantise_predictions(model.eval()(batch.image[:3]))
        assert report["predictions"].shape == (3, 32, 32, 2) and report["predictions"].dtype == np.uint8
        assert np.abs(report["predictions"].astype(int) - expected.astype(int)).max() <= 1


def test_predictions_are_reported_on_request_for_at_most_all_images(fit_data, small_config):
    _, reports, _ = train(small_config, fit_data, epochs=1, samples=1000)
    assert len(reports[0]["predictions"]) == len(fit_data.val)
    _, reports, _ = train(small_config, fit_data, epochs=1)
    assert "predictions" not in reports[0]


OF_MASK, OF_DEPTH = {"iou", "dice", "mae_mask", "train_mask"}, {"rmse_depth", "train_depth"}


@pytest.mark.parametrize(
    ("name", "there", "absent"),
    [("mask_only", OF_MASK, OF_DEPTH), ("depth_only", OF_DEPTH, OF_MASK), ("mixed", OF_MASK | OF_DEPTH, set())],
)
@pytest.mark.parametrize("balance", ["fixed", "adaptive", "uncertainty"])
def test_partial_data_train_and_are_scored_on_what_they_have(
    partial_datasets, small_config, name, there, absent, balance
):
    data = DataModule(partial_datasets[name], seed=0).load_stage_data(fraction=1.0, px=32)
    config = with_(small_config, "loss", balance=balance)
    _, reports, _ = train(config, data, epochs=6)
    assert there <= reports[-1].keys() and not absent & {key for report in reports for key in report}
    skill = {"iou": lambda iou: iou, "rmse_depth": lambda rmse: 1 - rmse / data.score.sigma}
    known = [skill[figure](reports[-1][figure]) for figure in skill if figure in there]
    assert reports[-1]["score"] == pytest.approx(sum(known) / len(known))
    assert min(r["train_total"] for r in reports) < reports[0]["train_total"]


def test_losses_of_a_mixture_are_means_over_the_images_that_have_the_task(partial_datasets, small_config, monkeypatch):
    data = DataModule(partial_datasets["mixed"], seed=0).load_stage_data(fraction=1.0, px=32)
    backward, reported = MicroBatchRunner.backward, []

    def counted(self, batch, loss):
        """Pass off the number of the step as the loss of the mask, 0 where there is none."""
        images = int(batch.target.mask_known.sum())
        reported.append((len(reported) + 1, images))
        return backward(self, batch, loss) | {"mask": torch.tensor(float(len(reported) if images else 0))}

    monkeypatch.setattr(MicroBatchRunner, "backward", counted)
    _, reports, _ = train(with_(small_config, "optim", batch_size=2), data, epochs=1)
    steps, images = np.array(reported).T
    assert 0 in images and {1, 2} & set(images)
    assert reports[0]["train_mask"] == pytest.approx((steps * images).sum() / images.sum())


def test_task_that_no_image_of_an_epoch_had_is_left_out(partial_datasets, small_config, monkeypatch):
    data = DataModule(partial_datasets["mixed"], seed=0).load_stage_data(fraction=1.0, px=32)
    backward = MicroBatchRunner.backward

    def blind(self, batch, loss):
        batch.target.mask_known[:] = False
        return backward(self, batch, loss)

    monkeypatch.setattr(MicroBatchRunner, "backward", blind)
    _, reports, _ = train(small_config, data, epochs=1)
    assert not {"train_mask", "train_mask_pixel", "train_mask_factor"} & reports[0].keys()
    assert reports[0]["train_depth"] > 0


def test_mixture_of_which_a_batch_has_no_mask_trains_on(partial_datasets, small_config):
    data = DataModule(partial_datasets["mixed"], seed=0).load_stage_data(fraction=1.0, px=32)
    _, reports, _ = train(with_(small_config, "optim", batch_size=2), data, epochs=2)
    assert all(math.isfinite(r["score"]) and math.isfinite(r["train_total"]) for r in reports)
    loader = Loader(data.train, batch_size=2, stats=data.stats, shuffle=True)
    assert not all(batch.target.mask_known.any() for batch in loader.epoch(0))  # such batches there are


class HostReads(TorchDispatchMode):
    """Counts operations for whose result the processor waits for a GPU."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2")
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.count += by_mask or name in self.WAITING
        return func(*args, **(kwargs or {}))

    def counted(self, method):
        """Return a method of tensors whose calls are counted too."""

        def call(*args, **options):
            self.count += 1
            return method(*args, **options)

        return call


def test_host_waits_for_the_device_twice_in_twenty_steps_at_the_most(fit_data, small_config, monkeypatch):
    """With batches made on the device, as on a GPU, where each wait leaves it idle."""
    augment = dataclasses.replace(small_config.augment, copy_paste=0.5, rotate=0.5, hue_saturation=0.5, blur=0.5)
    config = dataclasses.replace(with_(small_config, "optim", batch_size=1, clip_norm=1.0), augment=augment)
    monkeypatch.setattr(search.training.trainer, "build_loader", DeviceLoader)
    reads = HostReads()
    for name in ("cpu", "numpy", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, reads.counted(getattr(torch.Tensor, name)))
    seen = []
    with reads:
        train(config, fit_data, epochs=1, on_step=lambda rate, loss: seen.append(reads.count))
    assert len(seen) > 20 and max(b - a for a, b in zip(seen, seen[20:], strict=False)) <= 2
    assert reads.count > seen[-1]  # the losses of the epoch are read, so reads are counted


def test_trial_validates_on_its_device_with_batches_made_there(fit_data, small_config, monkeypatch):
    expected, devices = train(small_config, fit_data, epochs=1)[1][0]["score"], []

    def build_loader(pack, **options):
        devices.append(options["device"])
        return DeviceLoader(pack, **options)

    monkeypatch.setattr(search.training.validation, "build_loader", build_loader)
    assert train(small_config, fit_data, epochs=1)[1][0]["score"] == expected
    assert devices == [torch.device("cpu")]


def test_time_in_which_images_are_copied_to_the_device_counts(fit_data, small_config, monkeypatch, clock):
    def build_loader(pack, **options):
        clock.now += 5.0
        return DeviceLoader(pack, **options)

    monkeypatch.setattr(search.training.trainer, "build_loader", build_loader)
    _, reports, _ = train(small_config, fit_data, epochs=3, limit_s=4.0)
    assert len(reports) == 1 and reports[0]["out_of_time"] and reports[0]["fit_s"] >= 5.0
