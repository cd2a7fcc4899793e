"""Select the best trial of a run and the Pareto front of its models."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from search.config.constraints import latency
from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.records.trials import TrialRecord, TrialTable
from search.tuning.promotion import group_finalists, select_pareto_front
from search.tuning.rank_correlation import mean_interval
from search.tuning.ray.checkpoints import Checkpoint


def select_best(stages: Sequence[Stage], table: TrialTable, checkpoints: Mapping[str, Checkpoint]) -> list[TrialRecord]:
    """Return the best trial with a model of the last stage that has one, followed by its repeats with other seeds.

    The mean over the seeds ranks repeated configurations; within the best one its best seed comes first.
    """
    for stage in [stage for stage in reversed(stages) if stage.kind != "repeat"]:
        repeats = [other.name for other in stages if other.kind == "repeat" and other.px == stage.px]
        records = [record for name in (stage.name, *repeats) for record in table.of_stage(name)]
        for group in group_finalists(records, lambda r: r.parent_id or r.trial_id):
            if group[0].trial_id in checkpoints:
                return group
    return []


def summarize_seeds(group: Sequence[TrialRecord]) -> dict[str, Any]:
    """Return the scores of one configuration trained with several seeds, their mean and its 95 % interval."""
    scores = [record.score for record in group]
    return {"trials": [record.trial_id for record in group], "scores": scores, **mean_interval(scores)}


def list_pareto_front(
    stages: Sequence[Stage], table: TrialTable, checkpoints: Mapping[str, Checkpoint], *, deadline: float | None
) -> list[dict[str, Any]]:
    """Return the Pareto front of score against parameters, multiply-adds and latency, best score first.

    Candidates are the trials with a model, the best seed of each. Trials of the search, which saw a part of the data,
    are candidates only in a run without other models. Multiply-adds and latency are at the model's own image size.

    Args:
        stages: The stages of the run.
        table: All trials.
        checkpoints: Checkpoints of the trials that have a model.
        deadline: Moment of time.monotonic() after which no further latency is measured, or None.
    """
    models = [[r for r in table.of_stage(stage.name) if r.trial_id in checkpoints] for stage in stages]
    groups = group_finalists([r for stage in models[1:] for r in stage] or models[0], _network)
    costs: dict[str, dict[str, float]] = {}
    for record, *_ in groups:
        px = int(record.metrics["px"])
        costs[record.trial_id] = {"params": record.metrics["params"], "macs": record.metrics["macs"]}
        if deadline is None or time.monotonic() < deadline:
            costs[record.trial_id]["latency_ms"] = round(latency(TrialConfig.from_flat(record.config), px), 3)
    unknown = {"latency_ms": float("inf")}
    front = select_pareto_front([group[0] for group in groups], lambda r: tuple((unknown | costs[r.trial_id]).values()))
    return [
        {"trial_id": r.trial_id, "stage": r.stage, "px": r.metrics["px"], "score": r.score, **costs[r.trial_id]}
        for r in front
    ]


def _network(record: TrialRecord) -> str:
    """Return a key shared by the trials of one network at one image size."""
    return f"{record.parent_id or record.trial_id} {record.metrics['px']}"
