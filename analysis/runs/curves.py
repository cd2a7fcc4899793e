"""What the plots of runs show, as pandas frames. Knows the records' columns, no plotting library.

Every function takes frames of analysis.trials, of one run or several.
"""

from typing import Any

import pandas as pd

from analysis.runs.tables import TRIAL

STAGE = ["run", "stage"]
COUNTS = ("width", "params", "px", "images_seen")
Span = tuple[str, float, float]  # a stage, its beginning and its end, in seconds of the run
MEASURED = ("score", "iou", "dice", "mae_mask", "rmse_depth", "checkerboard")  # on the validation images, each epoch


def standings(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with their place among those of their run and stage, their origin and a label.

    Returns:
        All columns, and `rank` (1 = best score, empty for failed trials), `root` (the trial of the first stage that its
        weights come from) and `label` (id, network and width, score).
    """
    scores = pd.to_numeric(trials["score"]).where(trials["status"] != "failed")
    ranks = scores.groupby([trials[name] for name in STAGE]).rank(ascending=False, method="first")
    return trials.assign(rank=ranks, root=_roots(trials), label=_labels(trials))


def epoch_curves(reports: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the reports with rank, root and label of their trials, in the order in which trials and epochs came.

    Where the last report of a trial repeats the metrics of its best epoch, whose weights it keeps, they are left empty:
    they are on the curve already, and those of the last epoch are not known.
    """
    curves = reports.drop_duplicates([*TRIAL, "epochs"], keep="last")  # a resumed trial repeats an epoch
    curves = curves.merge(standings(trials)[[*TRIAL, "rank", "root", "label"]], on=TRIAL, how="left")
    repeated = curves["last"].astype(bool) & (curves["best_epoch"] < curves["epochs"])
    measured = [name for name in MEASURED if name in curves]
    curves[measured] = curves[measured].mask(repeated)
    return curves


def best_so_far(reports: pd.DataFrame) -> pd.DataFrame:
    """Return every report that has a score, by time, with `best` and `began_s`.

    `best` is the best score of its run and stage until then: stages differ in size and validation images, so the best
    of one is not compared with that of another. `began_s` is the moment at which the first trial of the stage began.
    """
    scored = reports[reports["score"].notna()].sort_values(["run", "ended_s"], kind="stable")
    scored = scored.assign(began_s=scored["ended_s"] - scored["fit_s"])
    stages = scored.groupby(STAGE, sort=False)
    return scored.assign(best=stages["score"].cummax(), began_s=stages["began_s"].transform("min"))


def training_times(trials: pd.DataFrame) -> pd.DataFrame:
    """Return what each trial cost and gave: stages in order, the best first.

    `seconds` are those of training and validation, `images_per_s` training images over those seconds.
    """
    columns = {"model/arch": "arch", "model/width": "width", "fit_s": "seconds"}
    wanted = ["run", "stage", "trial_id", "status", "arch", "width", "params", "px", "images_seen", "seconds"]
    table = trials.rename(columns=columns).reindex(columns=[*wanted, "score"])
    table = table.astype(dict.fromkeys(COUNTS, "Int64"))  # whole numbers, although failed trials lack them
    table.insert(len(wanted), "images_per_s", table["images_seen"].astype(float) / table["seconds"])
    order = table.groupby(STAGE, sort=False).ngroup()
    return table.assign(order=order).sort_values(["order", "score"], ascending=[True, False]).drop(columns="order")


def climbed(trials: pd.DataFrame, lower: str, upper: str) -> pd.DataFrame:
    """Return the trials of a stage that has come from another, with `before` and `after`: ranks among each other.

    Columns of the parent end in `_below`.
    """
    parents = trials[trials["stage"] == lower]
    mine = trials[(trials["stage"] == upper) & trials["rank"].notna()]
    pairs = mine.merge(parents, left_on="parent_id", right_on="trial_id", suffixes=("", "_below"))
    return pairs.assign(before=pairs["rank_below"].rank(method="first"), after=pairs["rank"].rank(method="first"))


def lanes(trials: pd.DataFrame) -> list[int]:
    """Return a row from 1 for each trial, in the order of `started_s`: the first that is free again by then."""
    free: list[float] = []
    found = []
    for began, ended in zip(trials["started_s"], trials["ended_s"], strict=True):
        lane = next((lane for lane, end in enumerate(free) if end <= began + 0.01), len(free))
        free[lane : lane + 1] = [ended]
        found.append(lane + 1)
    return found


def _roots(trials: pd.DataFrame) -> list[str]:
    """Return the first ancestor of each trial."""
    known = trials.reindex(columns=[*TRIAL, "parent_id"]).itertuples(index=False, name=None)
    parents = {(run, trial): parent for run, trial, parent in known if isinstance(parent, str) and parent}
    roots = []
    for run, trial in zip(trials["run"], trials["trial_id"], strict=True):
        while (run, trial) in parents:
            trial = parents[run, trial]
        roots.append(trial)
    return roots


def _labels(trials: pd.DataFrame) -> list[str]:
    """Return id, network and score of each trial, as far as they are known."""
    wanted = trials.reindex(columns=["trial_id", "model/arch", "model/width", "score", "status"])
    return [_label(*values) for values in wanted.itertuples(index=False, name=None)]


def _label(trial_id: str, arch: Any, width: float, score: float, status: str) -> str:
    parts = [trial_id]
    if isinstance(arch, str):
        parts.append(f"{arch} w{width:.0f}")
    if pd.notna(score):
        parts.append(f"{score:.3f}")
    return " ".join(parts) + (" (running)" if status == "running" else "")
