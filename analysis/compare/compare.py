"""Compare search methods at equal budget: each is a whole run of search/run.py, of the same length, for each seed.

    python -m analysis.compare --data DIR --budget 5m --seeds 5 --methods default,random,asha_only --out DIR

A seed decides which backgrounds are held out, for every method alike. The runs follow each other and methods alternate,
so that a slow spell of the machine affects all of them; existing runs are not repeated. All models are then measured on
all validation and test images at one size. Writes table.md, runs.csv and best_over_time (.png and .svg), and keeps
every run folder.
"""

import argparse
from pathlib import Path

import pandas as pd

from analysis.compare.methods import DEFAULT_METHODS, METHODS, Comparison, run_missing
from analysis.compare.scoring import incumbent_curve, score_run
from analysis.compare.tables import comparison_table, plot_over_time
from analysis.exceptions import AnalysisError
from analysis.plots.plots import save
from analysis.runs.files import check_folder, write_file
from data.dataset import DataError
from data.runtime import cli
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
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(prog="python -m analysis.compare", description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, required=True, help="data set folder")
    p.add_argument("--budget", type=_budget, required=True, help="budget of each run, such as 3m")
    p.add_argument("--seeds", type=_seeds, default=3, help="runs of each method (default 3)")
    known, default = ",".join(METHODS), ",".join(DEFAULT_METHODS)
    p.add_argument("--methods", type=_methods, default=list(DEFAULT_METHODS), help=f"of {known} (default {default})")
    p.add_argument("--out", type=Path, default=Path("comparison"), help="folder of all runs (default comparison)")
    return p


def compare(comparison: Comparison) -> str:
    """Make the missing runs, measure all models and write the results; return the table.

    Raises:
        AnalysisError: A run failed, or a folder holds something else.
        DataError: The data have changed since a run.
    """
    check_folder(comparison.out)
    run_missing(comparison)
    rows, runs = [], comparison.runs()
    with progress_bar("measuring the models on whole parts") as progress:
        for number, (name, seed, folder) in enumerate(runs, start=1):
            rows.append({"method": name, "seed": seed, **score_run(folder)})
            if progress:
                progress(number, len(runs))
    curves = [incumbent_curve(folder, row["sigma"]) for row, (*_, folder) in zip(rows, runs, strict=True)]
    scored = pd.DataFrame(rows)
    table = comparison_table(scored, comparison.budget)
    write_file(comparison.out / "runs.csv", scored.to_csv(index=False).encode())
    write_file(comparison.out / "table.md", table.encode())
    for kind in ("png", "svg"):
        save(plot_over_time(scored, curves), comparison.out / f"best_over_time.{kind}")
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = parser().parse_args(arguments)
    return cli.run(lambda: print(compare(Comparison(**vars(args))), end=""), AnalysisError, DataError)
