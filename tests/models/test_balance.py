import math

import pytest
import torch

from models.balance import build_balance

MASK, DEPTH = torch.tensor(0.2, requires_grad=True), torch.tensor(0.6, requires_grad=True)


def test_fixed_balance_weighs_the_mask():
    total, factor = build_balance("fixed", 4.0)(MASK, DEPTH, 3.0)
    assert total.item() == pytest.approx(1.2)
    assert factor.item() == 3


@pytest.mark.parametrize(("mask", "depth", "factor"), [(0.2, 0.6, 3), (0.6, 0.2, 1), (0.01, 0.6, 4), (0.0, 0.6, 4)])
def test_adaptive_factor_is_the_clamped_ratio(mask, depth, factor):
    total, used = build_balance("adaptive", 4.0)(torch.tensor(mask), torch.tensor(depth), 1.0)
    assert used.item() == pytest.approx(factor)
    assert total.item() == pytest.approx(factor * mask + depth)


def test_adaptive_factor_is_a_constant_to_the_gradient():
    total, _ = build_balance("adaptive", 4.0)(MASK, DEPTH, 1.0)
    grads = torch.autograd.grad(total, (MASK, DEPTH))
    assert [g.item() for g in grads] == pytest.approx([3, 1])


def test_uncertainty_settles_at_the_logarithm_of_the_losses():
    balance = build_balance("uncertainty", 4.0)
    optimizer = torch.optim.SGD(balance.parameters(), 1.0)
    for _ in range(60):
        optimizer.zero_grad()
        balance(MASK.detach(), DEPTH.detach(), 1.0)[0].backward()
        optimizer.step()
    _, factor = balance(MASK.detach(), DEPTH.detach(), 1.0)
    assert factor.item() == pytest.approx(0.6 / 0.2, rel=1e-3)


def test_uncertainty_starts_as_the_fixed_sum():
    assert build_balance("uncertainty", 4.0)(MASK, DEPTH, 2.0)[0].item() == pytest.approx(1.0)


def test_uncertainty_is_bounded_and_comes_back():
    balance = build_balance("uncertainty", 4.0)
    with torch.no_grad():
        balance.raw.fill_(12.0)
    total, _ = balance(MASK.detach(), DEPTH.detach(), 1.0)
    total.backward()
    assert total.item() < 8 + 0.8 * math.exp(-3.9)
    assert (balance.raw.grad != 0).all()
