"""Draw the built-in data set: python -m data.scenes --out DIR."""

import argparse
import sys
from pathlib import Path

from data.dataset import DataError
from data.runtime import cli
from data.runtime.flags import parse_whole
from data.runtime.progress import progress_bar
from data.scenes.scenes import PER_BACKGROUND, make_scenes


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 2 after an error of the user."""
    parser = cli.Parser("python -m data.scenes", "Draw the built-in data set of scenes.")
    add, whole = parser.add_argument, parse_whole()
    add("--out", type=Path, required=True, help="folder to make")
    add("--count", type=whole, default=2000, help="number of scenes (default: %(default)s)")
    add("--per-background", type=whole, default=PER_BACKGROUND, help="scenes per background (default: %(default)s)")
    add("--seed", type=whole, default=0, help="the same seed draws the same images (default: %(default)s)")
    add("--size", type=whole, default=224, help="side in pixels (default: %(default)s)")
    add("--workers", type=whole, help="processes (default: one per core)")
    args = parser.parse_args(arguments)
    return cli.run(lambda: _draw(args), DataError, OSError)


def _draw(args: argparse.Namespace) -> None:
    options = {"per_background": args.per_background, "seed": args.seed, "px": args.size}
    with progress_bar("scenes") as progress:
        make_scenes(args.out, args.count, workers=args.workers, progress=progress, **options)
    print(f"{args.count} scenes in {args.out}")


if __name__ == "__main__":
    sys.exit(main())
