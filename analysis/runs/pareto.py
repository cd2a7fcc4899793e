"""The Pareto front of score against the costs of the network."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from search.tuning.promotion import find_pareto_front

COSTS = ("params", "macs", "latency_ms")


def pareto_front(trials: pd.DataFrame, costs: Sequence[str] = COSTS) -> pd.DataFrame:
    """Return the trials on the Pareto front of score against costs, best first.

    A trial is dominated by another that scores no worse, costs no more in any respect, and is better in at least one.
    Failed trials and those without a score are left out, missing columns are ignored; an unknown cost is infinite.
    """
    scored = trials[(trials["status"] != "failed") & np.isfinite(trials["score"].astype(float))]
    order = scored.sort_values(["score", "params"], ascending=[False, True], kind="stable")
    known = order[[name for name in costs if name in trials]].astype(float).fillna(math.inf)
    front = find_pareto_front(order["score"].to_list(), list(known.itertuples(index=False, name=None)))
    return order.iloc[front].reset_index(drop=True)


def select_models(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of all stages but the first, or of the first if it is the only one.

    The first stage trains on a part of the data and scores few validation images, so its trials do not compare.
    """
    later = trials[trials["stage"] != trials["stage"].iloc[0]] if len(trials) else trials
    return later if len(later) else trials
