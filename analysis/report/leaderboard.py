"""The leaderboard of the report: its columns, and the table of all trials."""

from typing import Any

import pandas as pd

from analysis.runs.run import Run

# column of trials.csv, heading, kind of filter, decimal places ("g": four significant digits)
COLUMNS: tuple[tuple[str, str, str, int | str], ...] = (
    ("trial_id", "trial", "text", 0),
    ("stage", "stage", "choice", 0),
    ("rank", "rank", "low", 0),
    ("model/arch", "network", "choice", 0),
    ("model/width", "width", "low", 0),
    ("score", "score", "high", 3),
    ("iou", "IoU", "high", 3),
    ("rmse_depth", "depth RMSE", "low", 3),
    ("params", "parameters", "low", 0),
    ("macs", "multiply-adds", "low", 0),
    ("status", "status", "choice", 0),
    ("epochs", "epochs", "high", 0),
    ("images_seen", "images seen", "high", 0),
    ("fit_s", "seconds", "low", 1),
    ("optim/name", "optimizer", "choice", 0),
    ("optim/lr", "learning rate", "high", "g"),
    ("optim/batch_size", "batch", "low", 0),
    ("schedule/policy", "policy", "choice", 0),
    ("loss/mask_pixel", "mask pixel loss", "choice", 0),
    ("loss/mask_structural", "mask structural loss", "choice", 0),
    ("loss/depth_pixel", "depth pixel loss", "choice", 0),
    ("loss/depth_structural", "depth structural loss", "choice", 0),
    ("loss/balance", "balance", "choice", 0),
    ("parent_id", "parent", "text", 0),
    ("reason", "reason", "text", 0),
)


def build_leaderboard(run: Run) -> dict[str, Any]:
    """Return the table of all trials, ordered by image size, number of images and score."""
    ended = run.trials.assign(scored=run.trials["rank"].notna(), status=run.trials["status"].str.replace("_", " "))
    trials = ended.sort_values(["scored", "px", "train_images", "score"], ascending=False, kind="stable")
    shown = [column for column in COLUMNS if column[0] in trials and trials[column[0]].notna().any()]
    columns = [{"title": title, "kind": kind, "digits": digits} for _, title, kind, digits in shown]
    values = [_round_cells(trials[name], kind, digits) for name, _, kind, digits in shown]
    best = None if run.best is None else str(run.best["trial_id"])
    return {"columns": columns, "rows": [list(row) for row in zip(*values, strict=True)], "best": best}


def _round_cells(values: pd.Series, kind: str, digits: int | str) -> list[Any]:
    """Return the values of a column for the table: numbers rounded, None if missing."""
    if kind in ("text", "choice"):
        return [None if pd.isna(value) else str(value) for value in values]
    numbers = pd.to_numeric(values, errors="coerce")
    places = digits if isinstance(digits, int) else 8
    return [None if pd.isna(value) else int(value) if places == 0 else round(float(value), places) for value in numbers]
