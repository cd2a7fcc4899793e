"""Measure how fast one worker trains, in half a second."""

import time

import torch

from data.loading.loaders import Batch
from models.architectures.unet import UNetConfig
from models.build import build_model
from models.cost import count_macs
from models.losses.loss import LossConfig, build_loss
from models.target import Target
from search.training.micro_batches import MicroBatchRunner, uses_bfloat16

PX, BATCH_SIZE = 80, 8
MIN_STEPS, MIN_SECONDS = 8, 0.5  # the fastest of these steps counts, since other load on a machine comes and goes


def measure_throughput(threads: int, device: str) -> float:
    """Return multiply-adds per second (of the forward pass) at which a small network trains on random images."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    model = build_model(UNetConfig(width=4, stem_stride=2)).on(device)
    loss = build_loss(LossConfig(depth_structural="none"), PX).to(device)
    batch = _build_random_batch().to(torch.device(device))
    runner = MicroBatchRunner(model, bfloat16=uses_bfloat16("auto", torch.device(device)), micro_batch_size=None)
    fastest_s, steps, end = float("inf"), 0, time.perf_counter() + MIN_SECONDS
    while steps < MIN_STEPS or time.perf_counter() < end:
        begin = time.perf_counter()
        runner.backward(batch, loss)["total"].item()  # waits for a GPU
        fastest_s, steps = min(fastest_s, time.perf_counter() - begin), steps + 1
    torch.set_num_threads(threads_before)
    return count_macs(model.config, PX) * BATCH_SIZE / fastest_s


def _build_random_batch() -> Batch:
    plane = torch.rand(BATCH_SIZE, 1, PX, PX)
    known = torch.ones(BATCH_SIZE, dtype=torch.bool)
    return Batch(torch.rand(BATCH_SIZE, 3, PX, PX), Target(plane, plane, plane > 0, known))
