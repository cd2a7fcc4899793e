"""The weights that trials left: those that may be asked for again, and no more, so that the disk stays bounded."""

import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from ray.tune import Checkpoint

from search.records.trials import TrialRecord
from search.tuning.stages import worth_keeping
from search.tuning.trainable import STATE_FILE, load_state

ENDED = ("model", "epoch")  # what is kept of the state of a trial that has ended: nothing goes on from its optimizer


class CheckpointStore(Mapping[str, Checkpoint]):
    """The last checkpoint of every trial that has one, by trial.

    Args:
        seed: Of the run; controls are drawn by it.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._checkpoints: dict[str, Checkpoint] = {}

    def __getitem__(self, trial_id: str) -> Checkpoint:
        return self._checkpoints[trial_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._checkpoints)

    def __len__(self) -> int:
        return len(self._checkpoints)

    def put(self, trial_id: str, checkpoint: Checkpoint) -> None:
        """Take the last checkpoint of a trial."""
        self._checkpoints[trial_id] = checkpoint

    def end(self, record: TrialRecord, of_stage: Sequence[TrialRecord]) -> None:
        """Keep the weights of a trial that has ended, if they are worth keeping, and of the others of its stage.

        Args:
            record: The trial.
            of_stage: All trials of its stage that have ended.
        """
        self.sweep(of_stage)
        if record.trial_id in self:
            _keep_weights_only(Path(self[record.trial_id].path))

    def sweep(self, of_stage: Sequence[TrialRecord]) -> None:
        """Delete the weights of those trials of a stage that have ended and are not worth keeping."""
        wanted = worth_keeping(of_stage, seed=self._seed)
        for other in of_stage:
            if other.trial_id in self and other.trial_id not in wanted:
                shutil.rmtree(self._checkpoints.pop(other.trial_id).path, ignore_errors=True)

    def clear_beside(self, folder: Path) -> None:
        """Delete the checkpoints below Ray Tune's folder that are not on the shelf: what killed processes left."""
        kept = {Path(checkpoint.path).resolve() for checkpoint in self.values()}
        for path in folder.glob("*/*/checkpoint_*"):
            if path.resolve() not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _keep_weights_only(folder: Path) -> None:
    path, partial = folder / STATE_FILE, folder / (STATE_FILE + ".partial")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state.keys() != set(ENDED):
        torch.save({name: state[name] for name in ENDED}, partial)
        partial.replace(path)


def saved_checkpoints(folder: Path, unfinished: Mapping[str, int]) -> dict[str, Checkpoint]:
    """Return the last whole checkpoint of every trial that left one, whichever process it ran in.

    A process that is killed may leave half a file, or one whose report it never wrote; the checkpoint before it is then
    still there.

    Args:
        folder: Holds a folder for each process, with a folder for each trial.
        unfinished: The epoch that each trial that goes on has reported.
    """
    newest: dict[str, Checkpoint] = {}
    for path in sorted(folder.glob(f"*/*/checkpoint_*/{STATE_FILE}"), key=lambda path: path.stat().st_mtime_ns):
        trial_id = path.parents[1].name.partition("_")[0]
        if not zipfile.is_zipfile(path):  # as torch writes them, with the table of contents at the end
            continue
        checkpoint = Checkpoint.from_directory(str(path.parent))
        state = load_state(checkpoint) if trial_id in unfinished else None
        if state is None or state["epoch"] <= unfinished[trial_id]:
            newest[trial_id] = checkpoint
    return newest
