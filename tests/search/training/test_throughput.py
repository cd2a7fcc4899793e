"""Throughput of one worker in multiply-adds per second; steps disturbed by other load do not count."""

from types import SimpleNamespace

import pytest
import torch

from search.training import throughput


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
    def measure(seconds):
        steps = Steps(seconds)
        monkeypatch.setattr(throughput, "build_loss", lambda *_: steps)
        monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: steps.now))
        return throughput.measure_throughput(1, "cpu")

    return measure


def test_measurement_leaves_the_threads_as_they_were():
    threads = torch.get_num_threads()
    assert throughput.measure_throughput(1, "cpu") > 1e6
    assert torch.get_num_threads() == threads


def test_fastest_step_counts_of_eight_at_the_least(measured):
    assert measured([0.2] * 7 + [0.1]) == pytest.approx(2 * measured([0.2] * 8))


def test_fastest_step_is_looked_for_half_a_second(measured):
    assert measured([0.02] * 24 + [0.01, 0.02]) == pytest.approx(2 * measured([0.02] * 26))
