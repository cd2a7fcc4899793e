"""A training step on a device without values: operations that mix devices or read a value raise an error there."""

import contextlib
import itertools

import pytest
import torch

from data.loading import device_loader
from data.loading.augment import AugmentConfig
from data.loading.device_augment import DRAWS
from data.loading.device_loader import DeviceLoader
from models.architectures.network import Network
from models.architectures.registry import ARCHITECTURES, build_model
from models.losses.loss import build_loss
from models.losses.registry import LossConfig
from models.metrics import MetricSums, compute_full_metrics
from models.score import Score
from search.training.micro_batches import MicroBatchRunner

META = torch.device("meta")
EVERY = AugmentConfig(**dict.fromkeys(DRAWS, 0.7))


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())  # knows no such device


@pytest.fixture(params=[True, False], ids=["kept", "copied"])
def batch(request, fit_data, monkeypatch):
    monkeypatch.setattr(device_loader, "fits", lambda pack, device: request.param)
    loader = DeviceLoader(fit_data.train, device=META, augment=EVERY, batch_size=8, stats=fit_data.stats, shuffle=True)
    return next(loader.epoch(0))


def test_batch_is_made_on_its_device(batch):
    assert {tensor.device for tensor in batch.tensors} == {META} and batch.image.shape == (8, 3, 32, 32)
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises((RuntimeError, NotImplementedError)):
        batch.image.sum().item()


BALANCES = itertools.cycle(["uncertainty", "adaptive", "fixed"])


@pytest.mark.parametrize(("arch", "balance"), list(zip(ARCHITECTURES, BALANCES, strict=False)))
def test_step_and_validation_stay_on_their_device(arch, balance, batch):
    model: Network = build_model(ARCHITECTURES[arch].config(width=4)).move_to(META).train()
    loss = build_loss(LossConfig(balance=balance), 32).to(META)
    runner = MicroBatchRunner(model, bfloat16=False, micro_batch_size=3)
    losses = runner.backward(batch, loss)
    norm = torch.nn.utils.clip_grad_norm_(runner.parameters, 1.0)
    sums = MetricSums(Score(sigma=0.2), compute_full_metrics)
    with torch.no_grad():
        sums.update(runner.predict(batch), batch.target)
    assert {each.device for each in (*losses.values(), norm, *sums.sums.values())} == {META}
