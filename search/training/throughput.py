"""Measure the training speed of a core or a GPU in half a second: arithmetic, and the time to start an operation."""

import time

import torch

from data.loading.loaders import Batch
from models.architectures.registry import build_model
from models.architectures.unet import UNetConfig
from models.cost import LAUNCHES, LAYER_LAUNCHES, Throughput, count_macs, probe
from models.losses.loss import build_loss
from models.losses.registry import LossConfig
from models.target import Target
from search.training.micro_batches import MicroBatchRunner, uses_bfloat16

PX = 80
MIN_STEPS, MIN_SECONDS = 8, 0.5  # the fastest pair of steps counts, because the load of other programs varies
# Network, a batch size at which starting operations takes most of the time, and one that keeps the device busy.
LOADS = {"cpu": (UNetConfig(width=4, stem_stride=2), 1, 8), "cuda": (UNetConfig(width=16), 8, 256)}


def measure_throughput(threads: int, device: str) -> Throughput:
    """Return the throughput of `threads` cores, or of the GPU, from training on random batches of two sizes."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    config, few, many = LOADS[device]
    few_s, many_s = min(_time_steps(torch.device(device)), key=sum)
    torch.set_num_threads(threads_before)
    if device == "cuda":
        torch.cuda.empty_cache()  # this process stays alive while trials need the memory
    image_s = (many_s - few_s) / (many - few) if many_s > few_s else many_s / many
    launches_s = max(many_s - many * image_s, 0.0)
    launches = LAUNCHES + LAYER_LAUNCHES * probe(config).layers
    return Throughput(count_macs(config, PX) / image_s, launches_s / launches)


def _time_steps(device: torch.device) -> list[list[float]]:
    """Return pairs of seconds, for a step on a small and one on a large batch."""
    config, *sizes = LOADS[device.type]
    model = build_model(config).move_to(device)
    loss = build_loss(LossConfig(depth_structural="none"), PX).to(device)
    runner = MicroBatchRunner(model, bfloat16=uses_bfloat16("auto", device), micro_batch_size=None)
    batches = [_build_random_batch(size).to(device) for size in sizes]
    pairs, end = list[list[float]](), time.perf_counter() + MIN_SECONDS
    while len(pairs) < MIN_STEPS or time.perf_counter() < end:
        times = [time.perf_counter()]
        for batch in batches:
            runner.backward(batch, loss)["total"].item()  # waits for a GPU
            times.append(time.perf_counter())
        pairs.append([times[1] - times[0], times[2] - times[1]])
    return pairs


def measure_gpu_mib() -> float:
    """Return the memory of the GPU in MiB."""
    return torch.cuda.mem_get_info()[1] / 2**20


def _build_random_batch(size: int) -> Batch:
    plane = torch.rand(size, 1, PX, PX)
    known = torch.ones(size, dtype=torch.bool)
    return Batch(torch.rand(size, 3, PX, PX), Target(plane, plane, plane > 0, known))
