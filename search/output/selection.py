"""The end of a run: which trial is the best, what else lies on the front, and models written and measured in time."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.data_module import DataModule
from search.budget.constraints import latency
from search.config.trial import TrialConfig
from search.output.model_folder import TrainedModel, fair_shares, write_best
from search.records.trials import TrialRecord, TrialTable
from search.tuning.checkpoints import Checkpoint
from search.tuning.rank_correlation import mean_interval
from search.tuning.stages import Stage, group_finalists, select_pareto_front
from search.tuning.trainable import load_state

MOST_MEASURED = 2000  # images of each part that the final model is measured on


def best_group(stages: Sequence[Stage], table: TrialTable, checkpoints: Mapping[str, Checkpoint]) -> list[TrialRecord]:
    """Return the best trial of the highest stage that has one with a model, and behind it its like of other seeds.

    Where finalists were repeated, the mean over their seeds decides, and of the best of them the best seed.
    """
    for stage in [stage for stage in reversed(stages) if stage.kind != "repeat"]:
        again = [
            r for above in stages if above.kind == "repeat" and above.px == stage.px for r in table.of_stage(above.name)
        ]
        for group in group_finalists(table.of_stage(stage.name) + again, lambda r: r.parent_id or r.trial_id):
            if group[0].trial_id in checkpoints:
                return group
    return []


def over_seeds(group: Sequence[TrialRecord]) -> dict[str, Any]:
    """Return the scores of one configuration trained with several seeds, their mean and its interval."""
    scores = [record.score for record in group]
    return {"trials": [record.trial_id for record in group], "scores": scores, **mean_interval(scores)}


def models_front(
    stages: Sequence[Stage], table: TrialTable, checkpoints: Mapping[str, Checkpoint], *, deadline: float | None
) -> list[dict[str, Any]]:
    """Return the front of score against parameters, multiply-adds and latency, best first.

    Over the trials with a model, the best seed of each; those of the search, which saw a part of the data, are left out
    where others came after it. Multiply-adds and latency are those of an image of the model's own size.

    Args:
        stages: The stages of the run.
        table: All trials.
        checkpoints: Of those that have a model.
        deadline: Seconds since the epoch after which no further latency is measured, or None.
    """
    models = [[r for r in table.of_stage(stage.name) if r.trial_id in checkpoints] for stage in stages]
    groups = group_finalists([r for stage in models[1:] for r in stage] or models[0], _network)
    costs: dict[str, dict[str, float]] = {}
    for record, *_ in groups:
        px = int(record.metrics["px"])
        costs[record.trial_id] = {"params": record.metrics["params"], "macs": record.metrics["macs"]}
        if deadline is None or time.time() < deadline:
            costs[record.trial_id]["latency_ms"] = round(latency(TrialConfig.from_flat(record.config), px), 3)
    dear = {"latency_ms": float("inf")}
    kept = select_pareto_front([group[0] for group in groups], lambda r: tuple((dear | costs[r.trial_id]).values()))
    return [
        {"trial_id": r.trial_id, "stage": r.stage, "px": r.metrics["px"], "score": r.score, **costs[r.trial_id]}
        for r in kept
    ]


def _network(record: TrialRecord) -> str:
    """Return what trials of one network at one size share: the weights that they began with."""
    return f"{record.parent_id or record.trial_id} {record.metrics['px']}"


def write_model(
    record: TrialRecord,
    checkpoint: Checkpoint,
    data_module: DataModule,
    folder: Path,
    *,
    parts: Sequence[str] = ("val", "test"),
    more: Mapping[str, Any] | None = None,
    deadline: float | None,
) -> dict[str, Any]:
    """Write a model's folder from a trial's checkpoint; return the content of its metrics.json.

    Args:
        record: The trial.
        checkpoint: Its last.
        data_module: The images; each part is packed and measured as far as its share of the time allows.
        folder: best/ of the run folder, or one like it.
        parts: Parts of the data to measure it on, where there are such; the test part is for the best alone.
        more: What metrics.json says beside the figures.
        deadline: Seconds since the epoch by which all is measured, or None.
    """
    state, first, px = load_state(checkpoint), data_module.first, int(record.metrics["px"])
    assert state is not None and first is not None
    winner = TrainedModel(
        config=TrialConfig.from_flat(record.config),
        weights=state["model"],
        stats=first.stats,
        sigma=first.sigma,
        px=px,
        trial_id=record.trial_id,
        scale=data_module.depth_scale,
        trained_on=_training(record, data_module),
    )
    sizes = {name: size for name, size in data_module.sizes().items() if size and name in parts}
    packs = {}
    for name, until in zip(sizes, fair_shares(deadline and (time.time() + deadline) / 2, len(sizes)), strict=True):
        packs[name] = data_module.pack(name, px, count=MOST_MEASURED, deadline=until)
    leaks = data_module.split == "random"
    return write_best(
        winner, folder, packs, sizes=sizes, leaks=leaks, more=more or {}, deadline=deadline, show=data_module.show
    )


def _training(record: TrialRecord, data_module: DataModule) -> dict[str, Any]:
    """Return what a trial was trained on, and how far."""
    data = {
        "data": data_module.dataset.root.name,
        "fingerprint": data_module.dataset.fingerprint,
        "split": data_module.split,
    }
    figures = {name: record.metrics.get(name, 0) for name in ("train_images", "images_seen", "epochs")}
    return {**data, "sizes": data_module.sizes(), "stage": record.stage, "parent_id": record.parent_id, **figures}
