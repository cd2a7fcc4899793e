"""Measure training steps on a GPU in at most six minutes, or in one on a CPU; needs neither Ray nor a data set.

    python -m tests.benchmarks.gpu_step [--out FILE.json]

It prints a line for each measurement: losses of 50 steps compared with those on the CPU; multiply-adds per second and
the seconds to start an operation; images per second of `fit`'s step and of a bare step on a batch that stays on the
device, with the peak memory; the same for several copies at once. What the time does not allow is left out.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.loading.augment import AugmentConfig
from data.loading.device_loader import DeviceLoader
from data.loading.loaders import Batch, Loader
from data.pack.pack import Pack, RawBatch
from data.pack.stats import Stats
from models.architectures.registry import build_model
from models.cost import find_device
from models.losses.loss import build_loss
from search.config.recipes import build_recipe
from search.config.trial import TrialConfig
from search.training.micro_batches import MicroBatchRunner, uses_bfloat16
from search.training.optimizer import build_optimizer
from search.training.throughput import measure_gpu_mib, measure_throughput
from search.tuning.allocation import choose_trials_per_gpu

NETWORKS = ("unet", "quick_efficientnet", "quick_residual")  # the study's UNet has width 16
GRIDS = {  # sides of the images, sizes of the batches, copies, seconds of each measurement and of all
    "cuda": ((80, 160), (16, 80, 256), (1, 4, 8, 16), 2.0, 320.0),
    "cpu": ((80,), (4, 16), (1, 2), 0.5, 50.0),
}
AUGMENT = AugmentConfig(flip=0.5, copy_paste=0.5, hue_saturation=0.5)  # those of the pretrained recipes
STATS = Stats(512, (0.5,) * 3, (0.25,) * 3, 0.1, 0.3, 0.4, 0.2, 1.0)
WARM_UP, PARITY_STEPS = 3, 50


class DrawnPack(Pack):
    """Discs in front of noise, kept in memory instead of files."""

    def __init__(self, px: int, count: int = 512) -> None:
        self.px, self.count = px, count
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:px, :px].astype(np.float32) / px
        places, sides = rng.random((count, 2, 1, 1), np.float32), 0.1 + 0.1 * rng.random((count, 1, 1), np.float32)
        disc = (x - places[:, 0]) ** 2 + (y - places[:, 1]) ** 2 < sides**2
        noise = rng.integers(0, 160, (count, px, px, 3), np.uint8)
        depth = np.where(disc, 50_000, 1 + (40_000 * y).astype(np.int64)).astype(np.uint16)
        image, mask = np.where(disc[..., None], 220, noise).astype(np.uint8), 255 * disc.astype(np.uint8)
        self.arrays = (image, mask, depth, np.ones(count, bool))

    @property
    def record_bytes(self) -> int:
        """Bytes of one sample."""
        return 6 * self.px**2

    def gather(self, indices: np.ndarray) -> RawBatch:
        """Copy samples."""
        return RawBatch(*(array[indices] for array in self.arrays))


class Step:
    """The training step of `fit`: forward, loss, backward, clipping and optimizer."""

    def __init__(self, config: TrialConfig, px: int, device: torch.device, *, precision: str = "auto") -> None:
        torch.manual_seed(0)
        self.model = build_model(config.model).move_to(device).train()
        self.loss = build_loss(config.loss, px).to(device)
        bfloat16 = uses_bfloat16(precision, device)
        self.runner = MicroBatchRunner(self.model, bfloat16=bfloat16, micro_batch_size=None)
        self.optimizer = build_optimizer(config.optim, [self.model, self.loss])

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Train on a batch and return its loss, still on its device."""
        total = self.runner.backward(batch, self.loss)["total"]
        torch.nn.utils.clip_grad_norm_(self.runner.parameters, 1.0)
        self.optimizer.step()
        return total


def yield_batches(loader: Loader) -> Iterator[Batch]:
    """Yield the batches of one epoch after the other."""
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


def compare_losses(name: str, device: torch.device, *, steps: int) -> dict[str, Any]:
    """Train on the CPU and on the device from the same weights and batches, in float32; return both losses."""
    config, losses = build_recipe(name, width=4), []
    for where, kind in ((torch.device("cpu"), Loader), (device, DeviceLoader)):
        step = Step(config, 80, where, precision="float32")
        options = {"device": where} if kind is DeviceLoader else {}
        loader = kind(DrawnPack(80, 64), batch_size=8, stats=STATS, shuffle=True, drop_last=True, **options)
        batches = yield_batches(loader)
        losses.append([step(next(batches).to(where)).item() for _ in range(steps)])
    difference = [abs(a - b) / abs(a) for a, b in zip(*losses, strict=True)]
    return {"measured": "parity", "network": name, "first": difference[0], "largest": max(difference),
            "loss_cpu": losses[0][-1], "loss_device": losses[1][-1]}  # fmt: skip


def measure_rates(name: str, px: int, batch_size: int, seconds: float) -> dict[str, Any]:
    """Return images per second of a bare step and of one with new, augmented batches, and the peak memory in MiB."""
    device, config = find_device(), build_recipe(name)
    order: dict[str, Any] = {"batch_size": batch_size, "stats": STATS, "shuffle": True, "drop_last": True}
    _start_peak(device)
    batches = yield_batches(DeviceLoader(DrawnPack(px), device=device, augment=AUGMENT, **order))
    step, kept = Step(config, px, device), next(batches).to(device)
    found: dict[str, Any] = {"measured": "rate", "network": name, "px": px, "batch": batch_size}
    for kind, source in (("bare", iter(lambda: kept, None)), ("fit", batches)):
        for _ in range(WARM_UP):
            step(next(source).to(device))
        _wait(device)
        begin, steps = time.perf_counter(), 0
        while steps < WARM_UP or time.perf_counter() - begin < seconds:
            step(next(source).to(device))
            steps += 1
            if steps % 10 == 0:
                _wait(device)  # the host must not run ahead of what is measured
        _wait(device)
        found[kind] = round(steps * batch_size / (time.perf_counter() - begin), 1)
    return {**found, "peak_mib": round(_read_peak(device))}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _start_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _read_peak(device: torch.device) -> float:
    """Return the peak memory of a GPU's tensors, or that of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure_copies(name: str, copies: int, batch_size: int, seconds: float) -> dict[str, Any]:
    """Return images per second of several processes together, each with its share of the memory."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(copies, spawn, initializer=_prepare, initargs=(copies,)) as pool:
        list(pool.map(_measure_copy, [(name, batch_size, 0.1)] * copies))  # all have started
        rates = list(pool.map(_measure_copy, [(name, batch_size, seconds)] * copies))
    total = {kind: round(sum(rate[kind] for rate in rates), 1) for kind in ("bare", "fit")}
    return {"measured": "copies", "network": name, "px": 80, "batch": batch_size, "copies": copies, **total}


def _prepare(copies: int) -> None:
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(0.9 / copies)


def _measure_copy(job: tuple[str, int, float]) -> dict[str, Any]:
    name, batch_size, seconds = job
    return measure_rates(name, 80, batch_size, seconds)


def measure_all(seconds: float | None = None) -> Iterator[dict[str, Any]]:
    """Yield the measurements in the order of their worth, until the time is over."""
    device = find_device()
    sides, sizes, counts, each_s, all_s = GRIDS[device.type]
    end = time.monotonic() + (seconds or all_s)
    yield {"measured": "device", "name": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
           "torch": torch.__version__}  # fmt: skip
    yield compare_losses("quick_residual", device, steps=PARITY_STEPS)
    found = measure_throughput(1, device.type)
    yield {"measured": "throughput", "macs_per_s": found.macs_per_s, "launch_s": found.launch_s}
    if device.type == "cuda":
        yield {"measured": "share", "trials_per_gpu": choose_trials_per_gpu(found, measure_gpu_mib())}
    cells = [(name, px, size) for px in sides for size in sizes for name in NETWORKS]
    for name, px, size in cells:
        if time.monotonic() > end - len(counts) * 12 * each_s:
            break
        yield measure_rates(name, px, size, each_s)
    for count in counts:
        if time.monotonic() > end:
            break
        yield measure_copies("quick_residual", count, sizes[0], 2 * each_s)


def main() -> None:
    """Print each measurement and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="time for all (default: 320 on a GPU, 50 on a CPU)")
    parser.add_argument("--out", type=Path, help="file for the measurements as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for line in measure_all(args.seconds):
        lines.append(line)
        shown = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in line.items())
        print("  ".join(shown), flush=True)
        if args.out:
            args.out.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
