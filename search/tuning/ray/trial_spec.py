"""The specification of a trial, which Ray carries to its worker, and what the driver reads of a trial's end."""

import platform
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from ray import tune

from data.data_module import StageData
from data.runtime.storage import call_with_retries
from models.cost import Throughput
from search.config.constraints import UNLIMITED
from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.training.trainer import STATE_FILE, State

Result = TypeVar("Result")


def _read_boot_id() -> str:
    """Return an id shared by all processes whose time.monotonic() is comparable."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:  # not Linux
        return platform.node()


BOOT_ID = _read_boot_id()


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """The settings that all trials of one stage share."""

    stage: Stage
    data: StageData  # packed arrays, opened again in each worker
    deadline: float | None  # moment of time.monotonic() by which every trial has ended, or None
    limit_s: float | None  # seconds that one trial may train; None without a deadline
    threads: int  # processor threads of one trial
    device: str
    throughput: Throughput = UNLIMITED  # throughput of one trial
    devices: float = 1.0  # cores that one trial occupies, or its fraction of a GPU
    reserved: Mapping[str, float] = field(default_factory=lambda: {"CPU": 1})  # resources that Ray reserves for a trial
    memory_mib: float | None = None  # memory that one trial may use, in MiB; None if running out of it does no harm
    encoder: Path | None = None  # converted weights of --encoder-weights
    storage: str | None = None  # URI of a storage with the files that this machine's cache may lack
    idle_ms: float | None = None  # as in Constraints
    report_s: float = 1.0  # reports of this many seconds are sent to the driver together
    checkpoint_s: float = 10.0  # a trial is saved at rungs, at its end, and at the first epoch after so many seconds

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with the deadline both on this machine's clock and in seconds from now."""
        clock = None if self.deadline is None else (BOOT_ID, self.deadline, self.deadline - time.monotonic())
        return self.__dict__ | {"deadline": clock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes; another machine, whose clock reads otherwise, counts the seconds from now."""
        self.__dict__.update(state)
        if state["deadline"] is not None:
            boot_id, deadline, left_s = state["deadline"]
            self.__dict__["deadline"] = deadline if boot_id == BOOT_ID else time.monotonic() + left_s

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function that reads or writes a checkpoint; with a storage, repeat it after an error."""
        return call_with_retries(self.storage, function) if self.storage else function()

    def compute_limit_s(self, used_s: float = 0.0) -> float | None:
        """Return the total training time in seconds of a trial that starts, or resumes after `used_s`, now."""
        bounds = [self.limit_s] if self.limit_s is not None else []
        if self.deadline is not None:
            bounds.append(used_s + max(self.deadline - time.monotonic(), 1.0))
        return min(bounds, default=None)


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """The settings of one trial."""

    trial_id: str  # the first letter of the stage and a number, such as e0007
    parent_id: str  # the trial whose weights initialise this one, or ""
    seed: int  # seed of weights, order and augmentation
    config: TrialConfig
    context: StageContext
    parent: tune.Checkpoint | None = None  # checkpoint of the parent
    own: tune.Checkpoint | None = None  # the last checkpoint of this trial, if it resumes after an interruption
    attempt: int = 0  # how often a worker of this trial has died

    def __str__(self) -> str:
        """Return the name of the trial, which Ray Tune adds to each report."""
        return self.trial_id

    def __deepcopy__(self, memo: dict[int, Any]) -> "TrialSpec":
        """Return this specification, which does not change; Ray Tune copies it three times for each trial."""
        return self


def build_trial_spec(
    context: StageContext,
    number: int,
    config: TrialConfig,
    *,
    seed: int,
    parent_id: str = "",
    parent: tune.Checkpoint | None = None,
) -> TrialSpec:
    """Build the specification of the trial `number` of a stage; its seed is derived from the run's `seed`."""
    name = context.stage.name
    return TrialSpec(
        trial_id=f"{name[0]}{number:04d}",
        parent_id=parent_id,
        seed=random.Random(f"{seed} {name} {number}").randrange(2**31),
        config=config,
        context=context,
        parent=parent,
    )


def read_outcome(result: Mapping[str, Any], metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Return the status and reason of a trial, given its last report and its metrics."""
    if result.get("failed"):
        return "failed", str(result["failed"])
    if not result.get("last"):
        return "stopped", "below the best third of its rung"
    if metrics.get("out_of_time"):
        return "ended_by_budget", "time limit reached, learning rate annealed"
    return "completed", ""


def load_state(checkpoint: tune.Checkpoint | None) -> State | None:
    """Load the training state of a checkpoint on the CPU; return None for no checkpoint."""
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: State = torch.load(Path(folder) / STATE_FILE, map_location="cpu", weights_only=True)
    return state
