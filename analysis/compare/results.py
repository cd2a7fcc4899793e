"""The results table of the README, from run folders.

    python -m analysis.compare.results RUN [RUN ...]

Every figure is read from what the runs wrote about themselves: run.json, trials.csv and best/metrics.json.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from analysis.compare.summary import summaries
from analysis.exceptions import AnalysisError
from analysis.runs.run import read_json
from analysis.runs.tables import load_trials

COLUMNS = (
    "data",
    "budget",
    "wall s",
    "trials",
    "busy",
    "network",
    "parameters",
    "part",
    "images",
    "IoU",
    "RMSE",
    "score",
)


def rows(run: Path) -> list[list[str]]:
    """Return a row for each part of the data that the run's model was measured on.

    Raises:
        AnalysisError: The run has not ended with a model.
    """
    told, metrics = summaries(run).iloc[0], read_json(run / "best" / "metrics.json")
    stages = load_trials(run)["stage"]
    common = [
        told["data"],
        told["budget"],
        f"{told['wall_s']:.0f}",
        str((stages == stages.iloc[0]).sum()),
        f"{told['busy']:.0%}",
        told["network"],
        f"{told['params']:,}",
    ]
    return [[*common, part, *_figures(metrics[part])] for part in ("val", "test") if part in metrics]


def _figures(figures: dict[str, Any]) -> list[str]:
    cells = (f"{figures[name]:.3f}" if name in figures else "-" for name in ("iou", "rmse_depth", "score"))
    return [f"{figures['images']}", *cells]


def table(runs: list[Path]) -> str:
    """Return a Markdown table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row for run in runs for row in rows(run))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description="Print the results of runs as a Markdown table.")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    try:
        print(table(parser.parse_args().runs))
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
