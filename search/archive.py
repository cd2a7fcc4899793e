"""What a run folder knows of its trials, as training one again needs it. Reads only; knows neither Ray nor Optuna."""

import difflib
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from data.data_module import DataModule, StageData, load_data_module
from models.config import ConfigError
from search.config.trial import TrialConfig
from search.records.files import read_lines, require_fields
from search.records.provenance import describe_process
from search.records.run_dir import RunDirError
from search.records.run_state import check_run_state
from search.records.trials import TrialRecord, TrialTable
from search.training.clock import Readings
from search.training.trainer import STATE_FILE, FitPlan, State

DECIDING = ("torch", "numpy", "albumentations", "opencv-python-headless")  # packages that metrics depend on
_SIZES = ("px", "train_images", "val_images")


class NotOnRecordError(ValueError):
    """A record that is not there, or that a trial cannot be trained again from; the message says why."""


@dataclass(frozen=True, kw_only=True)
class TrialHistory:
    """What is on record of one trial.

    Attributes:
        record: Its row.
        config: What it trained.
        plan: How; the device is that of the record.
        reports: Its lines of reports.jsonl, an epoch each.
        replays: What each epoch that it began needs to be repeated: that in which it failed is the last.
        sizes: px, train_images and val_images.
    """

    record: TrialRecord
    config: TrialConfig
    plan: FitPlan
    reports: list[dict[str, Any]]
    replays: list[dict[str, Any]]
    sizes: dict[str, int]

    @property
    def failed(self) -> bool:
        """Whether it did."""
        return self.record.status == "failed"

    @property
    def threads(self) -> int:
        """Processor threads that it was trained with."""
        return int(self.replays[0]["threads"])

    @property
    def clock(self) -> list[Readings]:
        """Its readings of the clock, epoch by epoch."""
        return [replay["clock"] for replay in self.replays]

    @property
    def steps(self) -> int:
        """Steps of the optimizer on record."""
        batch_size = min(self.config.optim.batch_size, self.sizes["train_images"])
        return int(self.reports[-1]["images_seen"]) // batch_size if self.reports else 0

    @property
    def headline(self) -> str:
        """Say what it is."""
        r, model = self.record, self.config.model
        begins = f"from the weights of {r.parent_id}" if r.parent_id else "from the start"
        what = f"{model.arch} of width {model.width}, seed {r.seed}, {begins}"
        ended = ": ".join(filter(None, (r.status or "not ended", r.reason)))
        return f"{r.trial_id} ({r.stage}): {what}; epochs on record: {len(self.reports)}; {ended}"


class RunRecords:
    """The records of a run.

    Args:
        folder: The run folder.

    Raises:
        RunDirError: It is none, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "run.json"
        try:
            self.content: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise RunDirError(f"{folder}: no run there ({path} cannot be read); name a run folder") from error
        except (TypeError, ValueError) as error:
            raise RunDirError(f"{folder}: {path} is damaged ({error})") from error
        check_run_state(self.content, path)
        if not self.content["stages"]:
            raise RunDirError(f"{folder}: no stage had begun; there is nothing to train again")
        self.table = TrialTable.load(folder)

    def past(self, trial_id: str) -> TrialHistory:
        """Return what is on record of a trial.

        Raises:
            NotOnRecordError: No such trial, or not enough to train it again.
        """
        if trial_id not in self.table.records:
            near = ", ".join(difflib.get_close_matches(trial_id, self.table.records, cutoff=0.0)) or "there are none"
            raise NotOnRecordError(f"{trial_id!r} is no trial of {self.folder}; near it: {near}")
        record = self.table.records[trial_id]
        reports = [line for line in read_lines(self.folder / "reports.jsonl") if line["trial_id"] == trial_id]
        if any("replay" not in line for line in reports):
            raise NotOnRecordError(f"{self.folder} recorded no clock, without which {trial_id} cannot be repeated")
        replays = [line["replay"] for line in reports]
        if record.status == "failed":
            replays.append(self._failure(record))
        if not replays:
            raise NotOnRecordError(f"{trial_id} has no epoch on record")
        for replay in replays:
            require_fields(replay, {"plan": dict, "threads": int, "clock": list}, self.folder / "reports.jsonl")
        return TrialHistory(
            record=record,
            **_training(record, replays[0]),
            reports=reports,
            replays=replays,
            sizes=self._sizes(record, reports),
        )

    def data(self, past: TrialHistory) -> StageData:
        """Return what a trial was trained on.

        Raises:
            DataError: It is not what it was.
        """
        return self._supply.recorded_data(**past.sizes)

    def weights(self, trial_id: str) -> State | None:
        """Return the weights with which a trial ended, on the CPU; None where they are gone."""
        epochs = [line["epochs"] for line in read_lines(self.folder / "reports.jsonl") if line["trial_id"] == trial_id]
        for path in self.folder.glob(f"ray/*/{trial_id}_*/checkpoint_*/{STATE_FILE}"):
            if zipfile.is_zipfile(path):  # as torch writes them; half of one is none
                state: State = torch.load(path, map_location="cpu", weights_only=True)
                if state["epoch"] == epochs[-1]:
                    weights: State = state["model"]
                    return weights
        return None

    def changes(self) -> list[str]:
        """Return what is not as it was when the run was made and may change metrics, a line each."""
        here, there = describe_process(), self.content
        pairs = [(name, there["versions"].get(name), here["versions"][name]) for name in DECIDING]
        pairs.append(("platform", there["platform"], here["platform"]))
        return [f"note: {name} was {was}, is {now}; metrics may differ" for name, was, now in pairs if was != now]

    @cached_property
    def _supply(self) -> DataModule:
        """The run's data, its first stage read: statistics and sigma are those of that."""
        data_module, first = load_data_module(self.content), self.content["stages"][0]
        data_module.recorded_data(**{name: first[name] for name in _SIZES})
        return data_module

    def _sizes(self, record: TrialRecord, reports: list[dict[str, Any]]) -> dict[str, int]:
        stages = [s for s in self.content["stages"] if s["name"] == record.stage and s["began_s"] <= record.started_s]
        source: dict[str, Any] = next(iter([*reports, *reversed(stages)]), {})
        require_fields(source, dict.fromkeys(_SIZES, int), self.folder / "reports.jsonl")
        return {name: source[name] for name in _SIZES}

    def _failure(self, record: TrialRecord) -> dict[str, Any]:
        lines = [line for line in read_lines(self.folder / "trials.jsonl") if line["trial_id"] == record.trial_id]
        if "replay" not in lines[-1]:
            raise NotOnRecordError(f"{record.trial_id} failed ({record.reason}), which no training repeats")
        replay: dict[str, Any] = lines[-1]["replay"]
        return replay


def _training(record: TrialRecord, replay: dict[str, Any]) -> dict[str, Any]:
    """Return configuration and plan of a trial."""
    try:
        return {"config": TrialConfig.from_flat(record.config), "plan": FitPlan(**replay["plan"])}
    except (ConfigError, TypeError) as error:
        raise NotOnRecordError(
            f"{record.trial_id} was trained by another version ({error}); it cannot be repeated"
        ) from error
