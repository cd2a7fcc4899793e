import dataclasses

import pytest
import torch

from data.loading.loaders import Loader
from models.build import build_model
from models.losses.loss import LossConfig, build_loss
from search.training.micro_batches import Passes


@pytest.fixture
def batch(fit_data):
    drawn = next(Loader(fit_data.train, batch_size=8, stats=fit_data.stats).epoch(0))
    drawn.target.valid[:2] = False
    drawn.target.mask_known[[1, 2, 3, 6]] = False
    return drawn


def passes(config, at_once):
    """Return passes of a network whose batch norm sees no batch, the same each time."""
    torch.manual_seed(0)
    return Passes(build_model(config.model).eval(), bfloat16=False, at_once=at_once)


@pytest.mark.parametrize("balance", ["fixed", "uncertainty"])
def test_gradients_of_parts_add_up_to_those_of_the_batch(batch, small_config, balance):
    def gradients(at_once):
        taken, loss = passes(small_config, at_once), build_loss(LossConfig(balance=balance), 32)
        taken.backward(batch, loss)
        losses = taken.backward(batch, loss)  # nothing is left of the first
        return losses, [p.grad for module in (taken.model, loss) for p in module.parameters()]

    (losses, whole), (added, parts) = gradients(None), gradients(3)
    assert losses.keys() == added.keys() and "total" in losses
    assert all(torch.allclose(added[name], losses[name], atol=1e-6) for name in losses)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(whole, parts, strict=True))
    assert not any(value.requires_grad for value in added.values())


def test_predictions_of_parts_are_those_of_the_batch(batch, small_config):
    with torch.inference_mode():
        whole, parts = (passes(small_config, at_once).predict(batch) for at_once in (None, 3))
    assert whole.shape == (8, 2, 32, 32) and whole.dtype == torch.float32
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("balance", ["fixed", "adaptive", "uncertainty"])
def test_images_without_a_mask_give_its_decoder_no_gradient(batch, small_config, balance):
    separate = dataclasses.replace(small_config, model=dataclasses.replace(small_config.model, decoders="separate"))
    taken, loss = passes(separate, None), build_loss(LossConfig(balance=balance), 32)
    batch.target.mask_known[:] = False
    taken.backward(batch, loss)
    of_mask, of_depth = (list(decoder.parameters()) for decoder in taken.model.decoders)
    assert all((p.grad == 0).all() for p in of_mask) and any((p.grad != 0).any() for p in of_depth)
