"""Pack the splits of a data set folder: python -m data.pack DIR."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.dataset import DataError
from data.pack.pack import pack_split
from data.pack.stats import Stats
from data.reading.folders import resolve_roles
from data.reading.layout import read_dataset
from data.reading.splits import split_by_background
from data.runtime import cli
from data.runtime.files import find_cache_folder
from data.runtime.flags import add_meaning_flags, add_role_flags, parse_whole, read_meaning_flags, read_role_flags
from data.runtime.process import count_cores
from data.runtime.progress import progress_bar


def main(argv: Sequence[str] | None = None) -> int:
    """Pack a data set from the command line, print sizes or statistics of its splits, and return the exit code."""
    parser = cli.Parser("python -m data.pack", "Pack a data set folder.")
    parser.add_argument("folder", type=Path, help="data set folder")
    parser.add_argument(
        "--px", type=parse_whole(1), default=160, help="side in pixels (default: 160, as in the final stage)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split, as of the run (default: 0)")
    parser.add_argument("--workers", type=int, default=count_cores(), help="threads (default: all cores)")
    parser.add_argument("--stats", action="store_true", help="print mean and std of each split")
    add_role_flags(parser)
    add_meaning_flags(parser)
    args = parser.parse_args(argv)
    return cli.run(lambda: _pack_splits(args), DataError, OSError)


def _pack_splits(args: argparse.Namespace) -> None:
    roles = resolve_roles(args.folder, read_role_flags(args))
    dataset = read_dataset(args.folder, roles=roles, fields=read_meaning_flags(args))
    dataset.check_meaning()
    for unusable in dataset.unusable:
        print(cli.to_printable(f"left out: {unusable.message}"), file=sys.stderr)
    for name, triplets in split_by_background(dataset, seed=args.seed).by_name().items():
        if not triplets:
            continue
        with progress_bar(f"packing {name}") as progress:
            pack = pack_split(
                dataset, triplets, args.px, cache=find_cache_folder(), workers=args.workers, progress=progress
            )
        print(_format_stats(name, pack.stats) if args.stats else f"{name}: {len(pack)} samples in {pack.folder}")
        for _, message in pack.faults.values():
            print(cli.to_printable(f"left out: {message}"), file=sys.stderr)


def _format_stats(name: str, stats: Stats) -> str:
    labels = ("image red", "image green", "image blue", "mask", "depth")
    means = (*stats.image_mean, stats.mask_mean, stats.depth_mean)
    stds = (*stats.image_std, stats.mask_std, stats.depth_std)
    rows = (row for row in zip(labels, means, stds, strict=True) if row[1] is not None)
    lines = [f"  {label:<12}{mean:8.4f}{std:8.4f}" for label, mean, std in rows]
    known = f"mask known for {stats.mask_known:.1%} of them, depth for {stats.depth_known:.1%} of the pixels"
    head = f"{name}: {stats.images} samples, {known}"
    return "\n".join([head, f"  {'':<12}{'mean':>8}{'std':>8}", *lines])


if __name__ == "__main__":
    sys.exit(main())
