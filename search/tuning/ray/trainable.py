"""The specification of a trial, and the Ray Tune trainable that trains it in a worker and reports each epoch."""

import platform
import random
import tempfile
import time
from collections import UserDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from ray import tune
from ray.tune.result import DONE
from torch import Tensor

from data.data_module import StageData
from data.runtime.files import cache_dir
from data.runtime.process import keep_freed_memory
from data.runtime.storage import call_with_retries, fetch_cached
from models.cost import Throughput, count_macs, measure_latency_ms, measure_receptive_field, probe
from search.config.encoder import ENCODERS
from search.config.stages import Stage, list_rungs
from search.config.trial import TrialConfig
from search.training.micro_batches import TrialOutOfMemoryError, is_out_of_memory
from search.training.trainer import STATE_FILE, FitPlan, State, TrialDivergedError, fit
from search.tuning.allocation import CONTEXT_MIB, GPU_SHARE, choose_micro_batch_size, count_measurable_images

Result = TypeVar("Result")


def _read_boot_id() -> str:
    """Return an id shared by all processes whose time.monotonic() is comparable."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:  # not Linux
        return platform.node()


BOOT_ID = _read_boot_id()


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """The settings that all trials of one stage share."""

    stage: Stage
    data: StageData  # packed arrays, opened again in each worker
    deadline: float | None  # moment of time.monotonic() by which every trial has ended, or None
    cap_s: float | None  # the longest training time of one trial in seconds, or None
    threads: int  # processor threads of one trial
    device: str
    devices: float = 1.0  # cores that one trial occupies, or its fraction of a GPU
    resources: Mapping[str, float] = field(default_factory=lambda: {"CPU": 1})  # reserved by Ray for one trial
    memory_mib: float | None = None  # memory that one trial may use, in MiB; None if running out of it does no harm
    # throughput of one trial; None in a search, where infeasible networks are rejected and all trials are validated on
    # the same images
    throughput: Throughput | None = None
    encoder: Path | None = None  # converted weights of --encoder-weights
    storage: str | None = None  # URI of a storage with the files that this machine's cache may lack
    idle_ms: float | None = None  # as in Constraints
    report_s: float = 1.0  # reports of this many seconds are sent to the driver together
    checkpoint_s: float = 10.0  # a trial is saved at rungs, at its end, and at the first epoch after so many seconds

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with the deadline both on this machine's clock and in seconds from now."""
        clock = None if self.deadline is None else (BOOT_ID, self.deadline, self.deadline - time.monotonic())
        return self.__dict__ | {"deadline": clock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes; another machine, whose clock reads otherwise, counts the seconds from now."""
        self.__dict__.update(state)
        if state["deadline"] is not None:
            boot_id, deadline, left_s = state["deadline"]
            self.__dict__["deadline"] = deadline if boot_id == BOOT_ID else time.monotonic() + left_s

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function that reads or writes a checkpoint; with a storage, repeat it after an error."""
        return call_with_retries(self.storage, function) if self.storage else function()

    def limit(self, used_s: float = 0.0) -> float | None:
        """Return the total training time in seconds of a trial that starts, or resumes after `used_s`, now."""
        bounds = [self.cap_s] if self.cap_s is not None else []
        if self.deadline is not None:
            bounds.append(used_s + max(self.deadline - time.monotonic(), 1.0))
        return min(bounds, default=None)


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """The settings of one trial."""

    trial_id: str  # the first letter of the stage and a number, such as e0007
    parent_id: str  # the trial whose weights initialise this one, or ""
    seed: int  # seed of weights, order and augmentation
    config: TrialConfig
    context: StageContext
    parent: tune.Checkpoint | None = None  # checkpoint of the parent
    own: tune.Checkpoint | None = None  # the last checkpoint of this trial, if it resumes after an interruption
    attempt: int = 0  # how often a worker of this trial has died

    def __str__(self) -> str:
        """Return the name of the trial, which Ray Tune adds to each report."""
        return self.trial_id

    def __deepcopy__(self, memo: dict[int, Any]) -> "TrialSpec":
        """Return this specification, which does not change; Ray Tune copies it three times for each trial."""
        return self


def build_trial_spec(
    context: StageContext,
    number: int,
    config: TrialConfig,
    *,
    seed: int,
    parent_id: str = "",
    parent: tune.Checkpoint | None = None,
) -> TrialSpec:
    """Build the specification of the trial `number` of a stage; its seed is derived from the run's `seed`."""
    name = context.stage.name
    return TrialSpec(
        trial_id=f"{name[0]}{number:04d}",
        parent_id=parent_id,
        seed=random.Random(f"{seed} {name} {number}").randrange(2**31),
        config=config,
        context=context,
        parent=parent,
    )


MAX_RATES = 500  # learning rates in one report; a curve needs no more
Rates = list[tuple[int, float]]


def train_trial(params: dict[str, Any]) -> None:
    """Train the trial of `params["spec"]` and report each epoch to Ray Tune.

    A trial that diverged or ran out of memory is reported as failed with its reason, so that its worker can be reused.
    """
    spec: TrialSpec = params["spec"]
    context = spec.context
    keep_freed_memory()
    torch.set_num_threads(context.threads)
    if context.device == "cuda":
        limit_gpu_memory(context.devices)
    plan = build_fit_plan(spec)
    own = context.call(partial(load_state, spec.own))
    reporter = Reporter(spec, plan, steps=own["clock"]["steps"] if own else 0)
    parent = None if own else context.call(partial(load_state, spec.parent))
    try:
        fit(
            spec.config,
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
        result = {"score": 0.0, "epoch": context.stage.epochs, "last": True, DONE: True, "metrics": {}}
        tune.report({**result, "failed": str(error).splitlines()[0], "replay": getattr(error, "replay", None)})
    finally:
        if context.device == "cuda":
            torch.cuda.empty_cache()  # the next trial of this worker has a network of another size


def limit_gpu_memory(share: float) -> None:
    """Let this process allocate its share of a GPU only, so that it takes no memory from other trials on this GPU."""
    total_mib = torch.cuda.mem_get_info()[1] / 2**20
    torch.cuda.set_per_process_memory_fraction(max(share / 2, GPU_SHARE * share - CONTEXT_MIB / total_mib))


def build_fit_plan(spec: TrialSpec) -> FitPlan:
    """Build the training plan of a trial."""
    context, stage = spec.context, spec.context.stage
    return FitPlan(
        epochs=stage.epochs,
        seed=spec.seed,
        encoder=_find_encoder(context),
        refine=stage.refine,
        device=context.device,
        logged_images=stage.pictures,
        micro_batch_size=choose_micro_batch_size(spec.config, stage.px, context.memory_mib),
        max_val_images=count_measurable_images(spec.config, stage.px, context.cap_s, context.throughput),
    )


def _find_encoder(context: StageContext) -> str | None:
    """Return the file of --encoder-weights, from this machine's cache if it does not see that of the driver."""
    if context.encoder is None or context.storage is None:
        return str(context.encoder) if context.encoder else None
    name = f"{ENCODERS}/{context.encoder.name}"
    fetch_cached(context.storage, [name])
    return str(cache_dir() / name)


def collect_constant_metrics(spec: TrialSpec, plan: FitPlan) -> dict[str, Any]:
    """Return the metrics of a trial that do not change while it trains."""
    context, model, px = spec.context, spec.config.model, spec.context.stage.px
    timed = "latency_ms" in context.stage.objectives
    return {
        **({"latency_ms": round(measure_latency_ms(model, px, idle_ms=context.idle_ms), 3)} if timed else {}),
        "params": probe(model).params,
        "macs": count_macs(model, px),
        "receptive_field": measure_receptive_field(model),
        "px": px,
        "train_images": len(context.data.train),
        "val_images": min(len(context.data.val), plan.max_val_images or len(context.data.val)),
        "threads": context.threads,
        "devices": context.devices,
    }


class Reporter:
    """Passes the reports of `fit` to Ray Tune, with the metrics that do not change while the trial trains.

    The state is saved at the rungs, where ASHA may stop the trial, at the last epoch, and in between if `checkpoint_s`
    of the stage have passed, because saving can take as long as a short epoch. `steps` counts the optimizer steps,
    including those before a trial was continued.
    """

    def __init__(self, spec: TrialSpec, plan: FitPlan, *, steps: int) -> None:
        self.context, self.constants, self.steps = spec.context, collect_constant_metrics(spec, plan), steps
        self.rates: Rates = []
        self.saved_at = time.monotonic()

    def on_step(self, rate: float, loss: Tensor) -> None:
        """Keep the learning rate of one step."""
        self.steps += 1
        self.rates.append((self.steps, rate))

    def report(self, metrics: dict[str, Any], state: Callable[[], State]) -> None:
        """Report one epoch; learning rates and sample images since the last report are kept apart from the metrics.

        The metrics are a UserDict, because Ray Tune would keep statistics of every number in a dict, for each trial.
        """
        top_level = {name: metrics[name] for name in ("score", "epoch", "last")} | {DONE: bool(metrics["last"])}
        logged = {"rates": thin_rates(self.rates), "pictures": metrics.get("predictions")}
        recorded = {name: value for name, value in metrics.items() if name != "predictions"}
        self.rates = []
        result = {**top_level, **logged, "metrics": UserDict({**recorded, **self.constants})}
        stage, late = self.context.stage, time.monotonic() - self.saved_at >= self.context.checkpoint_s
        at_rung = stage.early_stopping and metrics["epoch"] in list_rungs(stage.epochs)
        if not (late or at_rung or metrics["last"]):
            tune.report(result)
            return
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state(), Path(folder) / STATE_FILE)
            self.context.call(partial(tune.report, result, checkpoint=tune.Checkpoint.from_directory(folder)))
        self.saved_at = time.monotonic()


def thin_rates(rates: Sequence[tuple[int, float]]) -> Rates:
    """Return at most MAX_RATES evenly spaced pairs of (step, rate), the first and the last among them."""
    if len(rates) <= MAX_RATES:
        return list(rates)
    stride = (len(rates) - 1) / (MAX_RATES - 1)
    return [rates[round(i * stride)] for i in range(MAX_RATES)]


def read_outcome(result: Mapping[str, Any], metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Return the status and reason of a trial, given its last report and its metrics."""
    if result.get("failed"):
        return "failed", str(result["failed"])
    if not result.get("last"):
        return "stopped", "below the best third of its rung"
    if metrics.get("out_of_time"):
        return "ended_by_budget", "time limit reached, learning rate annealed"
    return "completed", ""


def load_state(checkpoint: tune.Checkpoint | None) -> State | None:
    """Load the training state of a checkpoint on the CPU; return None for no checkpoint."""
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: State = torch.load(Path(folder) / STATE_FILE, map_location="cpu", weights_only=True)
    return state
