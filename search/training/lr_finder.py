"""Learning-rate range test: train while the rate rises and find where the loss falls fastest.

    python -m search.training.lr_finder --data DIR --recipe unet --width 4

Source: Smith 2017, arXiv:1506.01186, section 3.3.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.data_module import DataModule, StageData
from data.dataset import DataError
from data.runtime import cli
from data.runtime.files import write_atomically
from data.runtime.flags import parse_whole
from data.runtime.progress import Progress, no_progress, progress_bar
from models.config import ConfigError
from models.score import Score
from search.config.recipes import build_recipe
from search.config.trial import TrialConfig
from search.training.lr_schedules import exponential
from search.training.micro_batches import TrialOutOfMemoryError
from search.training.trainer import FitPlan, TrialDivergedError, fit

RANGE_TEST_STEPS = 100
TEST_RANGES = {"adamw": (1e-5, 1.0), "sgd": (1e-4, 10.0)}  # from rates that learn nothing to rates that diverge
AVERAGED_STEPS = 5  # steps whose mean loss decides whether the loss has exploded
EXPLODED = 4.0  # multiple of the lowest mean so far above which the loss counts as exploded
WINDOW = 0.25  # fraction of the steps to which a line is fitted: 1.25 decades
MIN_STANDARD_ERRORS = 4.0  # required distance of the slope below 0; noise alone reaches it once in 80 tests


@dataclass(frozen=True, kw_only=True)
class SteepestSlope:
    """The line fitted where the loss falls fastest over the logarithm of the learning rate."""

    rates: tuple[float, float]  # learning rates at its ends
    losses: tuple[float, float]  # losses at its ends
    slope: float  # change of the loss when the learning rate grows by a factor of e
    standard_errors: float  # distance of the slope below 0


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """The result of a range test."""

    rates: list[float]  # learning rate of each step, rising
    losses: list[float]  # loss of each step's batch
    steepest: SteepestSlope | None  # the line where the loss falls fastest; None if it does not clearly fall

    @property
    def suggestion(self) -> float | None:
        """The learning rate in the middle of the steepest slope, or None."""
        return None if self.steepest is None else math.sqrt(self.steepest.rates[0] * self.steepest.rates[1])


class _LossExplodedError(Exception):
    """The loss has risen far above its lowest value, which ends a range test."""


@dataclass
class _Curve:
    """Records the steps of `fit` and ends it when the loss explodes."""

    total: int
    progress: Progress
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    lowest: float = math.inf

    def add(self, rate: float, loss: Tensor) -> None:
        value = float(loss)
        if not math.isfinite(value):
            raise _LossExplodedError
        self.rates.append(rate)
        self.losses.append(value)
        self.progress(len(self.losses), self.total)
        mean = sum(self.losses[-AVERAGED_STEPS:]) / len(self.losses[-AVERAGED_STEPS:])
        self.lowest = min(self.lowest, mean)
        # abs: with a learnt balance the loss may be negative
        if mean > self.lowest + (EXPLODED - 1.0) * abs(self.lowest):
            raise _LossExplodedError


def run_range_test(
    config: TrialConfig,
    data: StageData,
    *,
    steps: int = RANGE_TEST_STEPS,
    seed: int = 0,
    device: str = "cpu",
    limit_s: float | None = None,
    progress: Progress = no_progress,
) -> RangeTest:
    """Train from new weights while the learning rate rises exponentially, until the loss explodes.

    Images are repeated if necessary, and short epochs add a few steps. If `limit_s` is too short, the rate rises
    faster. Raise TrialOutOfMemoryError if not even one image fits into memory.
    """
    low, high = TEST_RANGES[config.optim.name]
    config = replace(config, optim=replace(config.optim, lr=high))
    batch_size = min(config.optim.batch_size, len(data.train))
    # validation has no part in the test: one image keeps it short, with a score that can be computed from either label
    data = replace(data, train=data.train.prefix(min(steps * batch_size, len(data.train))), val=data.val.prefix(1))
    data = replace(data, score=Score(sigma=1.0, weights={"mae_mask": 0.5, "rmse_depth": 0.5}))
    steps_per_epoch = len(data.train) // batch_size
    plan = FitPlan(epochs=math.ceil(steps / steps_per_epoch), seed=seed, device=device)
    curve = _Curve(total=plan.epochs * steps_per_epoch, progress=progress)
    policy = partial(exponential, floor=low / high)
    with suppress(_LossExplodedError, TrialDivergedError):
        fit(config, data, plan, report=lambda *_: None, on_step=curve.add, limit_s=limit_s, policy=policy)
    return RangeTest(rates=curve.rates, losses=curve.losses, steepest=find_steepest_slope(curve.rates, curve.losses))


def find_steepest_slope(rates: Sequence[float], losses: Sequence[float]) -> SteepestSlope | None:
    """Return the line where the loss falls fastest over the logarithm of the rate; None if it does not clearly fall.

    Lines are fitted to a quarter of the steps, since losses of single batches differ by more than one step changes
    them.

    Source: the "steepest gradient" of Howard and Gugger 2020, arXiv:2002.04688, without the line fit and its test.
    """
    logs, values = np.log(np.asarray(rates)), np.asarray(losses)
    window = max(8, round(WINDOW * len(values)))
    lines = [_fit_line(logs[i : i + window], values[i : i + window]) for i in range(len(values) - window + 1)]
    steepest = min(lines, key=lambda line: line.slope, default=None)
    return steepest if steepest is not None and steepest.standard_errors > MIN_STANDARD_ERRORS else None


def _fit_line(x: np.ndarray, y: np.ndarray) -> SteepestSlope:
    from scipy import stats  # takes nearly a second to import

    line = stats.linregress(x, y)
    start, end = (float(line.intercept + line.slope * at) for at in (x[0], x[-1]))
    return SteepestSlope(
        rates=(math.exp(x[0]), math.exp(x[-1])),
        losses=(start, end),
        slope=float(line.slope),
        standard_errors=float(-line.slope / max(line.stderr, 1e-12)),
    )


def centre_range(suggestion: float, low: float, high: float) -> tuple[float, float]:
    """Return a range as wide as `low` to `high` on a logarithmic scale, with the suggestion in its middle."""
    half = math.sqrt(high / low)
    return suggestion / half, suggestion * half


def plot_range_test(test: RangeTest, path: Path, title: str) -> None:
    """Plot losses over learning rates with the steepest slope; raise ConfigError if the PNG cannot be written."""
    import pandas as pd
    from matplotlib.figure import Figure  # both imports take half a second

    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    axes.plot(test.rates, test.losses, ".", color="0.6", label="loss of a batch")
    means = pd.Series(test.losses).rolling(AVERAGED_STEPS, center=True).mean()
    axes.plot(test.rates, means, label=f"mean of {AVERAGED_STEPS}")
    if test.steepest is not None and test.suggestion is not None:
        axes.plot(test.steepest.rates, test.steepest.losses, linewidth=2, label="steepest slope")
        axes.axvline(test.suggestion, linestyle="--", color="black", label=f"suggestion {test.suggestion:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    axes.legend()
    try:
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=100))
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error.strerror}); name another file") from error


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    p = cli.Parser("python -m search.training.lr_finder", "Find a learning rate for a recipe by a range test.")
    p.add_argument("--data", type=Path, required=True, help="data set folder")
    p.add_argument("--recipe", required=True, help="recipe to train, such as unet or residual")
    p.add_argument("--width", type=int, help="width of the network (default: the recipe's)")
    px = parse_whole(32, noun="a whole number of pixels")
    p.add_argument("--px", type=px, default=80, help="side of the images (default: %(default)s)")
    seed = "seed of split, weights and order (default: %(default)s)"
    p.add_argument("--seed", type=parse_whole(high=2**32 - 1), default=0, help=seed)
    p.add_argument("--out", type=Path, default=Path("lr_range.png"), help="plot to write (default: %(default)s)")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 found, 1 the loss does not clearly fall, 2 a user error."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _find(args), ConfigError, DataError, TrialOutOfMemoryError)


def _find(args: argparse.Namespace) -> int:
    if args.out.is_dir() or not args.out.parent.is_dir():
        raise ConfigError(f"--out {args.out}: give a file in a folder that exists")
    config = build_recipe(args.recipe, width=args.width)
    data = DataModule(args.data, seed=args.seed).load_stage_data(
        fraction=1.0, px=args.px, max_images=RANGE_TEST_STEPS * config.optim.batch_size
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with progress_bar("range test") as progress:
        test = run_range_test(config, data, seed=args.seed, device=device, progress=progress)
    name = config.optim.name
    plot_range_test(test, args.out, f"{args.recipe}, width {config.model.width}, {args.px} px, {name}")
    if test.suggestion is None:
        low, high = TEST_RANGES[name]
        print(f"no learning rate from {low:g} to {high:g} clearly lowers the loss; look at {args.out}")
        return 1
    print(f"learning rate {test.suggestion:.1e} for {name}, where the loss falls fastest; {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
