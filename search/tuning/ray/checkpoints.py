"""Checkpoints of trials: those that may be needed again are kept and all others deleted, which bounds disk use."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray.tune import Checkpoint

from data.runtime.storage import Place, call_with_retries, is_uri, open_place
from search.records.trials import TrialRecord
from search.training.trainer import STATE_FILE, State
from search.tuning.promotion import select_checkpoints
from search.tuning.ray.trial_spec import load_state

TAIL_BYTES = 1 << 12  # last bytes of a zip file that are read: enough for the end of its directory
FINAL_STATE = ("best", "epoch")  # parts of the state that are kept after a trial has ended: its weights and metrics


class CheckpointStore(dict[str, Checkpoint]):
    """The last checkpoint of every trial that has one, by trial; the seed of the run draws the controls.

    `location` contains a folder for each process of the run, with a folder for each trial. `discard` calls the action
    that deletes or reduces a checkpoint once the records that refer to the checkpoint are safe.
    """

    def __init__(
        self,
        location: Path | str,
        *,
        seed: int,
        objectives: Sequence[str] = ("score",),
        discard: Callable[[Callable[[], None]], None] = lambda action: action(),
    ) -> None:
        super().__init__()
        self.place, self._location = open_place(location), str(location)
        self._seed, self._objectives, self._discard = seed, objectives, discard
        self._kept: dict[str, list[TrialRecord]] = {}  # ended trials that may be promoted, by stage

    def put(self, trial_id: str, checkpoint: Checkpoint) -> None:
        """Store the last checkpoint of a trial and delete the previous one, which another worker may have written."""
        before = self.get(trial_id)
        if before is not None and before.path != checkpoint.path:
            self._discard(partial(_delete, before))
        self[trial_id] = checkpoint

    def finish(self, record: TrialRecord) -> None:
        """Reduce the checkpoint of an ended trial to its weights; delete checkpoints that can no longer be promoted."""
        self.sweep(record.stage, [record])
        if record.trial_id in self:
            self._discard(partial(_keep_weights_only, self[record.trial_id]))

    def sweep(self, stage: str, ended: Sequence[TrialRecord]) -> None:
        """Delete the checkpoints of trials of a stage that have ended and can no longer be promoted.

        `ended` are the trials ended since the last call: a trial not selected among fewer trials is not selected among
        more.
        """
        candidates = [*self._kept.get(stage, []), *ended]
        wanted = select_checkpoints(candidates, seed=self._seed, objectives=self._objectives)
        self._kept[stage] = [record for record in candidates if record.trial_id in wanted]
        for other in candidates:
            if other.trial_id in self and other.trial_id not in wanted:
                self._discard(partial(_delete, self.pop(other.trial_id)))

    def recover(self, trial_id: str, epoch: int) -> State | None:
        """Return the state from which a trial whose worker died continues, and delete its other checkpoints.

        `epoch` is the last epoch that the trial reported.
        """
        recover = partial(self._recover, trial_id, epoch)
        return call_with_retries(self._location, recover) if is_uri(self._location) else recover()

    def _recover(self, trial_id: str, epoch: int) -> State | None:
        self.pop(trial_id, None)
        self.update(find_checkpoints(self.place, {trial_id: epoch}, trial=trial_id))
        self.delete_others(trial_id)
        return load_state(self.get(trial_id))

    def delete_others(self, trial: str = "") -> None:
        """Delete the checkpoints, of one trial or of all, that are not in the store, left by killed processes."""
        kept = {checkpoint.path for checkpoint in self.values()}
        for entry in self.place.list_entries():
            if not entry.base_name.startswith("checkpoint_") or entry.path in kept:
                continue
            if trial in ("", _get_trial(f"{entry.path}/")):
                self._discard(partial(_delete, Checkpoint(entry.path, self.place.filesystem)))


def _delete(checkpoint: Checkpoint) -> None:
    with suppress(OSError):
        checkpoint.filesystem.delete_dir(checkpoint.path)


def _keep_weights_only(checkpoint: Checkpoint) -> None:
    state, content = load_state(checkpoint), io.BytesIO()
    if state is not None and not is_reduced(state):
        torch.save({name: state[name] for name in FINAL_STATE}, content)
        Place(checkpoint.filesystem, checkpoint.path).write(STATE_FILE, content.getvalue())


def is_reduced(state: Mapping[str, Any] | None) -> bool:
    """Return whether a state belongs to a trial that has ended."""
    return state is not None and state.keys() == set(FINAL_STATE)


def find_checkpoints(place: Place, unfinished: Mapping[str, int], *, trial: str = "") -> dict[str, Checkpoint]:
    """Return the last intact checkpoint of every trial, or of `trial`, whichever process wrote it.

    `unfinished` gives the last reported epoch of each trial that will be resumed. A killed process may leave an
    incomplete file, or a checkpoint that it had not reported yet; the previous checkpoint then still exists.
    """
    newest: dict[str, Checkpoint] = {}
    states = [entry for entry in place.list_entries() if entry.base_name == STATE_FILE]
    states.sort(key=lambda entry: (entry.mtime_ns, entry.path))  # some storages give times in whole seconds only
    for path in (entry.path for entry in states):
        trial_id, folder = _get_trial(path), path.rpartition("/")[0]
        if trial not in ("", trial_id) or not _is_whole(place, path):
            continue
        checkpoint = Checkpoint(folder, place.filesystem)
        state = load_state(checkpoint) if trial_id in unfinished else None
        if state is None or state["epoch"] <= unfinished[trial_id]:
            newest[trial_id] = checkpoint
    return newest


def _is_whole(place: Place, path: str) -> bool:
    """Return whether a file is complete: torch's zip files end with their directory."""
    with place.filesystem.open_input_file(path) as file:
        file.seek(max(0, file.size() - TAIL_BYTES))
        return zipfile.is_zipfile(io.BytesIO(file.read()))


def _get_trial(path: str) -> str:
    """Return the trial of a file in a checkpoint, whose folder is in that of the trial."""
    return path.split("/")[-3].partition("_")[0]
