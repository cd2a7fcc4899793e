"""Content of run.json: options, stages, results, versions and clock of a run, from which --resume continues.

All times are seconds of run time, summed over all processes that worked on the run; pauses between them do not count.
"""

import contextlib
import json
import math
import os
import platform
import shlex
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import metadata
from operator import methodcaller
from pathlib import Path
from typing import Any

from data.runtime.files import write_atomically
from data.runtime.process import count_cores
from search.records.disk import RESERVE, RESERVE_BYTES
from search.records.run_dir import RunDirError, is_claimed, require_fields, write_json

FORMAT_VERSION = 5
BEAT_S = 2.0  # seconds between two writes of the clock; a killed run loses at most this much time
_PROCESS = {"command": str, "time": str, "platform": str, "versions": dict}
_TRAINED = {"options": dict, "data": dict, "stages": list, **_PROCESS}
_STAGE = {"name": str, "began_s": (int, float), "px": int, "train_images": int, "val_images": int}
_RESUMED = {"state": str, "round": int, "wall_s": (int, float)}
_OPTIONS = {"budget": dict, "seed": int, "configs": list}


@dataclass(kw_only=True)
class RunState:
    """The content of run.json, which is rewritten at every change."""

    folder: Path
    # start of the run by time.monotonic() as if it had not been interrupted; independent of the machine's date
    began: float
    options: dict[str, Any]  # `RunOptions` as plain values
    process: dict[str, Any] = field(init=False)  # command, begin, machine and versions of this process
    state: str = "running"  # "running", "done", "stopped" or "failed"
    round: int = 1  # 1, plus 1 for each time that the run was extended
    # begun stages, in order; ended stages have the key "wall_s"
    stages: list[dict[str, Any]] = field(default_factory=list)
    earlier: list[dict[str, Any]] = field(default_factory=list)  # earlier processes of the run
    earlier_s: float = 0.0  # seconds used by the earlier processes
    # device seconds of each kind used by the earlier processes
    earlier_device_s: dict[str, float] = field(default_factory=lambda: {"cpu": 0.0, "gpu": 0.0})
    # cores ("cpu") and GPUs ("gpu") that this process holds, or the previous one until this one has started Ray
    devices: dict[str, int] | None = None
    budget: str | None = None  # the budget as the user wrote it
    seed: int | None = None  # seed of split, search and trials
    data: dict[str, Any] | None = None  # folder, fingerprint, split and sizes of the data
    startup_s: float | None = None  # seconds from the start to the first stage
    # full trainings that the first budget paid for, which select the stages; None without a time budget
    trainings: float | None = None
    deadlines: dict[str, float] | None = None  # planned end of each stage, and of the run as "end"
    lr_ranges: dict[str, Any] | None = None  # learning rates of the search by optimizer, centred by range tests
    best: str | None = None  # the trial in best/
    seeds: dict[str, Any] | None = None  # scores over the seeds of the best configuration
    front: list[dict[str, Any]] | None = None  # trials on the Pareto front
    test_read: list[dict[str, Any]] | None = None  # each evaluation on the test split
    # functions that return the contents of files to write into the run folder, by name
    copies: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    _written: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _ticking: bool = field(default=False, init=False, repr=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def __post_init__(self) -> None:
        self.process = describe_process(time.time() - (self.used_s - self.earlier_s))

    @property
    def used_s(self) -> float:
        """Seconds that the run has used."""
        return time.monotonic() - self.began

    @property
    def device_s(self) -> dict[str, float]:
        """Device seconds of each kind that the run has held, computing or not."""
        own_s, held = self.used_s - self.earlier_s, self.devices or {}
        return {kind: round(used + held.get(kind, 0) * own_s, 2) for kind, used in self.earlier_device_s.items()}

    @property
    def processes(self) -> int:
        """Number of processes that have worked on the run, including this one."""
        return len(self.earlier) + 1

    @property
    def open_stage(self) -> dict[str, Any] | None:
        """The stage that has begun and not ended, or None."""
        return self.stages[-1] if self.stages and "wall_s" not in self.stages[-1] else None

    def is_closed(self, stage: str) -> bool:
        """Return whether a stage of that name has ended in this round."""
        return any("wall_s" in s for s in self.stages if (s["name"], s["round"]) == (stage, self.round))

    def get_recorded_sizes(self, stage: str) -> dict[str, Any]:
        """Return `train_images` of the last stage of that name, and `limit_s` if it is open; {} if none began."""
        recorded = [s for s in self.stages if s["name"] == stage]
        kept = ("train_images", "limit_s") if recorded and recorded[-1] is self.open_stage else ("train_images",)
        return {name: recorded[-1][name] for name in kept} if recorded else {}

    def begin_stage(self, name: str, plan: dict[str, Any]) -> None:
        """Record that a stage begins; a stage that is open already keeps its plan."""
        if self.open_stage is None:
            began_s = int(100 * self.used_s) / 100  # rounded down, so that no trial of the stage began earlier
            self.stages.append({"name": name, "round": self.round, "began_s": began_s, **plan})
        self.write()

    def end_stage(self, metrics: dict[str, Any]) -> None:
        """Record the end of the open stage and its metrics."""
        stage = self.open_stage
        assert stage is not None
        stage |= {"wall_s": round(self.used_s - stage["began_s"], 2), **metrics}
        self.write()

    def fail_stage(self) -> None:
        """Record that every trial of the open stage failed; it stays open, and a resumed run retries its trials."""
        stage = self.open_stage
        assert stage is not None
        stage["failed_s"] = math.ceil(100 * self.used_s) / 100  # rounded up, so that no trial of the stage began later
        self.write()

    def get_failed_s(self, stage: str) -> float:
        """Return when all trials of a stage of that name last failed, in seconds of run time; -1 if they never did."""
        return max((s["failed_s"] for s in self.stages if s["name"] == stage and "failed_s" in s), default=-1.0)

    def start_clock(self) -> None:
        """Write run.json, and the used time every BEAT_S from a thread, so that a killed run keeps it."""
        self.write()
        if self._ticking:
            return
        self._ticking = True
        if is_claimed(self.folder):
            for name, read in self.copies.items():
                (self.folder / name).parent.mkdir(exist_ok=True)
                write_atomically(self.folder / name, methodcaller("write", read()))
            (self.folder / RESERVE).write_bytes(bytes(RESERVE_BYTES))
        threading.Thread(target=self._keep_clock, daemon=True).start()

    def _keep_clock(self) -> None:
        while not self._ended.wait(BEAT_S):
            with self._lock, contextlib.suppress(OSError):  # the run reports a full disk
                if not self._ended.is_set():
                    self._write_with_clock()

    def end(self, state: str) -> None:
        """Record how the run ended: "done", "stopped" or "failed"."""
        self._ended.set()
        self.state = state
        (self.folder / RESERVE).unlink(missing_ok=True)
        self.write()

    def withdraw(self, written: bytes) -> None:
        """Restore the previous run.json, because this process ends before it has continued the run."""
        self._ended.set()
        (self.folder / RESERVE).unlink(missing_ok=True)
        with self._lock:
            write_atomically(self.folder / "run.json", lambda file: file.write(written))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of run.json without the clock."""
        own = {"state": self.state, **self.process, "options": self.options, "round": self.round, "stages": self.stages}
        named = {name: getattr(self, name) for name in _OPTIONAL}
        found = {name: value for name, value in named.items() if value is not None}
        return {"format_version": FORMAT_VERSION, **own, "earlier": self.earlier, **found}

    def write(self) -> None:
        """Write run.json if the run folder is claimed."""
        with self._lock:
            if is_claimed(self.folder):
                self._written = json.loads(json.dumps(self.to_dict()))  # the clock's thread needs a complete change
                self._write_with_clock()

    def _write_with_clock(self) -> None:
        clock = {"wall_s": round(self.used_s, 2), "device_s": self.device_s}
        write_json(self.folder / "run.json", self._written | clock)


_OPTIONAL = tuple(f.name for f in fields(RunState) if f.default is None)  # absent from run.json until they are known


def resume_run_state(
    folder: Path, content: Mapping[str, Any], *, now: float, options: dict[str, Any], extended: bool
) -> RunState:
    """Return the state of a run that continues from the content of its run.json in a process that began at `now`.

    With `extended`, more budget opens all its stages again in a new round.
    """
    process = {name: content[name] for name in ("time", "command", "state", "wall_s", "versions")}
    run = RunState(
        folder=folder,
        began=now - content["wall_s"],
        options=options,
        round=content["round"],
        stages=content["stages"],
        earlier=[*content.get("earlier", []), process],
        earlier_s=float(content["wall_s"]),
        **{name: content[name] for name in _OPTIONAL if name in content},
    )
    run.earlier_device_s |= content.get("device_s", {})
    if extended:
        if run.open_stage is not None:  # its unfinished trials continue in the stage of the new round
            run.open_stage["wall_s"] = round(run.used_s - run.open_stage["began_s"], 2)
        run.round += bool(run.stages)
    return run


def check_trained(content: Mapping[str, Any], path: Path) -> None:
    """Raise RunDirError unless run.json records the data and the versions that trials were trained with."""
    require_fields(content, _TRAINED, path)
    for stage in content["stages"]:
        require_fields(stage, _STAGE, path)


def load_run_json(folder: Path) -> dict[str, Any]:
    """Return the content of a run's run.json; raise RunDirError if it cannot be read."""
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunDirError(f"{folder}: no run there ({path} cannot be read); name a run folder") from error
    except ValueError as error:
        raise RunDirError(f"{folder}: {path} is damaged ({error}); start a new run") from error
    return content if isinstance(content, dict) else {}


def read_run_json(folder: Path, *, extended: bool) -> dict[str, Any]:
    """Return the run.json of a run that is to be resumed; raise RunDirError if it cannot be.

    A run that is done and has a report is refused, unless `extended` gives it more budget.
    """
    path, content = folder / "run.json", load_run_json(folder)
    if content.get("format_version") != FORMAT_VERSION:
        raise RunDirError(f"--resume {folder}: {path} has another format than this version; start a new run")
    if not {"options", "data"} <= content.keys():
        raise RunDirError(f"--resume {folder}: the run ended before its first stage; start a new run")
    if content.get("state") == "done" and not extended and (folder / "report.html").exists():
        raise RunDirError(f"--resume {folder}: the run is done; extend it with --budget")
    check_trained(content, path)
    require_fields(content, _RESUMED, path)
    require_fields(content["options"], _OPTIONS, path)
    return content


_PACKAGES = ("torch", "ray", "optuna", "albumentations", "pytorch-msssim", "opencv-python-headless", "numpy", "pandas")


def describe_process(began: float | None = None) -> dict[str, Any]:
    """Return command, begin, machine, id, usable cores and versions of a process; without `began`, it begins now."""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "time": format_time(began),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "pid": os.getpid(),
        "cpus": count_cores(),
        "versions": {name: version for name in _PACKAGES if (version := _find_version(name))},
    }


def format_time(moment: float | None = None) -> str:
    """Return a moment of time.time(), or the current time, as local time in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(moment))


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
