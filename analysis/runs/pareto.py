"""Fronts: the trials that no other beats at once in score and in what its network costs."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from search.tuning.stages import find_pareto_front

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
    scored = trials[(trials["status"] != "failed") & np.isfinite(trials["score"].astype(float))]
    order = scored.sort_values(["score", "params"], ascending=[False, True], kind="stable")
    known = order[[name for name in costs if name in trials]].astype(float).fillna(math.inf)
    front = find_pareto_front(order["score"].to_list(), list(known.itertuples(index=False, name=None)))
    return order.iloc[front].reset_index(drop=True)


def models(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials whose networks compare as models: of all stages but the first, or of that if there is no other.

    The first stage sees a part of the data, and its scores are of few validation images.
    """
    later = trials[trials["stage"] != trials["stage"].iloc[0]] if len(trials) else trials
    return later if len(later) else trials
