"""Plot the curves of runs: python -m analysis.plots RUN ... [--out DIR]."""

import sys
from pathlib import Path

from analysis import AnalysisError
from data.runtime import cli
from search.records.run_dir import parse_run_argument


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = cli.Parser("python -m analysis.plots", "Plot the curves of runs.")
    parser.add_argument(
        "runs", type=parse_run_argument, nargs="+", metavar="RUN", help="run folders, finished or not; or latest"
    )
    parser.add_argument("--out", type=Path, default=Path("plots"), help="folder to write to (default: %(default)s)")
    parser.add_argument(
        "--format", choices=("png", "svg"), default="png", help="file format of the plots (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    from analysis.plots.plots import write_plots  # after --help: importing pandas and matplotlib takes seconds

    return cli.run(lambda: write_plots(list(dict.fromkeys(args.runs)), args.out, args.format), AnalysisError)


if __name__ == "__main__":
    sys.exit(main())
