"""Trial tables as pandas frames. Reads the records of a run folder, nothing else."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.exceptions import AnalysisError
from search.records.files import read_lines
from search.records.run_dir import RunDirError
from search.records.trials import TrialRecord

TRIAL = ["run", "trial_id"]  # what tells trials of several runs apart
NEEDED = ("trial_id", "stage", "status")  # columns without which a table is none of trials
TEXTS = ("run", "trial_id", "parent_id", "stage", "status", "reason", "model/arch")
FIGURES = tuple(
    "score iou rmse_depth epochs images_seen params macs px train_images fit_s device_s seed started_s ended_s "  # noqa: SIM905
    "model/width".split()
)
OF_EPOCHS = (
    "score",
    "iou",
    "rmse_depth",
    "train_total",
    "epochs",
    "images_seen",
    "fit_s",
    "ended_s",
    "best_epoch",
    "lr",
)


def load_trials(*runs: Path) -> pd.DataFrame:
    """Return trials.csv of one or several runs, one row per trial and stage, with the column `run` in front.

    All of TEXTS and FIGURES are there, empty where unknown.

    Raises:
        AnalysisError: A folder holds no trials.csv, or a damaged one.
    """
    tables = []
    for run in runs:
        path = Path(run) / "trials.csv"
        try:
            table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"trial_id": str})
            table.insert(0, "run", str(run))
        except (OSError, ValueError) as error:
            raise AnalysisError(f"{path}: cannot be read ({error}); name the folder of a run") from error
        if lacking := [name for name in NEEDED if name not in table or table[name].isna().any()]:
            raise AnalysisError(f"{path}: no table of trials ({', '.join(lacking)} lacking); restore it from the run")
        tables.append(_whole(table, TEXTS, FIGURES))
    return pd.concat(tables, ignore_index=True)


def load_reports(*runs: Path) -> pd.DataFrame:
    """Return reports.jsonl of one or several runs: one row per trial and epoch, as far as the runs have come.

    All of OF_EPOCHS are there, empty where unknown, and `last`, whether it was planned as the trial's last.

    Raises:
        AnalysisError: A line is damaged, or tells of no trial; one that is still being written is left out.
    """
    rows = [{"run": str(run), **line} for run in runs for line in _lines(Path(run) / "reports.jsonl")]
    reports = _whole(pd.DataFrame(rows), (*TRIAL, "stage"), OF_EPOCHS)
    return reports.assign(last=reports["last"].eq(True) if "last" in reports else False)


def trials_so_far(*runs: Path) -> pd.DataFrame:
    """Return the trials of runs that may not have ended: those of trials.csv, and what is running from its last report.

    What is running has the status "running". All of TEXTS and FIGURES are there, empty where unknown.

    Raises:
        AnalysisError: A file of theirs is damaged.
    """
    finished = [load_trials(run) for run in runs if (Path(run) / "trials.csv").is_file()]
    begun = [{"run": str(run), **row} for run in runs for row in _begun(Path(run))]
    newest = load_reports(*runs).drop_duplicates(TRIAL, keep="last")
    running = pd.concat([pd.DataFrame(begun, columns=None if begun else TRIAL), newest]).assign(status="running")
    running = running.groupby(TRIAL, sort=False, as_index=False).last()  # what each column says last
    trials = pd.concat([*finished, running], ignore_index=True)
    return _whole(trials.drop_duplicates(TRIAL, keep="first", ignore_index=True), TEXTS, FIGURES)


def leaderboard(trials: pd.DataFrame, stage: str = "final") -> pd.DataFrame:
    """Return the trials of a stage that have a score, best first, failed ones left out."""
    chosen = trials[(trials["stage"] == stage) & (trials["status"] != "failed") & trials["score"].notna()]
    return chosen.sort_values("score", ascending=False, ignore_index=True)


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a Markdown table of rows with the same keys, which become the header."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _begun(run: Path) -> list[dict[str, Any]]:
    """Return the trials that a run wrote down as they began."""
    path = run / "trials.jsonl"
    try:
        begun = [TrialRecord.from_line(line, path).row() for line in read_lines(path) if "config" in line]
    except RunDirError as error:
        raise AnalysisError(str(error)) from error
    return [{name: value for name, value in row.items() if value != ""} for row in begun]


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines()]
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: a line is damaged ({error}); restore the file from the run") from error
    told = ([line.get(name) for name in ("trial_id", "stage")] if isinstance(line, dict) else [None] for line in lines)
    if not all(isinstance(name, str) for names in told for name in names):
        raise AnalysisError(f"{path}: a line tells of no trial; restore the file from the run")
    return lines


def _whole(table: pd.DataFrame, texts: tuple[str, ...], metrics: tuple[str, ...]) -> pd.DataFrame:
    """Return a table with all these columns, texts as text and metrics as numbers."""
    table = table.reindex(columns=[*dict.fromkeys([*table.columns, *texts, *metrics])])
    whole = {
        name: pd.to_numeric(values, errors="coerce")
        if name in metrics
        else values.astype(object)
        if name in texts
        else values
        for name, values in table.items()
    }
    return pd.DataFrame(whole, index=table.index)
