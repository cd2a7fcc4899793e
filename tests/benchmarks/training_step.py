"""Measure the overhead of the training loop: images/s of `fit` against a bare step on tensors in memory.

    python -m tests.benchmarks.training_step --data DIR

Both use the same network, batch and precision, and alternate, so that a drifting machine favours neither.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from data.data_module import DataModule, StageData
from data.loading.loaders import Batch, Loader
from models.architectures.registry import build_model
from models.losses.loss import build_loss
from search.config.trial import TrialConfig
from search.training.micro_batches import uses_bfloat16
from search.training.optimizer import build_optimizer
from search.training.trainer import FitPlan, fit

CONFIG: dict[str, dict[str, Any]] = {
    "model": {"arch": "unet", "width": 8, "stem_stride": 2},
    "optim": {"batch_size": 16},
}


def measure_bare_step(config: TrialConfig, data: StageData, steps: int) -> float:
    """Measure images/s of forward, loss, backward and step on one batch in memory."""
    model, loss = build_model(config.model).move_to("cpu").train(), build_loss(config.loss, data.train.px)
    optimizer = build_optimizer(config.optim, [model, loss])
    batch: Batch = next(Loader(data.train, batch_size=config.optim.batch_size, stats=data.stats).epoch(0))
    autocast = uses_bfloat16("auto", torch.device("cpu"))
    begin = time.perf_counter()
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            prediction = model(batch.image)
        total = loss(prediction.float(), batch.target).total
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
    return steps * len(batch) / (time.perf_counter() - begin)


def measure_fit(config: TrialConfig, data: StageData) -> float:
    """Measure images/s of one epoch of `fit` without validation."""
    reports: list[dict[str, float]] = []
    fit(config, data, FitPlan(epochs=1), report=lambda metrics, state: reports.append(metrics))
    return reports[-1]["images_seen"] / reports[-1]["train_s"]


def main() -> None:
    """Print the median of both rates and of their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data set folder")
    parser.add_argument("--px", type=int, default=80, help="side of the images (default 80)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = DataModule(args.data, seed=0).load_stage_data(fraction=0.4, px=args.px)
    config = TrialConfig.from_dict(CONFIG)
    steps = len(data.train) // config.optim.batch_size
    pairs = [(measure_fit(config, data), measure_bare_step(config, data, steps)) for _ in range(args.rounds + 1)][1:]
    fit_rate, bare_rate = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"fit {fit_rate:.1f} images/s, bare step {bare_rate:.1f} images/s, ratio {ratio:.3f} ({args.px} px)")


if __name__ == "__main__":
    main()
