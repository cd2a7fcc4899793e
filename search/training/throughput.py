"""How fast one worker trains, measured in half a second."""

import time

import torch

from data.loading.loaders import Batch
from models.build import build_model
from models.cost import count_macs
from models.losses.loss import LossConfig, build_loss
from models.target import Target
from models.unet import UNetConfig
from search.training.micro_batches import uses_bfloat16

PX, BATCH = 80, 8
STEPS, SECONDS = 8, 0.5  # at least so many steps, and so long: what disturbs a machine comes and goes


def training_speed(threads: int, device: str) -> float:
    """Return trained multiply-adds a second (of the forward pass) of a small network on random images.

    Args:
        threads: Processor threads to use.
        device: torch device.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    model = build_model(UNetConfig(width=4, stem_stride=2)).on(device)
    loss = build_loss(LossConfig(depth_structural="none"), PX).to(device)
    batch = _random_batch().to(torch.device(device))
    fastest, steps, end = float("inf"), 0, time.perf_counter() + SECONDS
    autocast = uses_bfloat16("auto", torch.device(device))
    while steps < STEPS or time.perf_counter() < end:
        begin = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            prediction = model(batch.image)
        total = loss(prediction.float(), batch.target).total
        total.backward()
        total.item()  # waits for a GPU
        fastest, steps = min(fastest, time.perf_counter() - begin), steps + 1
    torch.set_num_threads(before)
    return count_macs(model.config, PX) * BATCH / fastest


def _random_batch() -> Batch:
    plane = torch.rand(BATCH, 1, PX, PX)
    known = torch.ones(BATCH, dtype=torch.bool)
    return Batch(torch.rand(BATCH, 3, PX, PX), Target(plane, plane, plane > 0, known))
