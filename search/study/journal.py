"""The journal file in which Optuna keeps the studies of a run."""

import copy
import json
import warnings
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from data.runtime.files import write_atomically

STUDY_NAME = "explore"  # name of the search's study; the study of a later stage is named after the stage
_WAITING = (TrialState.WAITING,)


class RunJournal(BaseJournalBackend):
    """A journal for Optuna, in the format of its own backend, without a lock and without fsync after each line.

    One process holds the run folder and each line is one write; the lock of a killed process would delay the next one
    by half a minute. A power failure may lose the last lines; trials.jsonl keeps the trials. An incomplete last line is
    removed. The file is read only if another object has written to it, because Optuna asks for the entries seventy
    times per trial.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lines, self._bytes = path, 0, 0  # lines and bytes that have been read
        self._written = deque[dict[str, Any]]()  # entries of this object that have not been read back
        with path.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the entries from `log_number_from` on, which is the first one that was not read yet."""
        assert log_number_from == self._lines
        while self._written:
            self._lines += 1
            yield self._written.popleft()
        if self._path.stat().st_size == self._bytes:
            return
        with self._path.open("rb") as file:
            file.seek(self._bytes)
            for line in file:
                self._lines, self._bytes = self._lines + 1, self._bytes + len(line)
                yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append one JSON line per entry; they are not read back unless another object has written in between."""
        content = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with self._path.open("ab", buffering=0) as file:
            is_next = file.tell() == self._bytes
            file.write(content)
        if is_next:
            self._bytes += len(content)
            self._written += logs


def repair_journal(path: Path) -> int:
    """Truncate a journal before its first damaged line, which a power failure may leave, and keep a copy.

    Each line depends on those before it. Return the number of removed lines, not counting an incomplete last one.
    """
    content = path.read_bytes() if path.exists() else b""
    lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    intact = next((i for i, line in enumerate(lines) if not _is_object(line)), len(lines))
    if intact < len(lines):
        path.with_name(path.name + ".damaged").write_bytes(content)
        write_atomically(path, lambda file: file.writelines(lines[:intact]), durable=True)
    return len(lines) - intact


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


class RunStorage(JournalStorage):
    """The studies of a run.

    `select` selects the trials that are read from a study, such as those to which a sampler is fitted. A selection is
    cached until a trial begins or ends, that of waiting trials until one is added or begins: Optuna requests these
    before each trial, and the sampler reads the trials ten times per suggestion.
    """

    select: Callable[[Sequence[FrozenTrial]], list[FrozenTrial]] | None = None

    def __init__(self, backend: BaseJournalBackend) -> None:
        super().__init__(backend)
        self._selected: dict[tuple[int, tuple[TrialState, ...] | None], list[FrozenTrial]] = {}

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Begin a trial, or add one that waits, and return its id in the storage."""
        self._forget(waiting=template_trial is not None)
        return super().create_new_trial(study_id, template_trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Change the state of a trial; return False if another process has taken a waiting one."""
        self._forget(waiting=state == TrialState.RUNNING)
        return super().set_trial_state_values(trial_id, state, values)

    def _forget(self, *, waiting: bool) -> None:
        """Discard the cached selections, including the waiting trials if `waiting`."""
        kept = {} if waiting else {key: found for key, found in self._selected.items() if key[1] == _WAITING}
        self._selected = kept

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study in order, optionally only those in `states`."""
        if self.select is None:
            return super().get_all_trials(study_id, deepcopy, states)
        key = study_id, None if states is None else tuple(state for state in TrialState if state in states)
        if key not in self._selected:
            self._selected[key] = self.select(super().get_all_trials(study_id, deepcopy=False, states=states))
        return copy.deepcopy(self._selected[key]) if deepcopy else self._selected[key]


def open_journal(path: Path) -> RunStorage:
    """Return the storage of a run's studies, and limit Optuna's log to errors."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return RunStorage(RunJournal(path))


def find_study(storage: BaseStorage, name: str = STUDY_NAME) -> optuna.Study | None:
    """Load the study of that name, by default the one of the search; return None if there is none."""
    names = {study.study_name for study in storage.get_all_studies()}
    return optuna.load_study(study_name=name, storage=storage) if name in names else None


def create_study(
    storage: BaseStorage,
    name: str = STUDY_NAME,
    *,
    objectives: Sequence[str] = ("score",),
    sampler: BaseSampler | None = None,
) -> optuna.Study:
    """Open or create a study that maximises the first of its objectives, the score, and minimises the others."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * (len(objectives) - 1)],
        sampler=sampler,
        pruner=NopPruner(),
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(objectives))
    return study


def open_trial(storage: BaseStorage, study: optuna.Study, number: int) -> optuna.Trial:
    """Return a stored trial that can still be changed."""
    study_id = storage.get_study_id_from_name(study.study_name)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))
