import dataclasses
import importlib
import inspect
import itertools
import math
import pkgutil

import pytest
import torch

import models.losses
from models.config import ConfigError
from models.losses.loss import build_loss
from models.losses.registry import BALANCES, LOSS_CHOICES, NONE, TERMS, LossConfig, list_terms
from models.losses.terms import bce, dice, l1, mse, ssim_loss
from models.target import Target


def maps(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


PIXEL, STRUCTURAL = list_terms("pixel"), (NONE, *list_terms("structural"))
ALL = torch.ones(1, 1, 1, 4, dtype=torch.bool)
PRED, TRUE = maps(0.5, 0.5, 1.0, 0.0), maps(1.0, 0.0, 1.0, 0.0)
SOME = torch.tensor([True, False, False, False]).view(1, 1, 1, 4)


@pytest.mark.parametrize(
    ("loss", "valid", "value"),
    [
        (l1, ALL, 0.25),
        (l1, SOME, 0.5),
        (mse, ALL, 0.125),
        (mse, SOME, 0.25),
        (bce, ALL, math.log(2) / 2),
        (bce, SOME, math.log(2)),
        (dice, ALL, 1 - (2 * 1.5 + 1) / (2 + 2 + 1)),
        (dice, SOME, 1 - (2 * 0.5 + 1) / (0.5 + 1 + 1)),
    ],
)
def test_loss_has_the_value_computed_by_hand(loss, valid, value):
    assert loss(PRED, TRUE, valid).item() == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize("loss", [l1, mse, bce, dice])
def test_loss_is_zero_at_equality(loss):
    assert loss(TRUE, TRUE, ALL).item() == pytest.approx(0, abs=2e-6)


@pytest.mark.parametrize("loss", [l1, mse, bce, dice])
def test_loss_averages_images_not_pixels(loss):
    valid = torch.cat((ALL, SOME))
    both = loss(torch.cat((PRED, PRED)), torch.cat((TRUE, TRUE)), valid)
    torch.testing.assert_close(both, torch.cat((loss(PRED, TRUE, ALL), loss(PRED, TRUE, SOME))))


def test_bce_is_finite_where_prediction_and_truth_contradict():
    pred = maps(0.0, 1.0, 0.0, 1.0).requires_grad_()
    value = bce(pred, maps(1.0, 0.0, 0.0, 1.0), ALL)
    value.backward()
    assert value.item() == pytest.approx(-math.log(1e-6) / 2, rel=0.05)
    assert pred.grad.isfinite().all()


def test_dice_of_two_empty_masks_is_zero():
    assert dice(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4).bool()).item() == 0


def batch(px: int = 48, n: int = 2, requires_grad: bool = True):
    generator = torch.Generator().manual_seed(0)
    pred = torch.rand(n, 2, px, px, generator=generator).requires_grad_(requires_grad)
    mask = (torch.rand(n, 1, px, px, generator=generator) > 0.9).float()
    depth = torch.rand(n, 1, px, px, generator=generator)
    valid = torch.rand(n, 1, px, px, generator=generator) > 0.3
    return pred, Target(mask, depth, valid, torch.ones(n, dtype=torch.bool))


def select(target: Target, images: list[int]) -> Target:
    return Target(*(tensor[images] for tensor in target.tensors))


@pytest.mark.parametrize("kind", ["ssim", "ms_ssim"])
def test_structural_loss_is_zero_at_equality_of_what_is_valid(kind):
    pred, target = batch()
    truth = torch.where(target.valid, pred[:, 1:], torch.rand(1))
    assert TERMS[kind].function(pred[:, 1:], truth, target.valid).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["ssim", "ms_ssim"])
def test_structural_loss_does_not_read_what_is_not_valid(kind):
    pred, target = batch()
    depth, valid = target.depth, target.valid
    other = torch.where(valid, depth, torch.full_like(depth, float("nan")))
    losses = [TERMS[kind].function(pred[:, 1:], truth, valid) for truth in (depth, other)]
    assert torch.equal(*losses)
    (grad,) = torch.autograd.grad(losses[1].sum(), pred)
    assert (grad[:, 1:][~valid] == 0).all()


def test_structural_loss_is_not_diluted_by_holes():
    pred, target = batch(px=96)
    depth = target.depth
    left = torch.zeros(2, 1, 96, 96, dtype=torch.bool)
    left[..., :48] = True
    whole = ssim_loss(pred[..., :48][:, 1:], depth[..., :48], left[..., :48])
    torch.testing.assert_close(ssim_loss(pred[:, 1:], depth, left), whole, atol=0.12, rtol=0)


def test_depth_without_any_valid_pixel_costs_nothing():
    pred, target = batch()
    loss = build_loss(LossConfig(depth_pixel="bce", depth_structural="ms_ssim"), 48)
    result = loss(pred, dataclasses.replace(target, valid=torch.zeros_like(target.valid)))
    result.total.backward()
    assert result.parts["depth"] == 0
    assert (pred.grad[:, 1] == 0).all()
    assert (pred.grad[:, 0] != 0).any()


@pytest.mark.parametrize("kind", STRUCTURAL)
def test_masks_that_are_not_known_are_never_read_and_cost_nothing(kind):
    pred, target = batch(n=3)
    target.mask_known[1] = False
    loss = build_loss(LossConfig(mask_structural=kind), 48)
    target.mask[1] = float("nan")
    result = loss(pred, target)
    result.total.backward()
    assert (pred.grad[1, 0] == 0).all() and (pred.grad[[0, 2], 0] != 0).any() and (pred.grad[1, 1] != 0).any()
    some = loss(pred[[0, 2]], select(target, [0, 2])).parts
    assert {name: result.parts[name].item() for name in some if "mask" in name} == pytest.approx(
        {name: value.item() for name, value in some.items() if "mask" in name}
    )


def test_depth_is_the_mean_over_the_images_that_have_some():
    pred, target = batch(n=3)
    target.valid[1] = False
    loss = build_loss(LossConfig(), 48)
    some = loss(pred[[0, 2]], select(target, [0, 2]))
    whole = loss(pred, target)
    assert whole.parts["depth"].item() == pytest.approx(some.parts["depth"].item())


@pytest.mark.parametrize("balance", BALANCES)
def test_batch_without_any_mask_is_one_of_depth_alone(balance):
    pred, target = batch()
    loss = build_loss(LossConfig(balance=balance, mask_weight=3.0), 48)
    result = loss(pred, dataclasses.replace(target, mask_known=~target.mask_known))
    result.total.backward()
    assert result.total.item() == pytest.approx(result.parts["depth"].item())
    assert (pred.grad[:, 0] == 0).all() and (pred.grad[:, 1] != 0).any()
    assert {name: value.item() for name, value in result.parts.items() if "mask" in name} == dict.fromkeys(
        ("mask", "mask_pixel", "mask_structural", "mask_factor"), 0
    )


@pytest.mark.parametrize(("pixel", "kind"), list(itertools.product(PIXEL, STRUCTURAL)))
@pytest.mark.parametrize("n", [1, 3])
def test_every_mix_has_finite_gradients(pixel, kind, n):
    config = LossConfig(mask_pixel=pixel, mask_structural=kind, depth_pixel=pixel, depth_structural=kind)
    pred, target = batch(n=n)
    target.mask[0] = 0
    result = build_loss(config, 48)(pred, target)
    result.total.backward()
    assert result.total.isfinite()
    assert pred.grad.isfinite().all()
    assert (pred.grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("pixel", PIXEL)
def test_unknown_depth_is_never_read(pixel):
    pred, target = batch()
    loss = build_loss(LossConfig(depth_pixel=pixel), 48)
    unknown = torch.where(target.valid, target.depth, float("nan"))
    result = loss(pred, dataclasses.replace(target, depth=unknown))
    result.total.backward()
    assert torch.equal(result.total, loss(pred, target).total)
    assert (pred.grad[:, 1:][~target.valid] == 0).all()


def test_total_is_the_stated_sum():
    config = LossConfig(mask_alpha=0.3, depth_alpha=0.8, mask_weight=2.5)
    result = build_loss(config, 48)(*batch())
    p = result.parts
    assert p["mask"].item() == pytest.approx(0.3 * p["mask_pixel"].item() + 0.7 * p["mask_structural"].item())
    assert p["depth"].item() == pytest.approx(0.8 * p["depth_pixel"].item() + 0.2 * p["depth_structural"].item())
    assert result.total.item() == pytest.approx(2.5 * p["mask"].item() + p["depth"].item())
    assert not any(part.requires_grad for part in p.values())


def test_loss_is_float32_under_autocast():
    pred, target = batch(requires_grad=False)
    loss = build_loss(LossConfig(depth_structural="ms_ssim"), 48)
    plain = loss(pred.bfloat16().float(), target).total
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss(pred.bfloat16(), target).total
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask_pixel": "l2"}, "l1, mse, bce"),
        ({"depth_structural": "edges"}, "ms_ssim"),
        ({"mask_alpha": 1.5}, "between 0 and 1"),
        ({"mask_weight": 0.0}, "above 0"),
        ({"balance": "none"}, "adaptive"),
        ({"balance_max": 0.5}, "at least 1"),
        ({"mask_alpha": "half"}, "type float"),
        ({"mask_aplha": 0.5}, "mask_alpha"),
    ],
)
def test_wrong_config_says_what_to_change(fields, message):
    with pytest.raises(ConfigError, match=message):
        LossConfig.from_dict(fields)


def test_config_survives_plain_values():
    config = LossConfig(mask_structural="none", balance="adaptive")
    assert LossConfig.from_dict(config.to_dict()) == config


def test_ms_ssim_is_refused_when_built_for_small_images():
    with pytest.raises(ConfigError, match="ms_ssim"):
        build_loss(LossConfig(depth_structural="ms_ssim"), 32)


def test_every_function_of_prediction_target_and_valid_pixels_is_a_named_term():
    modules = [importlib.import_module(f"models.losses.{m.name}") for m in pkgutil.iter_modules(models.losses.__path__)]
    functions = [f for module in modules for _, f in inspect.getmembers(module, inspect.isfunction)]
    terms = {f.__name__ for f in functions if [*inspect.signature(f).parameters][:3] == ["pred", "target", "valid"]}
    assert terms == {term.function.__name__ for term in TERMS.values()}


def test_every_term_is_searched_for_some_task():
    for name in (*PIXEL, *STRUCTURAL):
        assert any(name in LOSS_CHOICES[field] for field in LOSS_CHOICES if field.endswith(("pixel", "structural")))


@pytest.mark.parametrize("task", ["mask", "depth"])
@pytest.mark.parametrize("kind", list_terms("structural"))
def test_structural_term_is_computed_by_its_own_function(kind, task):
    pred, target = batch(requires_grad=False)
    config = LossConfig.from_dict({f"{task}_structural": kind, f"{task}_alpha": 0.0})
    one, truth, valid = {
        "mask": (pred[:, :1], target.mask, target.mask_valid),
        "depth": (pred[:, 1:], torch.where(target.valid, target.depth, 0), target.valid),
    }[task]
    value = TERMS[kind].function(one, truth, valid).mean()
    assert build_loss(config, 48)(pred, target).parts[task].item() == pytest.approx(value.item())
