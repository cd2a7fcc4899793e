"""The end of a run: which trial is the best, and its model written and measured within the time that is left."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from search.best import Winner, fair_shares, write_best
from search.config import TrialConfig
from search.ladder import Stage, ranked
from search.records import TrialRecord, TrialTable
from search.supply import Supply
from search.trainable import load_state

MOST_MEASURED = 2000  # images of each part that the final model is measured on


def best_trial(
    ladder: Sequence[Stage], table: TrialTable, checkpoints: Mapping[str, tune.Checkpoint]
) -> TrialRecord | None:
    """Return the best trial of the highest stage that has one with a model, or None."""
    ordered = (record for stage in reversed(ladder) for record in ranked(table.of_stage(stage.name)))
    return next((record for record in ordered if record.trial_id in checkpoints), None)


def write_model(
    record: TrialRecord, checkpoint: tune.Checkpoint, supply: Supply, folder: Path, *, deadline: float | None
) -> dict[str, Any]:
    """Write best/ from a trial's checkpoint; return the content of its metrics.json.

    Args:
        record: The trial.
        checkpoint: Its last.
        supply: Validation and test images; each part is packed and measured as far as its share of the time allows.
        folder: best/ of the run folder.
        deadline: Seconds since the epoch by which all is measured, or None.
    """
    state, first, px = load_state(checkpoint), supply.first, int(record.figures["px"])
    assert state is not None and first is not None
    winner = Winner(
        config=TrialConfig.from_flat(record.config),
        weights=state["model"],
        stats=first.stats,
        sigma=first.sigma,
        px=px,
        trial_id=record.trial_id,
    )
    sizes = {name: size for name, size in supply.sizes().items() if size and name != "train"}
    packs = {}
    for name, until in zip(sizes, fair_shares(deadline and (time.time() + deadline) / 2, len(sizes)), strict=True):
        packs[name] = supply.pack(name, px, count=MOST_MEASURED, deadline=until)
    return write_best(winner, folder, packs, sizes=sizes, leaks=supply.split == "random", deadline=deadline)
