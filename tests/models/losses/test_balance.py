import math

import pytest
import torch

from models.losses.loss import Balance
from models.losses.registry import BALANCES

BOTH, NO_MASK, NO_DEPTH = (torch.tensor(shares) for shares in ([1.0, 1.0], [0.0, 1.0], [1.0, 0.0]))
MASK, DEPTH = torch.tensor(0.2, requires_grad=True), torch.tensor(0.6, requires_grad=True)


def build(kind, mask_weight=1.0):
    return Balance(kind, mask_weight=mask_weight, largest=4.0)


def test_fixed_balance_weighs_the_mask():
    total, factor = build("fixed", 3.0)(MASK, DEPTH, BOTH)
    assert total.item() == pytest.approx(1.2)
    assert factor.item() == 3


@pytest.mark.parametrize(("mask", "depth", "factor"), [(0.2, 0.6, 3), (0.6, 0.2, 1), (0.01, 0.6, 4), (0.0, 0.6, 4)])
def test_adaptive_factor_is_the_clamped_ratio(mask, depth, factor):
    total, used = build("adaptive")(torch.tensor(mask), torch.tensor(depth), BOTH)
    assert used.item() == pytest.approx(factor)
    assert total.item() == pytest.approx(factor * mask + depth)


def test_adaptive_factor_is_a_constant_to_the_gradient():
    total, _ = build("adaptive")(MASK, DEPTH, BOTH)
    grads = torch.autograd.grad(total, (MASK, DEPTH))
    assert [g.item() for g in grads] == pytest.approx([3, 1])


def test_uncertainty_settles_at_the_logarithm_of_the_losses():
    balance = build("uncertainty")
    optimizer = torch.optim.SGD(balance.parameters(), 1.0)
    for _ in range(60):
        optimizer.zero_grad()
        balance(MASK.detach(), DEPTH.detach(), BOTH)[0].backward()
        optimizer.step()
    _, factor = balance(MASK.detach(), DEPTH.detach(), BOTH)
    assert factor.item() == pytest.approx(0.6 / 0.2, rel=1e-3)


def test_uncertainty_starts_as_the_fixed_sum():
    assert build("uncertainty", 2.0)(MASK, DEPTH, BOTH)[0].item() == pytest.approx(1.0)


def test_uncertainty_is_bounded_and_comes_back():
    balance = build("uncertainty")
    with torch.no_grad():
        balance.raw.fill_(12.0)
    total, _ = balance(MASK.detach(), DEPTH.detach(), BOTH)
    total.backward()
    assert total.item() < 8 + 0.8 * math.exp(-3.9)
    assert (balance.raw.grad != 0).all()


@pytest.mark.parametrize(("shares", "learnt"), [(NO_MASK, 1), (NO_DEPTH, 0)])
def test_uncertainty_of_an_absent_task_stays_and_does_not_change_the_other_s(shares, learnt):
    losses = (MASK.detach() * shares[0], DEPTH.detach() * shares[1])
    balance = build("uncertainty")
    optimizer = torch.optim.AdamW(balance.parameters(), 0.1, weight_decay=0.0)
    for _ in range(20):
        optimizer.zero_grad()
        balance(*losses, shares)[0].backward()
        optimizer.step()
    assert balance.raw[1 - learnt] == 0 and balance.raw[learnt] < -0.3
    alone = (MASK, DEPTH)[learnt].item()
    s = 4 * math.tanh(balance.raw[learnt].item() / 4)
    assert balance(*losses, shares)[0].item() == pytest.approx(math.exp(-s) * alone + s, rel=1e-5)


@pytest.mark.parametrize("kind", BALANCES)
def test_task_that_is_absent_leaves_the_other_as_it_is(kind):
    zero = torch.tensor(0.0)
    assert build(kind, 2.0)(zero, DEPTH, NO_MASK)[0].item() == pytest.approx(0.6)
    assert build(kind, 2.0)(MASK, zero, NO_DEPTH)[0].item() == pytest.approx(0.4)
