"""Read the records of run folders as pandas frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import AnalysisError
from analysis.runs.files import read_lines
from search.records import run_dir
from search.records.trials import TrialRecord

TRIAL = ["run", "trial_id"]  # identifies a trial among several runs
REQUIRED = ("trial_id", "stage", "status")  # columns of every trial table
TEXTS = ("run", "trial_id", "parent_id", "stage", "status", "reason", "model/arch")
NUMBERS = tuple(
    "score iou rmse_depth epochs images_seen params macs px train_images fit_s device_s seed started_s ended_s "  # noqa: SIM905
    "model/width".split()
)
EPOCH_NUMBERS = tuple("score iou rmse_depth train_total epochs images_seen fit_s ended_s lr".split())  # noqa: SIM905


def load_trials(*runs: Path | str) -> pd.DataFrame:
    """Return trials.csv of one or several runs, one row per trial and stage, with `run` as the first column.

    It has all columns of TEXTS and NUMBERS, empty where unknown.
    """
    tables = []
    for run in runs:
        path = Path(run) / "trials.csv"
        try:
            table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"trial_id": str}, low_memory=False)
            table.insert(0, "run", str(run))
        except (OSError, ValueError) as error:
            raise AnalysisError(f"{path}: cannot be read ({error}); name the folder of a run") from error
        if lacking := [name for name in REQUIRED if name not in table or table[name].isna().any()]:
            raise AnalysisError(f"{path}: not a table of trials; it lacks {', '.join(lacking)}; restore it")
        table["status"] = table["status"].replace("timed_out", "ended_by_budget")  # the name in format 2
        tables.append(_complete(table, TEXTS, NUMBERS))
    return pd.concat(tables, ignore_index=True)


def load_reports(run: Path) -> pd.DataFrame:
    """Return reports.jsonl of a run: one row per trial and epoch reported so far.

    It has all columns of EPOCH_NUMBERS, empty where unknown. A line that is still being written is left out.
    """
    path = run / "reports.jsonl"
    lines = read_lines(path)
    if not all(isinstance(line, dict) and isinstance(line.get(name), str) for line in lines for name in REQUIRED[:2]):
        raise AnalysisError(f"{path}: a line names no trial; restore the file from the run")
    return _complete(pd.DataFrame(lines), (*TRIAL, "stage"), EPOCH_NUMBERS).assign(run=str(run))


def load_trials_so_far(run: Path, reports: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of a run that may be running: those in trials.csv, and others from their last reports.

    trials.csv may lack trials that have just ended. Metrics are those of the best epoch. Running trials have the status
    "running". The table has all columns of TEXTS and NUMBERS, empty where unknown. `reports` come from `load_reports`.
    """
    lines = reports.drop_duplicates("trial_id", keep="last").to_dict("records")
    newest = [line | (line["best"] if isinstance(line.get("best"), dict) else {}) for line in lines]
    others = _complete(pd.DataFrame([*_read_started(run), *newest]), TEXTS, NUMBERS).assign(run=str(run))
    others = others.groupby("trial_id", sort=False, as_index=False).last()  # the last value of each column
    others["status"] = others["status"].fillna("running")
    finished = [load_trials(run)] if (run / "trials.csv").is_file() else []
    return pd.concat([*finished, others]).drop_duplicates("trial_id", ignore_index=True)


def format_markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a Markdown table of rows with the same keys, which become the header."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _read_started(run: Path) -> list[dict[str, Any]]:
    """Return the trials that a run recorded as they started, with their status if they have ended."""
    path, started = run / "trials.jsonl", {}
    try:
        for line in run_dir.read_lines(path):
            if "config" in line:
                started[line["trial_id"]] = TrialRecord.from_line(line, path).build_row()
            elif line.get("trial_id") in started:
                started[line["trial_id"]] |= {"status": line.get("status", ""), "reason": line.get("reason", "")}
    except run_dir.RunDirError as error:
        raise AnalysisError(str(error)) from error
    return [{name: value for name, value in row.items() if value != ""} for row in started.values()]


def _complete(table: pd.DataFrame, texts: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    """Return the table with all these columns, as text and numbers."""
    table = table.reindex(columns=[*dict.fromkeys([*table.columns, *texts, *numbers])])
    converted = {name: pd.to_numeric(table[name], errors="coerce") for name in numbers}
    return table.assign(**converted).astype(dict.fromkeys(texts, object))
