"""Checkpoints of trials: those that may be needed again are kept, others are deleted, so that disk use is bounded."""

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ray.tune import Checkpoint

from data.runtime.files import write_atomically
from search.records.trials import TrialRecord
from search.training.trainer import STATE_FILE, State
from search.tuning.promotion import select_checkpoints
from search.tuning.ray.trainable import load_state

FINAL_STATE = ("model", "epoch")  # parts of the state that are kept after a trial has ended, without its optimizer


class CheckpointStore(dict[str, Checkpoint]):
    """The last checkpoint of every trial that has one, by trial; the seed of the run draws the controls."""

    def __init__(self, *, seed: int, objectives: Sequence[str] = ("score",)) -> None:
        super().__init__()
        self._seed, self._objectives = seed, objectives
        self._kept: dict[str, list[TrialRecord]] = {}  # ended trials that may be promoted, by stage

    def put(self, trial_id: str, checkpoint: Checkpoint) -> None:
        """Store the last checkpoint of a trial and delete the one before, which another worker may have written."""
        before = self.get(trial_id)
        if before is not None and before.path != checkpoint.path:
            shutil.rmtree(before.path, ignore_errors=True)
        self[trial_id] = checkpoint

    def finish(self, record: TrialRecord) -> None:
        """Reduce the checkpoint of a trial that has ended to its weights; delete those it leaves no chance."""
        self.sweep(record.stage, [record])
        if record.trial_id in self:
            _keep_weights_only(Path(self[record.trial_id].path))

    def sweep(self, stage: str, ended: Sequence[TrialRecord]) -> None:
        """Delete the checkpoints of trials of a stage that have ended and can no longer be promoted.

        `ended` are those since the last call: a trial that was not selected among fewer trials is not among more.
        """
        candidates = [*self._kept.get(stage, []), *ended]
        wanted = select_checkpoints(candidates, seed=self._seed, objectives=self._objectives)
        self._kept[stage] = [record for record in candidates if record.trial_id in wanted]
        for other in candidates:
            if other.trial_id in self and other.trial_id not in wanted:
                shutil.rmtree(self.pop(other.trial_id).path, ignore_errors=True)

    def recover(self, folder: Path, trial_id: str, epoch: int) -> State | None:
        """Return the state from which a trial whose worker died continues, and delete its other checkpoints.

        `folder` is that of `find_checkpoints`, `epoch` the last that the trial reported.
        """
        self.update(find_checkpoints(folder, {trial_id: epoch}, trial=trial_id))
        for path in folder.glob(f"*/{trial_id}_*/checkpoint_*"):
            if trial_id not in self or path.resolve() != Path(self[trial_id].path).resolve():
                shutil.rmtree(path, ignore_errors=True)
        return load_state(self.get(trial_id))

    def clear_beside(self, folder: Path) -> None:
        """Delete the checkpoints in Ray Tune's folder that are not in the store, left by killed processes."""
        kept = {Path(checkpoint.path).resolve() for checkpoint in self.values()}
        for path in folder.glob("*/*/checkpoint_*"):
            if path.resolve() not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _keep_weights_only(folder: Path) -> None:
    path = folder / STATE_FILE
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not is_reduced(state):
        write_atomically(path, lambda file: torch.save({name: state[name] for name in FINAL_STATE}, file))


def is_reduced(state: Mapping[str, Any] | None) -> bool:
    """Return whether a state is that of a trial that has ended."""
    return state is not None and state.keys() == set(FINAL_STATE)


def find_checkpoints(folder: Path, unfinished: Mapping[str, int], *, trial: str = "*") -> dict[str, Checkpoint]:
    """Return the last intact checkpoint of every trial, or of `trial`, whichever process wrote it.

    `folder` has a folder for each process, with a folder for each trial; workers get its absolute path.
    `unfinished` has the last reported epoch of each trial that will be resumed. A killed process may leave an
    incomplete file, or a checkpoint that it had not reported yet; the one before is then still there.
    """
    newest: dict[str, Checkpoint] = {}
    for path in sorted(
        folder.absolute().glob(f"*/{trial}_*/checkpoint_*/{STATE_FILE}"), key=lambda path: path.stat().st_mtime_ns
    ):
        trial_id = path.parents[1].name.partition("_")[0]
        if not zipfile.is_zipfile(path):  # torch writes zip files, whose directory is at the end
            continue
        checkpoint = Checkpoint.from_directory(str(path.parent))
        state = load_state(checkpoint) if trial_id in unfinished else None
        if state is None or state["epoch"] <= unfinished[trial_id]:
            newest[trial_id] = checkpoint
    return newest
