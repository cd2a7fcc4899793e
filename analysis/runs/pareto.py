"""Fronts: the trials that no other beats at once in score and in what its network costs."""

import math
from collections.abc import Sequence

import pandas as pd

from search.records.trials import TrialRecord
from search.tuning import stages as ladder

COSTS = ("params", "macs", "latency_ms")


def front(trials: pd.DataFrame, costs: Sequence[str] = COSTS) -> pd.DataFrame:
    """Return the trials on the front of score against costs, best first.

    One is beaten by another that scores no worse and costs no more in anything, and is better somewhere. Failed trials
    and those without a score are left out.

    Args:
        trials: From analysis.trials; of one stage, or of stages whose scores compare.
        costs: Columns, of which those that the trials have count: parameters, multiply-adds, milliseconds. A cost that
            is not known counts as infinite.
    """
    known = [name for name in costs if name in trials]
    metrics = trials.reindex(columns=[*dict.fromkeys(["score", "params", *known])]).astype(float)
    records = [
        TrialRecord(trial_id=f"{row:09}", parent_id="", stage="", config={}, seed=0, status=status, metrics=dict(own))
        for row, (status, (_, own)) in enumerate(zip(trials["status"], metrics.iterrows(), strict=True))
    ]
    kept = ladder.front(records, lambda record: tuple(_dear(record.metrics[name]) for name in known))
    return trials.iloc[[int(record.trial_id) for record in kept]].reset_index(drop=True)


def models(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials whose networks compare as models: of all stages but the first, or of that if there is no other.

    The first stage sees a part of the data, and its scores are of few validation images.
    """
    later = trials[trials["stage"] != trials["stage"].iloc[0]] if len(trials) else trials
    return later if len(later) else trials


def _dear(cost: float) -> float:
    return math.inf if math.isnan(cost) else cost
