"""Why a trial failed: an exception raised in its worker, a storage that failed, or the death of the worker."""

import re
from dataclasses import dataclass
from pathlib import Path

from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.experiment import Trial

from data.runtime.storage import StorageError

MAX_RETRIES = 2  # times that a trial continues on another worker
MAX_REASON = 200  # characters


@dataclass(frozen=True)
class Failure:
    """Why a trial failed."""

    # True if its worker or node died or could not use the storage, so that another worker may continue the trial
    transient: bool
    reason: str  # one line
    text: str  # the whole error, with its traceback if an exception was raised


def read_failure(trial: Trial) -> Failure:
    """Return why Ray Tune ended a trial, from the error files in the trial's folder on this machine.

    `trial.get_error` reads Ray Tune's storage, where the files arrive later.
    """
    path = trial.error_file and Path(trial.error_file)
    text = path.read_text(encoding="utf-8", errors="replace") if path and path.is_file() else ""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text) if text.strip() else "no error was recorded"  # Ray adds colours
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    error = _load_error(trial)
    if isinstance(error, RayActorError):
        return Failure(True, f"worker died: {_find_cause(lines)}"[:MAX_REASON], text)
    cause = error.cause if isinstance(error, RayTaskError) else error
    words = "" if cause is None else str(cause).strip().partition("\n")[0]
    reason = f"{type(cause).__name__}: {words}" if words else lines[-1]
    return Failure(isinstance(cause, StorageError), reason[:MAX_REASON], text)


def _load_error(trial: Trial) -> BaseException | None:
    """Return the exception of a trial; None if there is none or its class cannot be imported here."""
    try:
        error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # a class of a worker may raise anything while it is loaded
        return None
    return error


def _find_cause(lines: list[str]) -> str:
    """Return the line of Ray's message on a dead worker that names the cause."""
    details = [line for line in lines if "exit detail:" in line]
    return details[-1].rpartition("exit detail:")[2].strip().partition(". ")[0] if details else lines[-1]
