"""Find a learning rate for a recipe by a range test: print a suggestion and plot the losses.

python -m search.training.lr_finder --data DIR --recipe unet --width 4
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data.data_module import DataModule
from data.dataset import DataError
from data.runtime import cli
from data.runtime.files import write_atomically
from data.runtime.progress import progress_bar
from models.config import ConfigError
from search.config.recipes import build_recipe
from search.training.micro_batches import TrialOutOfMemoryError
from search.training.range_test import AVERAGED_STEPS, STEPS, TEST_RANGES, RangeTest, run_range_test

SMALLEST_PX = 32


def plot_range_test(test: RangeTest, path: Path, title: str) -> None:
    """Plot losses over learning rates as a PNG, with the steepest slope and the suggestion marked.

    Raises:
        ConfigError: The file cannot be written.
    """
    from matplotlib.figure import Figure  # half a second, and only needed here

    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    axes.plot(test.rates, test.losses, ".", color="0.6", label="loss of a batch")
    means = np.convolve(test.losses, np.full(AVERAGED_STEPS, 1 / AVERAGED_STEPS), mode="valid")
    axes.plot(test.rates[AVERAGED_STEPS // 2 :][: len(means)], means, label=f"mean of {AVERAGED_STEPS}")
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
    p = argparse.ArgumentParser(
        prog="python -m search.training.lr_finder", description="Find a learning rate for a recipe by a range test."
    )
    p.add_argument("--data", type=Path, required=True, help="data set folder")
    p.add_argument("--recipe", required=True, help="recipe to train, such as unet or residual")
    p.add_argument("--width", type=int, help="width of the network (default: the recipe's)")
    p.add_argument("--px", type=int, default=80, help="side of the images (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="seed of split, weights and order (default: %(default)s)")
    p.add_argument("--out", type=Path, default=Path("lr_range.png"), help="plot to write (default: %(default)s)")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 found, 1 the loss does not clearly fall, 2 a user error."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _find(args), ConfigError, DataError, TrialOutOfMemoryError)


def _find(args: argparse.Namespace) -> int:
    _check(args)
    config = build_recipe(args.recipe, width=args.width)
    data = DataModule(args.data, seed=args.seed).stage_data(
        fraction=1.0, px=args.px, max_images=STEPS * config.optim.batch_size
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


def _check(args: argparse.Namespace) -> None:
    if args.px < SMALLEST_PX:
        raise ConfigError(f"--px {args.px}: the side is at least {SMALLEST_PX} pixels")
    if args.seed < 0:
        raise ConfigError(f"--seed {args.seed}: must not be negative")
    if args.out.is_dir() or not args.out.parent.is_dir():
        raise ConfigError(f"--out {args.out}: give a file in a folder that exists")


if __name__ == "__main__":
    sys.exit(main())
