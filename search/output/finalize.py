"""Finish a run: select the best trial and the Pareto front, write best/ and front/, and record them in run.json."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.data_module import DataModule
from data.runtime.cli import format_count
from models.config import ModelConfig
from models.cost import describe_device, measure_latency_ms
from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.output.budget_advice import describe_outlook, warn_of_guess
from search.output.model_card import write_card
from search.output.model_folder import TrainedModel, divide_time, write_model_folder
from search.records.console import RunConsole, describe_trial
from search.records.run_dir import read_lines, write_json
from search.records.run_state import RunState, format_time
from search.records.trials import TrialRecord, TrialTable
from search.tuning.promotion import group_finalists, rank_trials, select_pareto_front
from search.tuning.rank_correlation import compute_mean_interval
from search.tuning.ray.checkpoints import Checkpoint, CheckpointStore
from search.tuning.ray.trial_spec import load_state

MAX_MEASURED = 2000  # images of each split on which a final model is measured
FRONT_SHARE = 0.15  # fraction of the final time for the latencies of the Pareto front
CLOSING_S = 4.0  # seconds reserved for ending Ray after the last measurement
REPORT_S, REPORT_TRIAL_S = 3.0, 0.01  # seconds reserved for the report: fixed, and per trial


class NoModelError(RuntimeError):
    """No trial ended with a model."""


@dataclass(frozen=True)
class FinalModels:
    """Writes the models of a run."""

    stages: Sequence[Stage]
    run_state: RunState  # state of the run, to which the results are added
    table: TrialTable
    checkpoints: CheckpointStore  # weights of the trials
    data_module: DataModule

    def write(self, *, keep: int, wall_s: float | None) -> tuple[TrialRecord, dict[str, Any]]:
        """Write best/ and `keep` models of front/; return the best trial and its metrics, or raise NoModelError."""
        run_state = self.run_state
        group = select_best(self.stages, self.table, self.checkpoints)
        if not group:
            if not self.table.records:
                raise NoModelError("the budget ended before a trial began; start again with a larger --budget")
            raise NoModelError(f"no trial ended with a model; see the reasons in {run_state.folder / 'trials.csv'}")
        reserved_s = CLOSING_S + REPORT_S + REPORT_TRIAL_S * len(self.table.records)
        deadline = None if wall_s is None else run_state.began + wall_s - reserved_s
        models_until = None if deadline is None else deadline - FRONT_SHARE * (deadline - time.monotonic())
        seeds = summarise_seeds(group) if len(group) > 1 else None
        metrics = self._write_best(group[0], seeds, next(divide_time(models_until, 1 + keep)))
        run_state.best, run_state.seeds = group[0].trial_id, seeds
        run_state.data = self.data_module.to_dict()  # later stages have decoded more images
        run_state.write()  # a run that is killed from here on keeps best/
        run_state.front = self._write_front(keep, deadline)
        return group[0], metrics

    def _write_best(self, record: TrialRecord, seeds: dict[str, Any] | None, deadline: float | None) -> dict[str, Any]:
        """Write best/ unless it is unchanged, and record that the test split is read."""
        run_state, folder = self.run_state, self.run_state.folder / "best"
        reports = read_lines(run_state.folder / "reports.jsonl")
        more = {"outlook": describe_outlook(record, self.table.records, reports), **({"seeds": seeds} if seeds else {})}
        if run_state.best == record.trial_id and (folder / "metrics.json").exists():
            metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8")) | more
            write_json(folder / "metrics.json", metrics)
            write_card(folder)
            return metrics
        reading: dict[str, Any] = {"time": format_time(), "trial_id": record.trial_id}
        if self.data_module.sizes()["test"]:
            run_state.test_read = [*(run_state.test_read or []), reading]
            run_state.write()
        checkpoint = self.checkpoints[record.trial_id]
        metrics = write_model(record, checkpoint, self.data_module, folder, more=more, deadline=deadline)
        reading["images"] = metrics.get("test", {}).get("images", 0)
        return metrics

    def _write_front(self, keep: int, deadline: float | None) -> list[dict[str, Any]]:
        """Return the Pareto front; replace front/ by `keep` of its models, excluding the best."""
        front = list_pareto_front(self.stages, self.table, self.checkpoints, deadline=deadline)
        out = self.run_state.folder / "front"
        shutil.rmtree(out, ignore_errors=True)
        kept = [line["trial_id"] for line in front if line["trial_id"] != self.run_state.best][:keep]
        for trial_id, until in zip(kept, divide_time(deadline, len(kept)), strict=True):
            record, checkpoint = self.table.records[trial_id], self.checkpoints[trial_id]
            write_model(record, checkpoint, self.data_module, out / trial_id, splits=("val",), deadline=until)
        return front


def write_model(
    record: TrialRecord,
    checkpoint: Checkpoint,
    data_module: DataModule,
    folder: Path,
    *,
    splits: Sequence[str] = ("val", "test"),
    more: Mapping[str, Any] | None = None,
    deadline: float | None,
) -> dict[str, Any]:
    """Write a model folder from a trial's checkpoint; return the content of its metrics.json.

    The model is measured on each of `splits` that the data contain; only the best model uses the test split. Each split
    has its share of the time until `deadline`, a moment of time.monotonic(). `more` is added to metrics.json.
    """
    state, reference, px = load_state(checkpoint), data_module.reference, int(record.metrics["px"])
    assert state is not None and reference is not None
    config = TrialConfig.from_flat(record.config)
    model = TrainedModel(
        config=config,
        weights=state["best"]["weights"],
        stats=reference.stats.for_network(config.model),
        score=reference.score,
        px=px,
        trial_id=record.trial_id,
        scale=data_module.depth_scale,
        trained_on=_describe_training(record, data_module),
    )
    sizes = {name: size for name, size in data_module.sizes().items() if size and name in splits}
    packing_until = deadline and (time.monotonic() + deadline) / 2
    packs = {}
    for name, until in zip(sizes, divide_time(packing_until, len(sizes)), strict=True):
        packs[name] = data_module.pack(name, px, count=MAX_MEASURED, deadline=until)
    leaks = data_module.split == "random"
    return write_model_folder(
        model, folder, packs, sizes=sizes, leaks=leaks, more=more or {}, deadline=deadline, show=data_module.show
    )


def _describe_training(record: TrialRecord, data_module: DataModule) -> dict[str, Any]:
    """Return the training data and the length of a training as plain values."""
    dataset = data_module.dataset
    data: dict[str, Any] = {"data": dataset.root.name, "fingerprint": dataset.fingerprint}
    data |= {"split": data_module.split_by, "fingerprints": [part.fingerprint for part in dataset.folders]}
    counts = {name: record.metrics.get(name, 0) for name in ("train_images", "images_seen", "epochs")}
    kinds = sorted({part.origin for part in dataset.folders})
    trial = {"stage": record.stage, "parent_id": record.parent_id}
    described = {"kinds": kinds, "sizes": data_module.sizes(), "warnings": data_module.list_warnings()}
    return data | described | trial | counts


def report_best(best: TrialRecord, metrics: Mapping[str, Any], console: RunConsole) -> None:
    """Print the best trial, the interval over its seeds, the outlook, and what limits the use of the model."""
    console.print(f"  {describe_trial(best)}", lead="best", style="bold green")
    if "seeds" in metrics:
        seeds = metrics["seeds"]
        spread = f"{seeds['mean']:.3f}, 95 % interval {seeds['low']:.3f} to {seeds['high']:.3f}"
        console.print(f"  over {len(seeds['scores'])} seeds: mean score {spread}")
    console.print(f"  {metrics['outlook']}")
    if warning := warn_of_guess(metrics):
        console.print(f"  {warning}", style="yellow")
    if metrics["note"]:
        console.print(metrics["note"])


def select_best(stages: Sequence[Stage], table: TrialTable, checkpoints: Mapping[str, Checkpoint]) -> list[TrialRecord]:
    """Return the best trial of the last stage with a model, followed by its repeats with other seeds.

    Repeated configurations are ranked by the mean over seeds; within the best one, its best seed comes first.
    """
    for stage in [stage for stage in reversed(stages) if stage.kind != "repeat"]:
        repeats = [other.name for other in stages if other.kind == "repeat" and other.px == stage.px]
        records = [record for name in (stage.name, *repeats) for record in table.list_ended(name)]
        for group in group_finalists(records):
            if group[0].trial_id in checkpoints:
                return group
    return []


def summarise_seeds(group: Sequence[TrialRecord]) -> dict[str, Any]:
    """Return the scores of one configuration trained with several seeds, their mean and its 95 % interval."""
    scores = [record.score for record in group]
    return {"trials": [record.trial_id for record in group], "scores": scores, **compute_mean_interval(scores)}


def list_pareto_front(
    stages: Sequence[Stage], table: TrialTable, checkpoints: Mapping[str, Checkpoint], *, deadline: float | None
) -> list[dict[str, Any]]:
    """Return the Pareto front of score against parameters, multiply-adds and latency, best score first.

    Candidates are the best trial with a model for each network and image size; trials of the search, which used only
    part of the data, only in a run without other models. Costs are at the model's own image size; after `deadline` no
    further latency is measured.
    """
    models = [[r for r in table.list_ended(stage.name) if r.trial_id in checkpoints] for stage in stages]
    networks: dict[tuple[ModelConfig, int], TrialRecord] = {}
    for record in rank_trials([r for stage in models[1:] for r in stage] or models[0]):
        networks.setdefault((TrialConfig.from_flat(record.config).model, int(record.metrics["px"])), record)
    costs: dict[str, dict[str, float]] = {}
    for (model, px), record in networks.items():
        costs[record.trial_id] = {"params": record.metrics["params"], "macs": record.metrics["macs"]}
        if deadline is None or time.monotonic() < deadline:
            costs[record.trial_id]["latency_ms"] = round(measure_latency_ms(model, px), 3)  # no trial is training
    unknown = {"latency_ms": float("inf")}
    front = select_pareto_front([*networks.values()], lambda r: tuple((unknown | costs[r.trial_id]).values()))
    about = [{"trial_id": r.trial_id, "stage": r.stage, "px": r.metrics["px"], "score": r.score} for r in front]
    device = {"latency_on": describe_device()}
    return [{**line, **(cost := costs[line["trial_id"]]), **(device if "latency_ms" in cost else {})} for line in about]


def describe_front(front: Sequence[Mapping[str, Any]], best: str, keep: int) -> str:
    """Return why front/ contains fewer than `keep` models besides the best one; "" if it does not."""
    others = sum(line["trial_id"] != best for line in front)
    if others >= keep:
        return ""
    return f"--keep {keep}: front/ has {format_count(others, 'model')}; no other network is on the Pareto front"
