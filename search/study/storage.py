"""The file in which Optuna keeps a run's studies. Knows no trial."""

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


class RunJournal(JournalFileBackend):
    """Optuna's journal without a lock and without waiting for the disk after each of a trial's thirty lines.

    The run folder is held by one process, and a line is one write: a lock would only be left behind by a process
    that is killed, for the next to wait half a minute for. What a power failure may cost is the last lines; the trials
    themselves are in trials.jsonl.

    Args:
        path: Of the file; made here if there is none.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)  # of half a line, which a killed process left

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines of JSON."""
        with self._path.open("ab", buffering=0) as file:
            file.write(b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs))


def open_journal(path: Path) -> JournalStorage:
    """Return the storage of a run's studies; from now on Optuna, which would announce them, only says errors."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return JournalStorage(RunJournal(path))
