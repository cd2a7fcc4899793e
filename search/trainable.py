"""The Ray Tune trainable: the data of a stage and a configuration around `fit`."""

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from models.build import build_model
from models.cost import cost
from search.config import TrialConfig
from search.fit import FitPlan, State, TrialDiverged, fit
from search.ladder import Stage
from search.supply import FitData

STATE_FILE = "state.pt"


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What all trials of one stage share.

    Attributes:
        stage: The rung of the ladder.
        data: Packed arrays, opened anew in each worker.
        deadline: Seconds since the epoch by which every trial has ended, or None.
        cap_s: The most one trial may train, in seconds, or None.
        threads: Processor threads of one trial.
        device: torch device of one trial.
        devices: What it occupies: cores, or its part of a GPU.
    """

    stage: Stage
    data: FitData
    deadline: float | None
    cap_s: float | None
    threads: int
    device: str
    devices: float = 1.0

    def limit(self) -> float | None:
        """Return the seconds a trial that starts now may train."""
        bounds = [self.cap_s] if self.cap_s is not None else []
        if self.deadline is not None:
            bounds.append(max(self.deadline - time.time(), 1.0))
        return min(bounds, default=None)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one trial is told.

    Attributes:
        trial_id: Stage letter and a number, such as e0007.
        parent_id: The trial whose weights it starts from, or "".
        seed: Its own.
        config: Sections of plain values.
        context: What it shares with the others of its stage.
        parent: Checkpoint of the parent.
    """

    trial_id: str
    parent_id: str
    seed: int
    config: dict[str, Any]
    context: StageContext
    parent: tune.Checkpoint | None = None


def new_entry(
    context: StageContext,
    number: int,
    config: dict[str, Any],
    *,
    seed: int,
    parent_id: str = "",
    parent: tune.Checkpoint | None = None,
) -> Entry:
    """Return the entry of the stage's trial of that number, with a seed of its own drawn from the run's `seed`."""
    name = context.stage.name
    return Entry(
        trial_id=f"{name[0]}{number:04d}",
        parent_id=parent_id,
        seed=random.Random(f"{seed} {name} {number}").randrange(2**31),
        config=config,
        context=context,
        parent=parent,
    )


def train_trial(params: dict[str, Any]) -> None:
    """Train one entry of a stage and report each epoch to Ray Tune.

    A diverged trial is reported as failed, with its reason, so that its worker can be used again.
    """
    entry: Entry = params["entry"]
    context, stage = entry.context, entry.context.stage
    torch.set_num_threads(context.threads)
    config = TrialConfig.from_dict(entry.config)
    plan = FitPlan(
        epochs=stage.epochs,
        seed=entry.seed,
        refine=stage.refine,
        device=context.device,
        loader_workers=min(context.threads - 1, 4) if context.device == "cuda" else 0,
    )
    parent = load_state(entry.parent)
    try:
        fit(
            config,
            context.data,
            plan,
            report=_reporter(constants(config, context)),
            weights=parent["model"] if parent else None,
            limit=context.limit(),
        )
    except TrialDiverged as error:
        tune.report({"score": 0.0, "epoch": stage.epochs, "last": True, "failed": str(error), "figures": {}})
    finally:
        if context.device == "cuda":
            torch.cuda.empty_cache()  # the worker is used again, for a network of another size


def constants(config: TrialConfig, context: StageContext) -> dict[str, Any]:
    """Return the figures of a trial that do not change while it trains."""
    price = cost(build_model(config.model), context.stage.px)
    return {
        "params": price.params,
        "macs": price.macs,
        "receptive_field": price.receptive_field,
        "px": context.stage.px,
        "train_images": len(context.data.train),
        "val_images": len(context.data.val),
        "threads": context.threads,
        "devices": context.devices,
    }


def _reporter(fixed: dict[str, Any]) -> Callable[[dict[str, Any], Callable[[], State]], None]:
    """Return the listener of `fit` that hands figures and state to Ray Tune."""

    def report(figures: dict[str, Any], state: Callable[[], State]) -> None:
        heads = {name: figures[name] for name in ("score", "epoch", "last")}
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state(), Path(folder) / STATE_FILE)
            checkpoint = tune.Checkpoint.from_directory(folder)
            tune.report({**heads, "figures": {**figures, **fixed}}, checkpoint=checkpoint)

    return report


def load_state(checkpoint: tune.Checkpoint | None) -> State | None:
    """Return the state a checkpoint holds, on the CPU; None for no checkpoint."""
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: State = torch.load(Path(folder) / STATE_FILE, map_location="cpu", weights_only=True)
    return state
