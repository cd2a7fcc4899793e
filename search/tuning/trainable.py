"""The Ray Tune trainable: the data of a stage and a configuration around `fit`."""

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune
from torch import Tensor

from data.data_module import StageData
from models.cost import measure_cost
from search.budget.allocation import choose_micro_batch_size, count_measurable_images
from search.config.trial import TrialConfig
from search.training.micro_batches import TrialOutOfMemoryError, is_out_of_memory
from search.training.trainer import STATE_FILE, FitPlan, State, TrialDivergedError, fit
from search.tuning.stages import Stage

MOST_RATES = 500  # learning rates that one report carries; a curve needs no more
Rates = list[tuple[int, float]]


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
        memory_mib: Memory that one trial may fill, in MiB; None where running out of it does no harm.
        speed: Multiply-adds a second that one trial trains; None in a search, whose networks are fast enough, and all
            measured on the same images.
    """

    stage: Stage
    data: StageData
    deadline: float | None
    cap_s: float | None
    threads: int
    device: str
    devices: float = 1.0
    memory_mib: float | None = None
    speed: float | None = None

    def limit(self, used_s: float = 0.0) -> float | None:
        """Return the seconds that a trial may train in all when it starts, or goes on after `used_s`, now."""
        bounds = [self.cap_s] if self.cap_s is not None else []
        if self.deadline is not None:
            bounds.append(used_s + max(self.deadline - time.time(), 1.0))
        return min(bounds, default=None)


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """What one trial is told.

    Attributes:
        trial_id: Stage letter and a number, such as e0007.
        parent_id: The trial whose weights it starts from, or "".
        seed: Its own.
        config: Sections of plain values.
        context: What it shares with the others of its stage.
        parent: Checkpoint of the parent, whose weights it starts from.
        own: Its own last checkpoint, where it goes on after an interruption.
        racing: Whether it may be stopped for doing worse than others.
    """

    trial_id: str
    parent_id: str
    seed: int
    config: dict[str, Any]
    context: StageContext
    parent: tune.Checkpoint | None = None
    own: tune.Checkpoint | None = None
    racing: bool = False


def new_trial_spec(
    context: StageContext,
    number: int,
    config: dict[str, Any],
    *,
    seed: int,
    parent_id: str = "",
    parent: tune.Checkpoint | None = None,
    racing: bool = False,
) -> TrialSpec:
    """Return the entry of the stage's trial of that number, with a seed of its own drawn from the run's `seed`."""
    name = context.stage.name
    return TrialSpec(
        trial_id=f"{name[0]}{number:04d}",
        parent_id=parent_id,
        seed=random.Random(f"{seed} {name} {number}").randrange(2**31),
        config=config,
        context=context,
        parent=parent,
        racing=racing,
    )


def train_trial(params: dict[str, Any]) -> None:
    """Train one entry of a stage and report each epoch to Ray Tune.

    A trial that diverged or did not fit in memory is reported as failed, with its reason, so that its worker can be
    used again.
    """
    spec: TrialSpec = params["spec"]
    context = spec.context
    torch.set_num_threads(context.threads)
    config = TrialConfig.from_dict(spec.config)
    plan = fit_plan(spec, config)
    reporter = Reporter(constants(config, context, plan))
    own = load_state(spec.own)
    parent = None if own else load_state(spec.parent)
    try:
        fit(
            config,
            context.data,
            plan,
            report=reporter.report,
            on_step=reporter.on_step,
            weights=parent["model"] if parent else None,
            resume=own,
            limit=context.limit(own["clock"]["used"] if own else 0.0),
        )
    except RuntimeError as error:
        if not (isinstance(error, TrialDivergedError | TrialOutOfMemoryError) or is_out_of_memory(error)):
            raise
        reason = str(error).splitlines()[0]
        seen = {"score": 0.0, "epoch": context.stage.epochs, "last": True, "metrics": {}}
        tune.report({**seen, "failed": reason, "replay": getattr(error, "replay", None)})
    finally:
        if context.device == "cuda":
            torch.cuda.empty_cache()  # the worker is used again, for a network of another size


def fit_plan(spec: TrialSpec, config: TrialConfig) -> FitPlan:
    """Return how long and on what an entry trains."""
    context, stage = spec.context, spec.context.stage
    return FitPlan(
        epochs=stage.epochs,
        seed=spec.seed,
        refine=stage.refine,
        device=context.device,
        loader_workers=min(context.threads - 1, 4) if context.device == "cuda" else 0,
        logged_images=stage.pictures,
        micro_batch_size=choose_micro_batch_size(config, stage.px, context.memory_mib),
        max_val_images=count_measurable_images(config, stage.px, context.cap_s, context.speed),
    )


def constants(config: TrialConfig, context: StageContext, plan: FitPlan) -> dict[str, Any]:
    """Return the metrics of a trial that do not change while it trains."""
    price = measure_cost(config.model, context.stage.px)
    return {
        "params": price.params,
        "macs": price.macs,
        "receptive_field": price.receptive_field,
        "px": context.stage.px,
        "train_images": len(context.data.train),
        "val_images": min(len(context.data.val), plan.max_val_images or len(context.data.val)),
        "threads": context.threads,
        "devices": context.devices,
    }


class Reporter:
    """Listens to `fit` and hands metrics, state, learning rates and pictures to Ray Tune.

    Args:
        fixed: Figures that do not change while the trial trains.
    """

    def __init__(self, fixed: dict[str, Any]) -> None:
        self.fixed, self.steps = fixed, 0
        self.rates: Rates = []

    def on_step(self, rate: float, loss: Tensor) -> None:
        """Keep the learning rate of one step."""
        del loss
        self.steps += 1
        self.rates.append((self.steps, rate))

    def report(self, metrics: dict[str, Any], state: Callable[[], State]) -> None:
        """Report one epoch, and what happened since the last; rates and pictures stay out of the metrics."""
        heads = {name: metrics[name] for name in ("score", "epoch", "last")}
        seen = {"rates": thinned(self.rates), "pictures": metrics.get("predictions")}
        kept = {name: value for name, value in metrics.items() if name != "predictions"}
        self.rates = []
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state(), Path(folder) / STATE_FILE)
            checkpoint = tune.Checkpoint.from_directory(folder)
            tune.report({**heads, **seen, "metrics": {**kept, **self.fixed}}, checkpoint=checkpoint)


def thinned(rates: Sequence[tuple[int, float]]) -> Rates:
    """Return at most MOST_RATES of (step, rate), evenly spaced, first and last among them."""
    if len(rates) <= MOST_RATES:
        return list(rates)
    stride = (len(rates) - 1) / (MOST_RATES - 1)
    return [rates[round(i * stride)] for i in range(MOST_RATES)]


def outcome(result: Mapping[str, Any], metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Return status and reason of a trial from its last report and its metrics."""
    if result.get("failed"):
        return "failed", str(result["failed"])
    if not result.get("last"):
        return "stopped", "below the best third of its rung"
    if metrics.get("out_of_time"):
        return "timed_out", "cut by the clock, annealed"
    return "completed", ""


def load_state(checkpoint: tune.Checkpoint | None) -> State | None:
    """Return the state a checkpoint holds, on the CPU; None for no checkpoint."""
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: State = torch.load(Path(folder) / STATE_FILE, map_location="cpu", weights_only=True)
    return state
