"""Trial tables as pandas frames. Reads the records of a run folder, nothing else."""

from pathlib import Path

import pandas as pd


def load_trials(*runs: Path) -> pd.DataFrame:
    """Return trials.csv of one or several runs, one row per trial and stage, with the column `run` in front.

    Raises:
        FileNotFoundError: A folder holds no trials.csv.
    """
    tables = []
    for run in runs:
        table = pd.read_csv(Path(run) / "trials.csv", keep_default_na=False, na_values=[""])
        table.insert(0, "run", str(run))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def load_reports(run: Path) -> pd.DataFrame:
    """Return reports.jsonl of a run: one row per trial and epoch, as far as the run has come."""
    return pd.read_json(Path(run) / "reports.jsonl", lines=True)


def leaderboard(trials: pd.DataFrame, stage: str = "final") -> pd.DataFrame:
    """Return the trials of a stage that have a score, best first, failed ones left out."""
    chosen = trials[(trials["stage"] == stage) & (trials["status"] != "failed") & trials["score"].notna()]
    return chosen.sort_values("score", ascending=False, ignore_index=True)
