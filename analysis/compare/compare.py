"""Make the missing runs of a comparison, measure the models of all runs alike, and write the results."""

import pandas as pd

from analysis.compare.methods import Comparison, run_missing
from analysis.compare.scoring import score_run, trace_incumbent
from analysis.compare.tables import build_comparison_table, plot_over_time
from analysis.plots.plots import save
from analysis.runs.files import check_folder, write_file
from data.runtime.progress import progress_bar


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
    curves = [trace_incumbent(folder, row["sigma"]) for row, (*_, folder) in zip(rows, runs, strict=True)]
    scored = pd.DataFrame(rows)
    table = build_comparison_table(scored, comparison.budget)
    write_file(comparison.out / "runs.csv", scored.to_csv(index=False).encode())
    write_file(comparison.out / "table.md", table.encode())
    for kind in ("png", "svg"):
        save(plot_over_time(scored, curves), comparison.out / f"best_over_time.{kind}")
    return table
