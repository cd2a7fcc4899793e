"""Compare search methods at equal budget: every method makes one whole run of search/run.py for each seed.

    one-look compare --data DIR --budget 5m --seeds 5 --methods default,starter,random --out DIR

The seed decides which backgrounds are held out, and does so for all methods alike. The runs are made one after another,
and methods alternate so that a slow period of the machine affects all of them; existing runs are not repeated. All
models are then measured on all validation and test images at one size, and with `--judge` on another data set. The
command writes table.md, runs.csv and best_over_time (.png and .svg), and keeps every run folder.
"""

import argparse
import sys
from pathlib import Path

from analysis import AnalysisError
from analysis.compare.methods import DEFAULT_METHODS, METHODS, Comparison
from data.dataset import DataError
from data.runtime import cli
from data.runtime.flags import parse_whole
from search.config.budget import parse_budget


def _parse_methods(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in METHODS:
            raise argparse.ArgumentTypeError(f"no method {name!r}; choose from {', '.join(METHODS)}")
    return names


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    p = cli.Parser("one-look compare", __doc__.splitlines()[0])
    p.add_argument("--data", type=Path, required=True, help="data set folder")
    p.add_argument("--budget", type=parse_budget, required=True, help="budget of each run, such as 3m")
    p.add_argument("--seeds", type=parse_whole(1), default=3, help="runs of each method (default 3)")
    known, default = ",".join(METHODS), ",".join(DEFAULT_METHODS)
    p.add_argument(
        "--methods",
        type=_parse_methods,
        default=list(DEFAULT_METHODS),
        help=f"comma-separated, of {known} (default {default})",
    )
    p.add_argument(
        "--judge", type=Path, metavar="DIR", help="also measure all models on a data set that none was trained on"
    )
    p.add_argument("--out", type=Path, default=Path("comparison"), help="folder of all runs (default comparison)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = build_parser().parse_args(arguments)
    # after --help: importing torch, pandas and matplotlib takes seconds
    from analysis.compare.compare import compare

    return cli.run(lambda: print(compare(Comparison(**vars(args))), end=""), AnalysisError, DataError)


if __name__ == "__main__":
    sys.exit(main())
