"""Tests of the average of a network's weights."""

import math

import pytest
import torch
from torch import nn

from search.training.weight_average import DECAY, WeightAverage


@pytest.fixture
def model():
    """A network with a weight, a batch norm and a frozen parameter, all zero."""
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    model[1].bias.requires_grad_(requires_grad=False)
    for value in model.state_dict().values():
        value.zero_()
    return model


def average_steps(model: nn.Module, average: WeightAverage, values: list[float]) -> None:
    """Set the weight and the running mean to each value in turn, as if a step had ended there."""
    for value in values:
        with torch.no_grad():
            model[0].weight.fill_(value)
            model[1].running_mean.fill_(value)
        average.update()


def test_average_weights_steps_by_polynomial_decay(model):
    average, values = WeightAverage(model), [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    average_steps(model, average, values)
    shares = torch.tensor([math.gamma(step + DECAY) / math.gamma(step) for step in range(1, len(values) + 1)])
    expected = float(shares @ torch.tensor(values) / shares.sum())
    assert float(average.model[0].weight) == pytest.approx(expected, rel=1e-5)
    assert float(average.model[1].running_mean) == pytest.approx(expected, rel=1e-5)
    assert model[0].weight.item() == 9.0 and float(average.model[1].bias) == 0.0


def test_average_forgets_the_start(model):
    average = WeightAverage(model)
    average_steps(model, average, [100.0] * 50 + [1.0] * 150)
    assert float(average.model[0].weight) == pytest.approx(1.0, abs=0.5)


def test_average_continues_from_its_state(model):
    whole, values = WeightAverage(model), [3.0, 1.0, 4.0, 1.0]
    average_steps(model, whole, values)
    first, second = WeightAverage(model), WeightAverage(model)
    average_steps(model, first, values[:2])
    state = {"model": {k: v.clone() for k, v in first.model.state_dict().items()}, "steps": first.state_dict()["steps"]}
    second.load_state_dict(state)
    average_steps(model, second, values[2:])
    assert torch.equal(second.model[0].weight, whole.model[0].weight)
