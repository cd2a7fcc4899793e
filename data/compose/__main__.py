"""Make a data set of photos and cut-outs: one-look compose --backgrounds DIR --foregrounds DIR --out DIR."""

import argparse
import sys
from pathlib import Path

from data.compose.compose import write_composites
from data.compose.depth_models import cache_depth_maps, list_presets, load_depth_model
from data.compose.placement import RULES
from data.compose.plan import PER_PAIR, ComposeOptions, Plan, make_plan
from data.compose.sources import FOREGROUNDS, list_backgrounds, list_images
from data.dataset import DataError
from data.runtime import cli
from data.runtime.flags import parse_whole
from data.runtime.parallel import Workers, open_workers
from data.runtime.progress import progress_bar
from data.writing import check_free


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = cli.Parser("one-look compose", "Paste foregrounds on photos.")
    add, whole = parser.add_argument, parse_whole()
    add("--backgrounds", type=Path, required=True, metavar="DIR", help="photos, or a folder with images/ and depth/")
    add("--foregrounds", type=Path, required=True, metavar="DIR", help="RGBA images of cut-out objects")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    depth = (
        "DIR: depth maps named like the photos, in 16-bit mm or as dataset.json in DIR says; MODEL.onnx or hf:NAME: a "
        "depth model; ground: level ground below a horizon; none: no depth (default: depth/ of the backgrounds)"
    )
    add("--depth", metavar="SOURCE", help=depth)
    preset = f"preprocessing of MODEL.onnx if there is no MODEL.json beside it: {', '.join(list_presets())}"
    add("--depth-preset", metavar="NAME", help=preset)
    number = parser.add_mutually_exclusive_group()
    per_pair = "composites for each pair of photo and foreground, twice as many with --flip (default: %(default)s)"
    number.add_argument("--per-pair", type=whole, default=PER_PAIR, metavar="N", help=per_pair)
    number.add_argument("--count", type=whole, metavar="N", help="number of composites in total, instead of --per-pair")
    add("--flip", action="store_true", help="also use each foreground mirrored, equally often")
    placement = (
        "study: anywhere, 0.3 to 0.6 of the side; ground: standing, smaller with distance (default: %(default)s)"
    )
    add("--placement", choices=RULES, default="study", help=placement)
    add("--things", type=whole, default=1, metavar="N", help="largest number of foregrounds (default: %(default)s)")
    add("--shadow", action="store_true", help="cast shadows")
    add("--seed", type=whole, default=0, help="the same seed gives the same images (default: %(default)s)")
    add("--size", type=whole, default=224, metavar="PX", help="side in pixels (default: %(default)s)")
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument("--workers", type=whole, metavar="N", help="number of processes (default: one for each core)")
    workers.add_argument(
        "--address", help="address of a Ray cluster that does the work; auto: the cluster on this machine"
    )
    no_split = (
        "let each run split by its seed (default: hold out the last fifth of photos and foregrounds for validation; "
        "from 20 of both on, half of it for the test)"
    )
    add("--no-split", action="store_true", help=no_split)
    return parser


def plan_from_args(args: argparse.Namespace, workers: Workers = None) -> Plan:
    """Plan the requested composites; `workers` run the depth model on the photos."""
    names = ("flip", "placement", "things", "shadow", "seed")
    options = ComposeOptions(px=args.size, hold_out=not args.no_split, **{name: getattr(args, name) for name in names})
    check_free(args.out)
    list_images(args.foregrounds, FOREGROUNDS)
    model = load_depth_model(args.depth or "", args.depth_preset)
    depth = None if args.depth == "none" else Path(args.depth or args.backgrounds / "depth")
    if model is not None:
        with progress_bar("depth of the photos") as progress:
            depth = cache_depth_maps(model, list_backgrounds(args.backgrounds), workers=workers, progress=progress)
    number = {"count": args.count, "per_pair": args.per_pair}
    with progress_bar("sources") as progress:
        return make_plan(args.backgrounds, args.foregrounds, depth=depth, options=options, progress=progress, **number)


def main(arguments: list[str] | None = None) -> int:
    """Run `one-look compose` and return its exit code; after 130 (stopped) the same command resumes."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _run(args), DataError, OSError)


def _run(args: argparse.Namespace) -> None:
    try:
        with open_workers(args.workers, args.address) as workers:
            plan = plan_from_args(args, workers)
            sources = f"{len(plan.backgrounds)} photos and {len(plan.foregrounds)} foregrounds"
            print(f"{plan.count:,} composites of {sources}")
            with progress_bar("composites") as progress:
                write_composites(plan, args.out, workers=workers, progress=progress)
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
        raise
    print(f"written to {args.out}")


if __name__ == "__main__":
    sys.exit(main())
