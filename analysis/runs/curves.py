"""Prepare the frames behind charts: ranks, curves, best scores so far, training times, promotions, Pareto front.

The functions take frames of analysis.runs.tables with one or several runs.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.runs.tables import TRIAL
from search.study.pareto import find_pareto_front

STAGE = ["run", "stage"]
COSTS = ("params", "macs", "latency_ms")
COUNTS = ("width", "params", "px", "images_seen")
Span = tuple[str, float, float]  # stage, start and end, in seconds of run time


def add_ranks(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with `rank` in run and stage (1 = best score), `root`, `network` and `label`.

    `root` is the first-stage trial that the weights come from, `network` names architecture and width, and `label`
    gives id, network and score.
    """
    scores = trials["score"].where(trials["status"] != "failed")
    ranks = scores.groupby([trials[name] for name in STAGE]).rank(ascending=False, method="first")
    network = trials["model/arch"] + _format(trials["model/width"], " w{:.0f}")
    running = np.where(trials["status"] == "running", " (running)", "")
    label = trials["trial_id"] + _format(network, " {}") + _format(trials["score"], " {:.3f}") + running
    network = network.fillna("network unknown")
    ranked = trials.assign(rank=ranks, root=_find_roots(trials), network=network, label=label)
    return ranked.copy()  # otherwise pandas warns that the many assigned columns fragment the frame


def build_curves(reports: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the reports in order, with the columns that `add_ranks` adds, status and architecture of their trials."""
    curves = reports.drop_duplicates([*TRIAL, "epochs"], keep="last")  # a resumed trial repeats an epoch
    added = trials[[*TRIAL, "rank", "root", "label", "network", "status", "model/arch"]]
    return curves.merge(added, on=TRIAL)


def add_best_so_far(reports: pd.DataFrame) -> pd.DataFrame:
    """Return every report that has a score, by time, with `best`: the best score so far of its run and stage.

    Stages differ in image size and validation images, so their scores are not comparable.
    """
    scored = reports[reports["score"].notna()].sort_values(["run", "ended_s"], kind="stable")
    return scored.assign(best=scored.groupby(STAGE)["score"].cummax())


def list_training_times(trials: pd.DataFrame) -> pd.DataFrame:
    """Return time, speed and score of each trial: stages in order, the best first.

    `seconds` include training and validation; `images_per_s` is training images divided by them.
    """
    names = {"model/arch": "arch", "model/width": "width", "fit_s": "seconds"}
    wanted = ["run", "stage", "trial_id", "status", "arch", "width", "params", "px", "images_seen", "seconds"]
    table = trials.rename(columns=names)[[*wanted, "score"]]
    table.insert(len(wanted), "images_per_s", table["images_seen"] / table["seconds"])
    table = table.astype(dict.fromkeys(COUNTS, "Int64"))  # nullable integers, because failed trials have no counts
    order = table.groupby(STAGE, sort=False).ngroup()
    return table.assign(order=order).sort_values(["order", "score"], ascending=[True, False]).drop(columns="order")


def pair_promotions(trials: pd.DataFrame, lower: str, upper: str) -> pd.DataFrame:
    """Pair the trials of a stage with their parents in the stage below.

    `before` and `after` are the ranks within this group at the two stages; the names of parent columns end in `_below`.
    """
    parents = trials[trials["stage"] == lower]
    promoted = trials[(trials["stage"] == upper) & trials["rank"].notna()]
    pairs = promoted.merge(parents, left_on="parent_id", right_on="trial_id", suffixes=("", "_below"))
    return pairs.assign(before=pairs["rank_below"].rank(method="first"), after=pairs["rank"].rank(method="first"))


def assign_lanes(trials: pd.DataFrame) -> list[int]:
    """Return a chart row from 1 for each trial in order of `started_s`: the first row that is free at its start."""
    free: list[float] = []
    found = []
    for began, ended in zip(trials["started_s"], trials["ended_s"], strict=True):
        lane = next((lane for lane, end in enumerate(free) if end <= began + 0.01), len(free))
        free[lane : lane + 1] = [ended]
        found.append(lane + 1)
    return found


def select_pareto_trials(trials: pd.DataFrame, costs: Sequence[str] = COSTS) -> pd.DataFrame:
    """Return the trials on the Pareto front of score against costs, best first.

    A trial is dominated by another that scores no worse, costs no more in any respect, and is better in at least one.
    Failed trials and trials without a score are left out, missing columns are ignored, and an unknown cost counts as
    infinite.
    """
    scored = trials[(trials["status"] != "failed") & trials["score"].notna()]
    order = scored.sort_values(["score", "params"], ascending=[False, True], kind="stable")
    known = order[[name for name in costs if name in trials]].astype(float).fillna(math.inf)
    front = find_pareto_front(order["score"].to_list(), list(known.itertuples(index=False, name=None)))
    return order.iloc[front].reset_index(drop=True)


def select_models(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of all stages but the first, or of the first if it is the only one.

    The first stage trains on a part of the data and scores few validation images, so its trials are not comparable.
    """
    later = trials[trials["stage"] != trials["stage"].iloc[0]] if len(trials) else trials
    return later if len(later) else trials


def _find_roots(trials: pd.DataFrame) -> list[str]:
    """Return the first ancestor of each trial."""
    parents = trials.set_index(TRIAL)["parent_id"].dropna().to_dict()
    roots = []
    for run, trial in zip(trials["run"], trials["trial_id"], strict=True):
        while (run, trial) in parents:
            trial = parents[run, trial]
        roots.append(trial)
    return roots


def _format(values: pd.Series, form: str) -> "pd.Series[str]":
    """Return the values as text, "" where they are unknown."""
    return pd.Series(["" if pd.isna(value) else form.format(value) for value in values], values.index, dtype=object)
