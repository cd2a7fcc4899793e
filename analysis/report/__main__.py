"""Write the report of a run: one-look report RUN [--out FILE]."""

import argparse
import sys
from pathlib import Path

from analysis import AnalysisError
from analysis.runs.files import check_file
from data.runtime import cli
from data.runtime.progress import progress_bar
from search.records.run_dir import LATEST, parse_run_argument


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = cli.Parser("one-look report", "Write a run's report as one HTML file.")
    described = "run folder, finished or not (default: %(default)s, the run started or resumed last)"
    parser.add_argument("run", type=parse_run_argument, nargs="?", default=LATEST, metavar="RUN", help=described)
    out = "file to write (default: report.html in the run folder)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=out)
    args = parser.parse_args(arguments)
    return cli.run(lambda: _write(args), AnalysisError)


def _write(args: argparse.Namespace) -> None:
    check_file(args.out)
    with progress_bar("report"):
        # after --help: importing pandas and Plotly takes seconds
        from analysis.report.report import write_report

        path = write_report(args.run, args.out)
    print(f"report in {path}")


if __name__ == "__main__":
    sys.exit(main())
