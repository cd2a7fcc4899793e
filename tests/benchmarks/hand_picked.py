"""The simplest baseline of a search: one network chosen by hand, trained for the whole budget at one size.

    python -m tests.benchmarks.hand_picked --data DIR --budget 5m

Neither a search nor Ray is used: the packed data, the training loop and the score are those of a run, on all cores.
"""

import time

BEGAN = time.monotonic()  # before the heavy imports: the budget includes them

import argparse  # noqa: E402
import json  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from data.data_module import DataModule  # noqa: E402
from search.config.budget import parse_budget  # noqa: E402
from search.config.trial import TrialConfig  # noqa: E402
from search.training.trainer import FitPlan, fit  # noqa: E402

EPOCHS = 10_000  # more than the time limit allows
METRICS = ("score", "iou", "rmse_depth", "images_seen", "fit_s")


def make_config(width: int, stem_stride: int) -> TrialConfig:
    """Return a usual first choice: a UNet, AdamW, one cycle, flips, BCE + Dice and L1 + SSIM."""
    return TrialConfig.from_dict(
        {
            "model": {"arch": "unet", "width": width, "stem_stride": stem_stride},
            "optim": {"lr": 5e-3, "batch_size": 16},
            "schedule": {"policy": "one_cycle"},
        }
    )


def main() -> None:
    """Train, and print the metrics as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data set folder")
    parser.add_argument("--budget", required=True, help="wall time, such as 5m")
    parser.add_argument("--width", type=int, default=8, help="width of the UNet (default 8)")
    parser.add_argument("--stem-stride", type=int, default=1, help="stem stride of the UNet: 1, 2 or 4 (default 1)")
    parser.add_argument("--px", type=int, default=160, help="side of the images (default 160)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    args = parser.parse_args()
    wall_s = parse_budget(args.budget).wall_s
    if wall_s is None:
        parser.error("--budget must be a wall time, such as 5m")
    data_module = DataModule(args.data, seed=args.seed)
    data_module.stage_data(fraction=0.1, px=80)  # fixes sigma at the first stage, as in a run
    reports: list[dict[str, float]] = []
    fit(
        make_config(args.width, args.stem_stride),
        data_module.stage_data(fraction=1.0, px=args.px),
        FitPlan(epochs=EPOCHS, seed=args.seed, device="cuda" if torch.cuda.is_available() else "cpu"),
        report=lambda metrics, state: reports.append(metrics),
        limit=wall_s - (time.monotonic() - BEGAN),
    )
    last = reports[-1]
    kept = {name: round(last[name], 4) for name in METRICS if name in last}
    print(json.dumps({**kept, "images_per_s": round(last["images_seen"] / last["fit_s"], 1)}))


if __name__ == "__main__":
    main()
