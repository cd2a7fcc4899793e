"""Throughput of a core: arithmetic and the start of operations; steps disturbed by other load do not count."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.architectures.registry import build_model
from models.cost import LAUNCHES, LAYER_LAUNCHES, count_macs, probe
from models.losses.loss import build_loss
from models.losses.registry import LossConfig
from search.config.recipes import NETWORKS, build_recipe
from search.training import throughput
from search.training.micro_batches import MicroBatchRunner
from search.training.optimizer import build_optimizer

VIEWS = {
    "view", "_unsafe_view", "t", "transpose", "permute", "slice", "select", "expand", "alias", "detach", "unsqueeze",
    "squeeze", "split", "tensor_split", "as_strided", "empty", "empty_like", "empty_strided", "new_empty",
    "new_empty_strided",
}  # fmt: skip
CONFIG, FEW, MANY = throughput.LOADS["cpu"]
OPERATIONS = LAUNCHES + LAYER_LAUNCHES * probe(CONFIG).layers


class Steps:
    """A loss whose steps take scripted seconds, and the clock that shows them."""

    def __init__(self, seconds):
        self.seconds, self.now = iter(seconds), 0.0

    def to(self, device):
        return self

    def zero_grad(self):
        pass

    def __call__(self, prediction, *truth):
        self.now += next(self.seconds)
        return SimpleNamespace(total=prediction.sum(), parts={})


@pytest.fixture
def measured(monkeypatch):
    """Return a function that measures pairs of steps of so many seconds."""

    def measure(pairs):
        steps = Steps([seconds for pair in pairs for seconds in pair])
        monkeypatch.setattr(throughput, "build_loss", lambda *_: steps)
        monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: steps.now))
        found = throughput.measure_throughput(1, "cpu")
        return pytest.approx((found.macs_per_s, found.launch_s))

    return measure


def test_measurement_leaves_the_threads_as_they_were():
    threads = torch.get_num_threads()
    assert throughput.measure_throughput(1, "cpu").macs_per_s > 1e6
    assert torch.get_num_threads() == threads


def solve(few_s, many_s):
    image_s = (many_s - few_s) / (MANY - FEW)
    return count_macs(CONFIG, 80) / image_s, (few_s - FEW * image_s) / OPERATIONS


def test_two_sizes_of_batch_tell_arithmetic_from_the_start_of_operations(measured):
    image_s, launch_s = 0.004, 2e-5
    found = measured([[OPERATIONS * launch_s + size * image_s for size in (FEW, MANY)]] * 20)
    assert found == (count_macs(CONFIG, 80) / image_s, launch_s)


def test_fastest_pair_of_steps_counts_of_eight_at_the_least(measured):
    assert measured([[0.1, 0.2]] * 7 + [[0.03, 0.1]]) == solve(0.03, 0.1)


def test_fastest_pair_is_looked_for_half_a_second(measured):
    assert measured([[0.01, 0.02]] * 14 + [[0.003, 0.01], [0.01, 0.02]] * 3) == solve(0.003, 0.01)


def test_times_that_contradict_each_other_are_all_arithmetic(measured):
    assert measured([[0.2, 0.1]] * 8) == (count_macs(CONFIG, 80) * MANY / 0.1, 0.0)


class Operations(TorchDispatchMode):
    """Counts operations but views, which start nothing."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_of_a_step_are_estimated_by_the_layers(name):
    config = build_recipe(name)
    model, loss = build_model(config.model), build_loss(LossConfig(depth_structural="none"), 80)
    runner = MicroBatchRunner(model, bfloat16=True, micro_batch_size=None)
    optimizer = build_optimizer(config.optim, [model, loss])
    batch = throughput._build_random_batch(2)
    runner.backward(batch, loss)
    optimizer.step()
    with Operations() as operations:
        runner.backward(batch, loss)
        optimizer.step()
    assert operations.count == pytest.approx(LAUNCHES + LAYER_LAUNCHES * probe(config.model).layers, rel=0.5)
