import dataclasses
import weakref

import pytest
import torch
from torch import nn

from data.loading.loaders import Batch, Loader
from models.architectures.registry import build_model
from models.losses.loss import build_loss
from models.losses.registry import LossConfig
from models.target import Target
from search.training.micro_batches import (
    MicroBatchRunner,
    TrialOutOfMemoryError,
    is_out_of_memory,
    split_batch,
    uses_bfloat16,
)

FULL = torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture
def batch(fit_data):
    drawn = next(Loader(fit_data.train, batch_size=8, stats=fit_data.stats).epoch(0))
    drawn.target.valid[:2] = False
    drawn.target.mask_known[[1, 2, 3, 6]] = False
    return drawn


def build_runner(config, micro_batch_size):
    """Return the same network each time, in evaluation mode, so that batch norm sees no batch."""
    torch.manual_seed(0)
    return MicroBatchRunner(build_model(config.model).eval(), bfloat16=False, micro_batch_size=micro_batch_size)


@pytest.mark.parametrize("balance", ["fixed", "uncertainty"])
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(batch, small_config, balance):
    def gradients(micro_batch_size):
        runner, loss = build_runner(small_config, micro_batch_size), build_loss(LossConfig(balance=balance), 32)
        runner.backward(batch, loss)
        losses = runner.backward(batch, loss)  # nothing is left of the first
        return losses, [p.grad for module in (runner.model, loss) for p in module.parameters()]

    (losses, whole), (added, parts) = gradients(None), gradients(3)
    assert losses.keys() == added.keys() and "total" in losses
    assert all(torch.allclose(added[name], losses[name], atol=1e-6) for name in losses)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(whole, parts, strict=True))
    assert not any(value.requires_grad for value in added.values())


def test_predictions_of_micro_batches_are_those_of_the_batch(batch, small_config):
    with torch.inference_mode():
        whole, parts = (build_runner(small_config, size).predict(batch) for size in (None, 3))
    assert whole.shape == (8, 2, 32, 32) and whole.dtype == torch.float32
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("balance", ["fixed", "adaptive", "uncertainty"])
def test_images_without_a_mask_give_its_decoder_no_gradient(batch, small_config, balance):
    separate = dataclasses.replace(small_config, model=dataclasses.replace(small_config.model, decoders="separate"))
    runner, loss = build_runner(separate, None), build_loss(LossConfig(balance=balance), 32)
    batch.target.mask_known[:] = False
    runner.backward(batch, loss)
    of_mask, of_depth = (list(decoder.parameters()) for decoder in runner.model.decoders)
    assert all((p.grad == 0).all() for p in of_mask) and any((p.grad != 0).any() for p in of_depth)


def numbered(images):
    """Return a batch whose images hold their own number in each pixel."""
    plane = torch.arange(images, dtype=torch.float32)[:, None, None, None].expand(images, 1, 8, 8)
    known = plane[:, 0, 0, 0] >= 0
    return Batch(plane.repeat(1, 3, 1, 1), Target(plane, plane, plane >= 0, known))


@pytest.mark.parametrize(
    ("images", "micro_batch_size", "expected"),
    [(8, None, [8]), (8, 8, [8]), (8, 3, [3, 3, 2]), (10, 4, [4, 3, 3]), (3, 1, [1] * 3)],
)
def test_batch_is_split_into_few_micro_batches_of_nearly_equal_size(images, micro_batch_size, expected):
    parts = split_batch(numbered(images), micro_batch_size)
    assert [len(part) for part in parts] == expected
    columns = zip(*(part.tensors for part in parts), strict=True)
    whole = numbered(images).tensors
    assert all(torch.equal(torch.cat(column), one) for column, one in zip(columns, whole, strict=True))


class Limited(nn.Module):
    """A network that raises an error for more images than the limit, and notes how many it was given."""

    def __init__(self, limit, error):
        super().__init__()
        self.limit, self.error, self.tried = limit, error, []

    def forward(self, image):
        self.tried.append(len(image))
        if len(image) > self.limit:
            raise self.error
        return image[:, :2]


def test_pass_is_repeated_in_halves_until_it_fits_and_stays_so():
    model = Limited(2, FULL)
    runner = MicroBatchRunner(model, bfloat16=False, micro_batch_size=None)
    assert torch.equal(runner.predict(numbered(8)), numbered(8).image[:, :2])
    assert model.tried == [8, 4, 2, 2, 2, 2] and runner.micro_batch_size == 2
    assert len(runner.predict(numbered(6))) == 6 and model.tried[6:] == [2, 2, 2]


def test_image_that_does_not_fit_into_memory_is_reported():
    runner = MicroBatchRunner(Limited(0, FULL), bfloat16=False, micro_batch_size=None)
    with pytest.raises(TrialOutOfMemoryError, match="not even one image of 8 px fits in memory: CUDA out of memory"):
        runner.predict(numbered(8))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    runner = MicroBatchRunner(Limited(0, RuntimeError("shapes do not match")), bfloat16=False, micro_batch_size=None)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        runner.predict(numbered(8))
    assert runner.micro_batch_size is None


def test_tensors_of_a_failed_attempt_are_freed_before_the_next():
    class Holding(nn.Module):
        held = None

        def forward(self, image):
            if self.held is None:
                activation = image + 1
                self.held = weakref.ref(activation)
                raise torch.OutOfMemoryError("CUDA out of memory.")
            assert self.held() is None
            return image[:, :2]

    runner = MicroBatchRunner(Holding(), bfloat16=False, micro_batch_size=None)
    assert len(runner.predict(numbered(8))) == 8


def test_error_of_a_full_machine_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_precision_that_is_stated_is_used_and_auto_follows_the_processor(monkeypatch):
    cpu = torch.device("cpu")
    assert uses_bfloat16("bfloat16", cpu) and not uses_bfloat16("float32", cpu)
    for supported in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda supported=supported: supported)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert uses_bfloat16("auto", cpu) is supported


@pytest.mark.parametrize(("shares_memory", "tried"), [(True, [8, 4, 4, 8]), (False, [8, 4, 4, 4, 4])])
def test_lack_of_memory_that_a_neighbour_may_have_caused_lasts_an_epoch(shares_memory, tried):
    model = Limited(4, FULL)
    runner = MicroBatchRunner(model, bfloat16=False, micro_batch_size=None, shares_memory=shares_memory)
    runner.begin_epoch()
    runner.predict(numbered(8))
    model.limit = 8  # the neighbour has ended
    runner.begin_epoch()
    runner.predict(numbered(8))
    assert model.tried == tried
