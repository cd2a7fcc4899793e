"""Trial tables as pandas frames. Reads the records of a run folder, nothing else."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import AnalysisError

TRIAL = ["run", "trial_id"]  # what tells trials of several runs apart


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


def load_reports(*runs: Path) -> pd.DataFrame:
    """Return reports.jsonl of one or several runs: one row per trial and epoch, as far as the runs have come.

    Raises:
        FileNotFoundError: A folder holds no reports.jsonl.
        AnalysisError: A line is damaged; one that is still being written is left out.
    """
    return pd.DataFrame([{"run": str(run), **line} for run in runs for line in _lines(Path(run) / "reports.jsonl")])


def trials_so_far(*runs: Path) -> pd.DataFrame:
    """Return the trials of runs that may not have ended: those of trials.csv, and what is running from its last report.

    What is running has the status "running" and no configuration: runs write that when a trial ends.

    Raises:
        FileNotFoundError: A folder holds no reports.jsonl.
    """
    finished = [load_trials(run) for run in runs if (Path(run) / "trials.csv").is_file()]
    newest = load_reports(*runs).drop_duplicates(TRIAL, keep="last").assign(status="running")
    trials = pd.concat([*finished, newest], ignore_index=True)
    return trials.drop_duplicates(TRIAL, keep="first", ignore_index=True)


def leaderboard(trials: pd.DataFrame, stage: str = "final") -> pd.DataFrame:
    """Return the trials of a stage that have a score, best first, failed ones left out."""
    chosen = trials[(trials["stage"] == stage) & (trials["status"] != "failed") & trials["score"].notna()]
    return chosen.sort_values("score", ascending=False, ignore_index=True)


def _lines(path: Path) -> list[dict[str, Any]]:
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise AnalysisError(f"{path}: a line is damaged ({error}); restore the file from the run") from error
