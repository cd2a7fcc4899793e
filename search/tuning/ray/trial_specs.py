"""Trial specifications: the settings of one trial that travel from the driver to a worker."""

import platform
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from data.data_module import StageData
from search.config.stages import Stage
from search.config.trial import TrialConfig


def _read_boot_id() -> str:
    """Return an id that processes share whose time.monotonic() reads the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:  # not Linux
        return platform.node()


BOOT_ID = _read_boot_id()


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """The settings that all trials of one stage share.

    Attributes:
        data: Packed arrays, opened again in each worker.
        deadline: Moment of time.monotonic() by which every trial has ended, or None.
        cap_s: The longest training time of one trial in seconds, or None.
        threads: Processor threads of one trial.
        devices: Cores that one trial occupies, or its fraction of a GPU.
        memory_mib: Memory that one trial may use, in MiB; None if running out of it does no harm.
        speed: Multiply-adds per second that one trial trains; None in a search, where infeasible networks are rejected
            and all trials are validated on the same images.
    """

    stage: Stage
    data: StageData
    deadline: float | None
    cap_s: float | None
    threads: int
    device: str
    devices: float = 1.0
    memory_mib: float | None = None
    speed: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with the deadline as it reads here and as seconds from now."""
        clock = None if self.deadline is None else (BOOT_ID, self.deadline, self.deadline - time.monotonic())
        return self.__dict__ | {"deadline": clock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes; another machine, whose clock reads otherwise, counts the seconds from now."""
        self.__dict__.update(state)
        if state["deadline"] is not None:
            boot_id, deadline, left_s = state["deadline"]
            self.__dict__["deadline"] = deadline if boot_id == BOOT_ID else time.monotonic() + left_s

    def limit(self, used_s: float = 0.0) -> float | None:
        """Return the total training time in seconds of a trial that starts, or resumes after `used_s`, now."""
        bounds = [self.cap_s] if self.cap_s is not None else []
        if self.deadline is not None:
            bounds.append(used_s + max(self.deadline - time.monotonic(), 1.0))
        return min(bounds, default=None)


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """The settings of one trial.

    Attributes:
        trial_id: The first letter of the stage and a number, such as e0007.
        parent_id: The trial whose weights initialise this one, or "".
        seed: Seed of weights, order and augmentation.
        parent: Checkpoint of the parent.
        own: The last checkpoint of this trial, if it resumes after an interruption.
        attempt: How often a worker of this trial has died.
        early_stopping: True if ASHA may stop the trial.
    """

    trial_id: str
    parent_id: str
    seed: int
    config: TrialConfig
    context: StageContext
    parent: tune.Checkpoint | None = None
    own: tune.Checkpoint | None = None
    attempt: int = 0
    early_stopping: bool = False


def new_trial_spec(
    context: StageContext,
    number: int,
    config: TrialConfig,
    *,
    seed: int,
    parent_id: str = "",
    parent: tune.Checkpoint | None = None,
    early_stopping: bool = False,
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
        early_stopping=early_stopping,
    )
