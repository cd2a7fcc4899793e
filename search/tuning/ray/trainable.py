"""The process that trains trials one after the other for Ray Tune, and the reports that it sends."""

import tempfile
import time
from collections import UserDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.actor import exit_actor
from ray.tune.result import DONE, SHOULD_CHECKPOINT, TIME_TOTAL_S
from ray.tune.trainable import wrap_function
from torch import Tensor

from data.runtime.files import find_cache_folder
from data.runtime.process import keep_freed_memory
from data.runtime.storage import fetch_cached
from models.cost import count_macs, measure_latency_ms, measure_receptive_field, probe
from search.config.encoder_weights import ENCODERS
from search.config.stages import list_rungs
from search.training.micro_batches import TrialOutOfMemoryError, is_out_of_memory
from search.training.trainer import STATE_FILE, FitPlan, State, TrialDivergedError, fit
from search.tuning.allocation import CONTEXT_MIB, GPU_SHARE, choose_micro_batch_size, count_measurable_images
from search.tuning.ray.private_api import set_process_title
from search.tuning.ray.trial_spec import StageContext, TrialSpec, load_state

MAX_REPORTS = 1000  # largest number of reports that are sent together
AGE = "age_s"  # seconds between a report and the last one that was sent with it
LOGGED = ("metrics", "rates", "predictions")  # parts of a report that Ray Tune itself does not need
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
            weights=parent["best"]["weights"] if parent else None,
            resume=own,
            limit_s=context.compute_limit_s(own["clock"]["used"] if own else 0.0),
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
        samples=stage.samples,
        micro_batch_size=choose_micro_batch_size(spec.config, stage.px, context.memory_mib),
        max_val_images=count_measurable_images(spec.config, stage, context.limit_s, context.throughput),
    )


def _find_encoder(context: StageContext) -> str | None:
    """Return the file of --encoder-weights, from this machine's cache if it has no access to the driver's."""
    if context.encoder is None or context.storage is None:
        return str(context.encoder) if context.encoder else None
    name = f"{ENCODERS}/{context.encoder.name}"
    fetch_cached(context.storage, [name])
    return str(find_cache_folder() / name)


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
        logged = {"rates": thin_rates(self.rates), "predictions": metrics.get("predictions")}
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


class Worker(wrap_function(train_trial)):  # type: ignore[misc]  # Ray Tune has no types
    """A process that trains one trial after the other and shows the current trial in its process title.

    Each report is sent to the driver once, and without the trial's specification, which the driver already has.
    """

    _held: Sequence[dict[str, Any]] = ()  # reports that are sent later

    def step(self) -> Any:
        """Train until the next report."""
        set_process_title(f"ray::{self.trial_name}")
        return super().step()

    def train_buffered(self, *limits: Any) -> list[dict[str, Any]]:
        """Return the reports of several seconds, which the driver handles together.

        The `limits` are ignored, because Ray 2.60 confuses their seconds with the number of reports. It would also
        continue training while it saves if a report with a checkpoint were sent together with others.
        """
        seconds = self.config["spec"].context.report_s
        results = self._held or add_ages(super().train_buffered(seconds, MAX_REPORTS))
        results, self._held = split_reports(results)
        return results

    def get_auto_filled_metrics(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the fields that Ray Tune adds to a report, without the specification of the trial."""
        return {
            name: value for name, value in super().get_auto_filled_metrics(*args, **options).items() if name != "config"
        }

    def save_checkpoint(self, checkpoint_dir: str = "") -> Any:
        """Return the checkpoint of the last report, whose metrics have been sent."""
        saved = super().save_checkpoint(checkpoint_dir)
        for name in LOGGED:
            saved.metrics.pop(name, None)
        return saved

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare for the next trial; end this process if the last trial does not stop.

        Otherwise Ray Tune would drop the next trial without calling the callbacks.
        """
        self._held = []
        if not super().reset_config(new_config):
            exit_actor()
        return True


def add_ages(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return reports that are sent together, each with the seconds since it was made."""
    now = max(result.get(TIME_TOTAL_S, 0.0) for result in results)
    return [result | {AGE: now - result.get(TIME_TOTAL_S, now)} for result in results]


def split_reports(results: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the reports to send and those to hold back: one that has a checkpoint is sent alone."""
    if len(results) > 1 and results[-1].get(SHOULD_CHECKPOINT):
        return [*results[:-1]], [results[-1]]
    return [*results], []
