"""Write the report of a run: python -m analysis.report RUN [--out FILE]."""

import argparse
import sys
from pathlib import Path

from analysis import AnalysisError
from data.runtime import cli


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report", description="Write a run's report as one HTML file."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, finished or not")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: report.html in the run folder)"
    )
    args = parser.parse_args(arguments)
    from analysis.report.report import write_report  # after --help: pandas and Plotly take seconds

    return cli.run(lambda: print(f"report in {write_report(args.run, args.out)}"), AnalysisError)


if __name__ == "__main__":
    sys.exit(main())
