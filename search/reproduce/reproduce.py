"""Train a recorded trial again and compare its metrics with the record, epoch by epoch."""

import difflib
import io
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from data.data_module import StageData, load_data_module
from data.runtime.progress import Progress, progress_bar
from data.runtime.storage import join, name_storage, open_place
from models.config import ConfigError
from search.config.encoder_weights import EncoderWeights
from search.config.plugins import load_plugins
from search.config.trial import TrialConfig
from search.records.mirror import CHECKPOINTS
from search.records.run_dir import RunDirError, read_lines, require_fields
from search.records.run_state import check_trained, describe_process, load_run_json
from search.records.trials import TrialRecord, TrialTable
from search.training.micro_batches import TrialOutOfMemoryError
from search.training.trainer import STATE_FILE, FitPlan, State, TrialDivergedError, fit

PACKAGES = ("torch", "numpy", "albumentations", "opencv-python-headless")  # packages whose versions affect the metrics
NOT_COMPARED = {"train_s", "fit_s", "predictions", "replay"}  # times, and report entries that are not metrics
SIZES = ("px", "train_images", "val_images")
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TrialHistory:
    """The records of one trial."""

    record: TrialRecord
    config: TrialConfig
    plan: FitPlan  # with the recorded device
    reports: list[dict[str, Any]]  # lines of reports.jsonl, one per epoch
    replays: list[dict[str, Any]]  # the `replay` entry of each begun epoch, including a failed last one
    sizes: dict[str, int]  # px, train_images and val_images

    @property
    def failed(self) -> bool:
        """True if the trial failed."""
        return self.record.status == "failed"

    @property
    def steps(self) -> int:
        """Number of recorded optimizer steps."""
        batch_size = min(self.config.optim.batch_size, self.sizes["train_images"])
        return int(self.reports[-1]["images_seen"]) // batch_size if self.reports else 0

    def describe(self) -> str:
        """Describe the trial in one line."""
        r, model = self.record, self.config.model
        start = f"from the weights of {r.parent_id}" if r.parent_id else "from new weights"
        end = ": ".join(filter(None, (r.status or "not ended", r.reason)))
        network = f"{model.arch} of width {model.width}, seed {r.seed}, {start}"
        return f"{r.trial_id} ({r.stage}): {network}; recorded epochs: {len(self.reports)}; {end}"


class RunRecords:
    """The records of a run folder, read only; raises RunDirError if they are missing or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.content = folder, load_run_json(folder)
        check_trained(self.content, folder / "run.json")
        if not self.content["stages"]:
            raise RunDirError(f"{folder}: the run ended before its first stage, so it has no trials")
        load_plugins(self.content["options"].get("plugins", {}), folder)
        self.table = TrialTable.load(folder)

    def load_history(self, trial_id: str) -> TrialHistory:
        """Return the records of a trial; raise RunDirError if there are none or they are insufficient."""
        if trial_id not in self.table.records:
            close = ", ".join(difflib.get_close_matches(trial_id, self.table.records, cutoff=0.0))
            raise RunDirError(f"{trial_id!r} is not a trial of {self.folder}; similar: {close or 'none'}")
        record, reports = self.table.records[trial_id], self._read_reports(trial_id)
        if any("replay" not in line for line in reports):
            raise RunDirError(f"{self.folder} contains no clock readings, so {trial_id} cannot be reproduced")
        replays = [line["replay"] for line in reports] + self._read_failed_replay(record)
        if not replays:
            raise RunDirError(f"{trial_id} has no recorded epoch")
        for replay in replays:
            require_fields(replay, {"plan": dict, "threads": int, "clock": list}, self.folder / "reports.jsonl")
        try:
            config, plan = TrialConfig.from_flat(record.config), FitPlan(**replays[0]["plan"])
        except (ConfigError, TypeError) as error:
            reason = f"was trained by another version ({error}); it cannot be reproduced"
            raise RunDirError(f"{trial_id} {reason}") from error
        sizes = self._read_sizes(record, reports)
        return TrialHistory(record=record, config=config, plan=plan, reports=reports, replays=replays, sizes=sizes)

    def load_data(self, history: TrialHistory) -> StageData:
        """Return the data that a trial was trained on; raise DataError if they have changed."""
        data_module, first = load_data_module(self.content), self.content["stages"][0]
        data_module.load_recorded_data(**{name: first[name] for name in SIZES})  # sets statistics and sigma
        return data_module.load_recorded_data(**history.sizes)

    def find_weights(self, trial_id: str) -> State | None:
        """Return the weights of a trial's best epoch on the CPU, or None if its last checkpoint is gone."""
        last_epoch, storage = self._read_reports(trial_id)[-1]["epochs"], self.content["options"].get("storage")
        location = join(storage, CHECKPOINTS) if storage else self.folder / CHECKPOINTS
        with name_storage(str(location)):
            place = open_place(location)
            paths = [name for name in place.list_files() if PurePosixPath(name).match(f"{trial_id}_*/*/{STATE_FILE}")]
            contents = [place.read(path) for path in paths]
        for content in contents:
            if zipfile.is_zipfile(io.BytesIO(content)):  # torch writes zip files; a truncated file is not one
                state: State = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                if state["epoch"] == last_epoch:
                    weights: State = state["best"]["weights"]
                    return weights
        return None

    def describe_changes(self) -> list[str]:
        """Return one line for each package version, and the platform, that differs from the run's."""
        here, there = describe_process(), self.content
        pairs = [(name, there["versions"].get(name), here["versions"].get(name)) for name in PACKAGES]
        pairs.append(("platform", there["platform"], here["platform"]))
        return [f"note: {name} was {was}, is {now}; metrics may differ" for name, was, now in pairs if was != now]

    def _read_reports(self, trial_id: str) -> list[dict[str, Any]]:
        return [line for line in read_lines(self.folder / "reports.jsonl") if line["trial_id"] == trial_id]

    def _read_sizes(self, record: TrialRecord, reports: list[dict[str, Any]]) -> dict[str, int]:
        stages = [s for s in self.content["stages"] if s["name"] == record.stage and s["began_s"] <= record.started_s]
        source: dict[str, Any] = next(iter([*reports, *reversed(stages)]), {})
        require_fields(source, dict.fromkeys(SIZES, int), self.folder / "reports.jsonl")
        return {name: source[name] for name in SIZES}

    def _read_failed_replay(self, record: TrialRecord) -> list[dict[str, Any]]:
        """Return the replay entry of the epoch in which a trial failed, if it failed."""
        if record.status != "failed":
            return []
        lines = [line for line in read_lines(self.folder / "trials.jsonl") if line["trial_id"] == record.trial_id]
        if "replay" not in lines[-1]:
            raise RunDirError(f"{record.trial_id} failed ({record.reason}), which training cannot reproduce")
        return [lines[-1]["replay"]]


class _EndOfRecordError(Exception):
    """All recorded epochs have been compared. Like Ray, this stops a trial inside its report."""


class Comparison:
    """Trains a trial again and compares each epoch with the record."""

    def __init__(self, history: TrialHistory, log: Log, progress: Progress) -> None:
        self.history, self.log, self.progress = history, log, progress
        self.different: list[str] = []  # a line for each difference
        self.weights: State = {}  # weights of the best epoch, at the end of the record
        self._steps = 0

    def run(self, data: StageData, plan: FitPlan, weights: State | None) -> None:
        """Train with the recorded clock and threads until the end of the record."""
        replays, threads = self.history.replays, torch.get_num_threads()
        clock = [replay["clock"] for replay in replays]
        listeners: dict[str, Any] = {"report": self.report, "on_step": self.on_step}
        torch.set_num_threads(int(replays[0]["threads"]))
        try:
            with suppress(_EndOfRecordError):
                fit(self.history.config, data, plan, **listeners, weights=weights, recorded_clock=clock)
                self._add("", "the training ended; the record continues")
        except (TrialDivergedError, TrialOutOfMemoryError) as error:
            self.compare_failure(error)
        finally:
            torch.set_num_threads(threads)

    def on_step(self, rate: float, loss: Tensor) -> None:
        """Show the progress of the training."""
        self._steps += 1
        self.progress(self._steps, self.history.steps)

    def report(self, metrics: dict[str, Any], state: Callable[[], State]) -> None:
        """Compare one epoch; raise _EndOfRecordError if it is the last recorded one."""
        epoch, recorded = int(metrics["epoch"]), self.history.reports
        if epoch > len(recorded):
            end = f"the record ends with {self.history.record.reason}, the training with score {metrics['score']}"
            self._add(f"epoch {epoch}: ", end)
            raise _EndOfRecordError
        found = find_differences(recorded[epoch - 1], metrics)
        if found:
            more = f", and {len(found) - 1} more metrics" if len(found) > 1 else ""
            self._add(f"epoch {epoch}: ", found[0] + more)
        else:
            self.log(f"  epoch {epoch}: same, score {metrics['score']:.4f}")
        if epoch == len(recorded) and not self.history.failed:
            self.weights = state()["best"]["weights"]
            raise _EndOfRecordError

    def compare_failure(self, error: RuntimeError) -> None:
        """Compare the reason of a failure with the record."""
        reason, recorded = str(error).splitlines()[0], self.history.record
        if self.history.failed and reason == recorded.reason:
            self.log(f"  failed as recorded: {reason}")
        else:
            self._add("", f"it failed, {reason}; the record says {recorded.reason or recorded.status}")

    def _add(self, epoch: str, difference: str) -> None:
        self.different.append(epoch + difference)
        self.log(f"  {epoch}different, {difference}")


def find_differences(recorded: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Return a line for each metric of an epoch that differs, with both values and their distance."""
    now = {"epochs" if name == "epoch" else name: v for name, v in metrics.items() if name not in NOT_COMPARED}
    found = []
    for name, value in now.items():
        was = recorded.get(name)
        if was != value:
            numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (was, value))
            distance = f", {abs(value - was):.3g} apart" if numbers and was is not None else ""
            found.append(f"{name} was {was!r}, is {value!r}{distance}")
    return found


def reproduce_trial(records: RunRecords, trial_id: str, log: Log, *, device: str | None = None) -> Comparison:
    """Train a trial again up to the end of its record; if its parent's weights are gone, train the parent first."""
    history = records.load_history(trial_id)
    recorded = records.content["options"].get("encoder_weights")  # absent in runs of older versions
    path = str(EncoderWeights(**recorded).restore().path) if recorded else None
    plan = replace(history.plan, device=device or history.plan.device, encoder=path)
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise RunDirError(f"{trial_id} was trained on a GPU, and there is none here; try --device cpu")
    data, parent_id = records.load_data(history), history.record.parent_id
    weights, different = records.find_weights(parent_id) if parent_id else None, []
    if parent_id and weights is None:
        log(f"the weights of {parent_id}, from which {trial_id} started, are gone: training it again first")
        parent = reproduce_trial(records, parent_id, log, device=device)
        weights, different = parent.weights, [f"its parent {parent_id}, {line}" for line in parent.different[:1]]
        if not weights:
            raise RunDirError(f"{trial_id} has no weights to start from: {different[0]}")
    log(history.describe())
    with progress_bar(f"reproducing {trial_id}") as progress:
        comparison = Comparison(history, log, progress)
        comparison.different += different
        comparison.run(data, plan, weights)
    return comparison
