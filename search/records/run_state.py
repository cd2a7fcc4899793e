"""run.json: what a run was asked for, its stages, its time; also what a run that was cut off goes on from.

Standard library only. Every moment in it is on the run's own clock: seconds that the run has used, those of earlier
processes included and the time between them not.
"""

import json
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.budget.budget import Budget
from search.records.files import require_fields, write_json
from search.records.provenance import describe_process
from search.records.run_dir import RunDirError, is_claimed

BEAT_S = 2.0  # so much of the clock is lost at most when a run is killed
_PROVENANCE = {"command": str, "time": str, "platform": str, "versions": dict}
_NOTES = {"asked": dict, "data": dict, "stages": list, **_PROVENANCE}
_STAGE = {"name": str, "began_s": (int, float), "px": int, "train_images": int, "val_images": int}
_GOING_ON = {"state": str, "round": int, "wall_s": (int, float)}
_ASKED = {"budget": dict, "seed": int, "configs": list, "refine": bool, "find_lr": bool}


class RunState:
    """The content of run.json, written anew at every change.

    Attributes:
        content: What is written.
        began: The moment the run would have begun had it never been interrupted, seconds since the epoch.
        devices: What this process holds of each kind, cores ("cpu") and GPUs ("gpu").
        earlier_s: Seconds that the processes before this one have used.
        earlier_device_s: Device seconds of each kind that the processes before this one have used.
    """

    def __init__(self, folder: Path, content: dict[str, Any], *, began: float) -> None:
        self.folder, self.content, self.began = folder, content, began
        self.devices = {"cpu": 0, "gpu": 0}
        self.earlier_device_s = {kind: 0.0 for kind in self.devices} | content.get("device_s", {})
        self.earlier_s = float(content.get("wall_s", 0.0))
        self._written = ""
        self._lock, self._ended = threading.Lock(), threading.Event()

    @property
    def used_s(self) -> float:
        """Seconds that the run has used."""
        return time.time() - self.began

    @property
    def device_s(self) -> dict[str, float]:
        """Device seconds of each kind that the run has used: what is held counts, whether it computes or not."""
        mine_s = self.used_s - self.earlier_s
        return {kind: round(self.earlier_device_s[kind] + n * mine_s, 2) for kind, n in self.devices.items()}

    @property
    def processes(self) -> int:
        """How many processes have worked on the run, this one included."""
        return len(self.content.get("earlier", [])) + 1

    @property
    def open_stage(self) -> dict[str, Any] | None:
        """The stage that has begun and not ended, or None."""
        stages = self.content["stages"]
        return stages[-1] if stages and "wall_s" not in stages[-1] else None

    def is_closed(self, stage: str) -> bool:
        """Return whether a stage of that name has ended in this round."""
        mine = [s for s in self.content["stages"] if (s["name"], s["round"]) == (stage, self.content["round"])]
        return any("wall_s" in plan for plan in mine)

    def settled(self, stage: str) -> dict[str, Any]:
        """Return what is settled of a stage: its plan if it is open, of one that has ended its number of images."""
        plans = [plan for plan in self.content["stages"] if plan["name"] == stage]
        kept = ("train_images", "cap_s") if plans and plans[-1] is self.open_stage else ("train_images",)
        return {name: plans[-1][name] for name in kept} if plans else {}

    def begin_stage(self, name: str, plan: dict[str, Any]) -> None:
        """Note a stage that begins; one that was begun by an earlier process keeps its plan."""
        if self.open_stage is None:
            began_s = int(100 * self.used_s) / 100  # not after its first trial, as rounded it might be
            self.content["stages"].append({"name": name, "round": self.content["round"], "began_s": began_s, **plan})
        self.write()

    def end_stage(self, metrics: dict[str, Any]) -> None:
        """Note how the stage that is open went."""
        stage = self.open_stage
        assert stage is not None
        stage |= {"wall_s": round(self.used_s - stage["began_s"], 2), **metrics}
        self.write()

    def start_clock(self) -> None:
        """Write the time used, every BEAT_S, until the end: what a killed run has used stays used."""
        threading.Thread(target=self._keep_clock, daemon=True).start()

    def _keep_clock(self) -> None:
        while not self._ended.wait(BEAT_S):
            with self._lock:
                if not self._ended.is_set():
                    self._write(json.loads(self._written))

    def end(self, state: str) -> None:
        """Write how the run ended: done, stopped or failed."""
        self._ended.set()
        self.content["state"] = state
        self.write()

    def write(self) -> None:
        """Write run.json, where the run folder is claimed already."""
        with self._lock:
            if is_claimed(self.folder):
                self._written = json.dumps(self.content)  # the clock's thread must not meet half a change
                self._write(self.content)

    def _write(self, content: dict[str, Any]) -> None:
        clock = {"wall_s": round(self.used_s, 2), "device_s": self.device_s}
        write_json(self.folder / "run.json", content | clock)


def new_run_state(folder: Path, asked: dict[str, Any], *, began: float) -> RunState:
    """Return the notes of a new run."""
    content = {"state": "running", **describe_process(), "asked": asked, "round": 1, "stages": []}
    return RunState(folder, content, began=began)


def resumed_state(folder: Path, content: dict[str, Any], *, now: float, budget: Budget, extended: bool) -> RunState:
    """Return the notes of a run that goes on.

    Args:
        folder: The run folder.
        content: Of its run.json.
        now: When this process began, seconds since the epoch.
        budget: What it may spend in all.
        extended: Whether that is more than before, which opens all its stages again.
    """
    past = {"time": content["time"], "command": content["command"], "state": content["state"]}
    past |= {"wall_s": content["wall_s"], "versions": content["versions"]}
    content = content | {"state": "running", **describe_process(), "earlier": [*content.get("earlier", []), past]}
    content["asked"] = content["asked"] | {"budget": asdict(budget)}
    run_state = RunState(folder, content, began=now - content["wall_s"])
    if extended:  # all stages open again; what was cut off goes on in its stage of the new round
        if run_state.open_stage is not None:
            run_state.open_stage["wall_s"] = round(run_state.used_s - run_state.open_stage["began_s"], 2)
        content["round"] += bool(content["stages"])
    return run_state


def check_run_state(content: dict[str, Any], path: Path) -> None:
    """Raise RunDirError unless run.json says how much trials were trained on, and with what."""
    require_fields(content, _NOTES, path)
    for stage in content["stages"]:
        require_fields(stage, _STAGE, path)


def read_run_state(folder: Path, *, extended: bool) -> dict[str, Any]:
    """Return the run.json of a run that is to go on.

    Args:
        folder: The run folder.
        extended: Whether it is given more budget, without which a run that is done has nothing to do.

    Raises:
        RunDirError: `folder` is no run folder, is of a version that cannot go on, or is done.
    """
    path = folder / "run.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunDirError(f"--resume {folder}: no run there ({path} cannot be read); name a run folder") from error
    except ValueError as error:
        raise RunDirError(f"--resume {folder}: {path} is damaged ({error}); start a new run") from error
    if not isinstance(content, dict) or not {"asked", "data"} <= content.keys():
        raise RunDirError(f"--resume {folder}: ended before it began, or is of an older version; start a new run")
    if content.get("state") == "done" and not extended:
        raise RunDirError(f"--resume {folder}: is done; give it more with --budget")
    check_run_state(content, path)
    require_fields(content, _GOING_ON, path)
    require_fields(content["asked"], _ASKED, path)
    return content
