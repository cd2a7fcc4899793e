"""Write the report of a run: one-look report RUN [--out FILE]."""

import sys
from pathlib import Path

from analysis import AnalysisError
from data.runtime import cli
from search.records.run_dir import LATEST, run_path


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = cli.Parser("one-look report", "Write a run's report as one HTML file.")
    described = "run folder, finished or not (default: %(default)s, the newest)"
    parser.add_argument("run", type=run_path, nargs="?", default=LATEST, metavar="RUN", help=described)
    out = "file to write (default: report.html in the run folder)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=out)
    args = parser.parse_args(arguments)
    from analysis.report.report import write_report  # after --help: pandas and Plotly take seconds

    return cli.run(lambda: print(f"report in {write_report(args.run, args.out)}"), AnalysisError)


if __name__ == "__main__":
    sys.exit(main())
