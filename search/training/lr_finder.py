"""The learning-rate range test: train while the rate rises, and see where the loss falls fastest.

    python -m search.training.lr_finder --data DIR --recipe unet --width 4

Goes through `fit` like any other training. Knows neither Ray nor Optuna.

Source: Smith 2017, arXiv:1506.01186, section 3.3.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.data_module import DataModule, StageData
from data.dataset import DataError
from data.runtime.files import write_atomically
from data.runtime.progress import Progress, progress_bar
from models.config import ConfigError
from search.config.recipes import build_recipe
from search.config.trial import RANGE_TEST, ScheduleConfig, TrialConfig
from search.training.micro_batches import TrialOutOfMemoryError
from search.training.trainer import FitPlan, TrialDivergedError, fit

STEPS = 100
TESTED = {"adamw": (1e-5, 1.0), "sgd": (1e-4, 10.0)}  # from nothing learnt to nothing left of it
AVERAGED = 5  # steps whose mean loss says whether the test has gone too far
TOO_FAR = 4.0  # times the lowest mean so far
WINDOW = 0.25  # part of the steps that a slope is fitted to: 1.25 decades
CERTAIN = 4.0  # standard errors by which a slope must lie below 0; noise alone does that once in 80 tests
SMALLEST_PX = 32


@dataclass(frozen=True, kw_only=True)
class SteepestSlope:
    """A line through part of a curve of loss over the logarithm of the learning rate.

    Attributes:
        rates: The learning rates at its ends.
        losses: The losses at its ends.
        errors: How many standard errors its slope lies below 0.
    """

    rates: tuple[float, float]
    losses: tuple[float, float]
    errors: float

    @property
    def slope(self) -> float:
        """Change of the loss by a factor of e in the rate."""
        return (self.losses[1] - self.losses[0]) / math.log(self.rates[1] / self.rates[0])


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """What a range test found.

    Attributes:
        rates: Learning rate of each step, rising.
        losses: Loss of each step's batch.
        fall: Where the loss falls fastest; None where it does not clearly fall.
    """

    rates: list[float]
    losses: list[float]
    fall: SteepestSlope | None

    @property
    def suggestion(self) -> float | None:
        """The learning rate in the middle of the fall, or None."""
        return None if self.fall is None else math.sqrt(self.fall.rates[0] * self.fall.rates[1])


def range_test(
    config: TrialConfig,
    data: StageData,
    *,
    steps: int = STEPS,
    seed: int = 0,
    device: str = "cpu",
    limit: float | None = None,
    progress: Progress | None = None,
) -> RangeTest:
    """Train from new weights while the learning rate rises exponentially, until the loss explodes.

    Args:
        config: What to train; its learning rate and policy are not looked at.
        data: What to train on; read as often as the steps need it.
        steps: Steps of the optimizer, a few more where epochs are short.
        seed: Of weights, order and augmentation.
        device: torch device.
        limit: Seconds allowed; the rate rises faster where they are too few.
        progress: Told (steps done, steps in all).

    Raises:
        DoesNotFit: There is no memory for even one image.
    """
    low, high = TESTED[config.optim.name]
    rising = ScheduleConfig(policy=RANGE_TEST, floor=low / high)
    config = replace(config, optim=replace(config.optim, lr=high), schedule=rising)
    batch = min(config.optim.batch_size, len(data.train))
    # nothing is learnt from a validation here: one image keeps it short
    data = replace(data, train=data.train.prefix(min(steps * batch, len(data.train))), val=data.val.prefix(1))
    epochs = math.ceil(steps / (len(data.train) // batch))
    curve = _Curve(total=epochs * (len(data.train) // batch), progress=progress)
    plan = FitPlan(epochs=epochs, seed=seed, device=device)
    with suppress(_WentTooFar, TrialDivergedError):  # how a range test ends; what led there is the curve
        fit(config, data, plan, report=lambda metrics, state: None, on_step=curve.add, limit=limit)
    return RangeTest(rates=curve.rates, losses=curve.losses, fall=steepest_fall(curve.rates, curve.losses))


class _WentTooFar(Exception):  # noqa: N818 - the end of the test, not an error
    """The loss has left the valley."""


@dataclass
class _Curve:
    """Listens to the steps of `fit` and ends it when the loss has risen far above its lowest."""

    total: int
    progress: Progress | None
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    lowest: float = math.inf

    def add(self, rate: float, loss: Tensor) -> None:
        value = float(loss)
        if not math.isfinite(value):
            raise _WentTooFar
        self.rates.append(rate)
        self.losses.append(value)
        if self.progress is not None:
            self.progress(len(self.losses), self.total)
        mean = sum(self.losses[-AVERAGED:]) / len(self.losses[-AVERAGED:])
        self.lowest = min(self.lowest, mean)
        # written so that it also holds for a learnt balance, whose loss may be negative
        if mean > self.lowest + (TOO_FAR - 1.0) * abs(self.lowest):
            raise _WentTooFar


def steepest_fall(rates: Sequence[float], losses: Sequence[float]) -> SteepestSlope | None:
    """Return where the loss falls fastest over the logarithm of the rate; None where it does not clearly fall.

    Slopes are those of least-squares lines through a quarter of the steps, since single batches differ by more than
    a step changes.

    Args:
        rates: Rising.
        losses: One for each.

    Source: the "steepest gradient" of Howard and Gugger 2020, arXiv:2002.04688; the fit and its test are ours.
    """
    logs, values = np.log(np.asarray(rates)), np.asarray(losses)
    window = max(8, round(WINDOW * len(values)))
    falls = [_line(logs[i : i + window], values[i : i + window]) for i in range(len(values) - window + 1)]
    steepest = min(falls, key=lambda fall: fall.slope, default=None)
    return steepest if steepest is not None and steepest.errors > CERTAIN else None


def _line(x: np.ndarray, y: np.ndarray) -> SteepestSlope:
    """The least-squares line through points, and the standard errors by which it falls."""
    apart, spread = x - x.mean(), float(((x - x.mean()) ** 2).sum())
    slope = float(apart @ y) / spread
    residual = y - y.mean() - slope * apart
    error = math.sqrt(float(residual @ residual) / (len(y) - 2) / spread)
    ends = apart[[0, -1]] * slope + y.mean()
    return SteepestSlope(
        rates=(math.exp(x[0]), math.exp(x[-1])),
        losses=(float(ends[0]), float(ends[1])),
        errors=-slope / max(error, 1e-12),
    )


def suggested_range(suggestion: float, low: float, high: float) -> tuple[float, float]:
    """Return the range as wide as `low` to `high`, on a logarithmic scale, with `suggestion` in its middle."""
    half = math.sqrt(high / low)
    return suggestion / half, suggestion * half


def draw(test: RangeTest, path: Path, title: str) -> None:
    """Draw losses over learning rates, with the fall and the suggestion marked, as a PNG.

    Raises:
        ConfigError: It cannot be written.
    """
    import matplotlib  # half a second, and only needed here

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    axes.plot(test.rates, test.losses, ".", color="0.6", label="loss of a batch")
    means = np.convolve(test.losses, np.full(AVERAGED, 1 / AVERAGED), mode="valid")
    axes.plot(test.rates[AVERAGED // 2 :][: len(means)], means, label=f"mean of {AVERAGED}")
    if test.fall is not None and test.suggestion is not None:
        axes.plot(test.fall.rates, test.fall.losses, linewidth=2, label="steepest fall")
        axes.axvline(test.suggestion, linestyle="--", color="black", label=f"suggestion {test.suggestion:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    axes.legend()
    try:
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=100))
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error.strerror}); name another file") from error
    finally:
        pyplot.close(figure)


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(
        prog="python -m search.training.lr_finder", description="Find a learning rate for a recipe by a range test."
    )
    p.add_argument("--data", type=Path, required=True, help="data set folder")
    p.add_argument("--recipe", required=True, help="what to train, such as unet or residual")
    p.add_argument("--width", type=int, help="width of the network; by default the recipe's")
    p.add_argument("--px", type=int, default=80, help="side of the images (default %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="seed of split, weights and order (default %(default)s)")
    p.add_argument("--out", type=Path, default=Path("lr_range.png"), help="the picture (default %(default)s)")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 found, 1 the loss does not fall, 2 the user's mistake."""
    args = parser().parse_args(arguments)
    try:
        check(args)
        config = build_recipe(args.recipe, width=args.width)
        test = _test(args, config)
        draw(test, args.out, f"{args.recipe}, width {config.model.width}, {args.px} px, {config.optim.name}")
    except (ConfigError, DataError, TrialOutOfMemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    low, high = TESTED[config.optim.name]
    if test.suggestion is None:
        print(f"no learning rate from {low:g} to {high:g} clearly lowers the loss; look at {args.out}")
        return 1
    print(f"learning rate {test.suggestion:.1e} for {config.optim.name}, where the loss falls fastest; {args.out}")
    return 0


def check(args: argparse.Namespace) -> None:
    """Check what argparse cannot.

    Raises:
        ConfigError: A number out of range, or no folder for the picture.
    """
    if args.px < SMALLEST_PX:
        raise ConfigError(f"--px {args.px}: the side is at least {SMALLEST_PX} pixels")
    if args.seed < 0:
        raise ConfigError(f"--seed {args.seed}: must not be negative")
    if args.out.is_dir() or not args.out.parent.is_dir():
        raise ConfigError(f"--out {args.out}: give a file in a folder that exists")


def _test(args: argparse.Namespace, config: TrialConfig) -> RangeTest:
    data_module = DataModule(args.data, seed=args.seed)
    data = data_module.stage_data(fraction=1.0, px=args.px, max_images=STEPS * config.optim.batch_size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with progress_bar("range test") as progress:
        return range_test(config, data, seed=args.seed, device=device, progress=progress)


if __name__ == "__main__":
    sys.exit(main())
