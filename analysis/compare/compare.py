"""Methods side by side at equal budget: each is a whole run of search/run.py, of the same length, for each seed.

    python -m analysis.compare --data DIR --budget 5m --seeds 5 --methods ours,random,asha_only --out DIR

A seed decides which backgrounds are held out, the same for every method. The runs follow each other, methods taking
turns, so that a machine that is slow for a while is slow for all; runs that are there already are not repeated. Their
models are then measured on all images of validation and test, all at one size. Writes table.md, runs.csv and
best_over_time (.png and .svg), and keeps every run folder.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from analysis.compare.methods import DEFAULT, METHODS, Plan, run_all
from analysis.compare.scoring import handed_out, score_run
from analysis.compare.tables import over_time, table
from analysis.exceptions import AnalysisError
from analysis.plots.plots import save
from analysis.runs.files import check_folder, write_file
from data.dataset import DataError
from data.runtime.progress import progress_bar
from search.budget.budget import Budget, BudgetError, parse_budget


def _methods(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in METHODS:
            raise argparse.ArgumentTypeError(f"no method {name!r}; choose from {', '.join(METHODS)}")
    return names


def _seeds(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seeds, at least 1")
    return int(text)


def _budget(text: str) -> Budget:
    try:
        return parse_budget(text)
    except BudgetError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(prog="python -m analysis.compare", description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, required=True, help="data set folder")
    p.add_argument("--budget", type=_budget, required=True, help="of each run, such as 3m")
    p.add_argument("--seeds", type=_seeds, default=3, help="runs of each method (default 3)")
    known, default = ",".join(METHODS), ",".join(DEFAULT)
    p.add_argument("--methods", type=_methods, default=list(DEFAULT), help=f"some of {known} (default {default})")
    p.add_argument("--out", type=Path, default=Path("comparison"), help="folder of all runs (default comparison)")
    return p


def compare(plan: Plan) -> str:
    """Make and judge all runs, write what came of it; return the table.

    Raises:
        AnalysisError: A run failed, or something else lies in its place.
        DataError: The data have changed since a run.
    """
    check_folder(plan.out)
    run_all(plan)
    rows = []
    with progress_bar("measuring the models on whole parts") as progress:
        for number, (name, seed, folder) in enumerate(plan.runs(), start=1):
            rows.append({"method": name, "seed": seed, **score_run(folder)})
            if progress:
                progress(number, len(plan.runs()))
    changes = [handed_out(folder, row["sigma"]) for row, (*_, folder) in zip(rows, plan.runs(), strict=True)]
    runs = pd.DataFrame(rows)
    found = table(runs, plan.budget)
    write_file(plan.out / "runs.csv", runs.to_csv(index=False).encode())
    write_file(plan.out / "table.md", found.encode())
    for kind in ("png", "svg"):
        save(over_time(runs, changes), plan.out / f"best_over_time.{kind}")
    return found


def main(argv: list[str] | None = None) -> int:
    """Make the runs, write and print the table; return the exit code."""
    args = parser().parse_args(argv)
    try:
        print(compare(Plan(**vars(args))), end="")
    except (AnalysisError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
