"""A run folder as frames, in whatever state the run is: finished, going on, cut off, failed, of an older version."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.exceptions import AnalysisError
from analysis.runs.curves import epoch_curves, standings
from analysis.runs.tables import load_reports, trials_so_far

SILENT_S = 60.0  # a run writes its clock every two seconds; one that has not for so long has been cut off


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        folder: The run folder.
        notes: Of run.json; empty where there is none.
        trials: A row per trial and stage, of trials_so_far, with rank, root and label and `network` (name and width).
            What has not ended is "running", or "unfinished" where the run no longer goes.
        curves: A row per trial and epoch, as analysis.curves.epoch_curves returns them, with `network` and `stage`.
    """

    folder: Path
    notes: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame

    @property
    def state(self) -> str:
        """running, done, stopped, failed, or cut off: no longer running, and nobody wrote so."""
        return _state(self.folder, self.notes)

    @property
    def stages(self) -> list[str]:
        """The stages that have trials, in the order in which they began."""
        return list(dict.fromkeys(self.trials["stage"]))

    @property
    def best(self) -> pd.Series | None:
        """The trial behind best/; of a run without one, the best of those on the largest and most images."""
        scored = self.trials[self.trials["rank"].notna()]
        chosen = scored[scored["trial_id"] == self.notes.get("best")]
        if chosen.empty:
            chosen = scored.sort_values(["px", "train_images", "score"], ascending=False, kind="stable")
        return None if chosen.empty else chosen.iloc[0]


def read_run(folder: Path) -> Run:
    """Return what a run folder holds.

    Raises:
        AnalysisError: It is none, or a file of it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AnalysisError(f"{folder}: no such folder; name the folder of a run")
    if not (folder / "run.json").is_file() and not (folder / "trials.csv").is_file():
        raise AnalysisError(f"{folder}: not a run folder, for it holds neither run.json nor trials.csv")
    notes = read_json(folder / "run.json")
    reports, trials = load_reports(folder), trials_so_far(folder)
    if _state(folder, notes) != "running":
        trials["status"] = trials["status"].replace("running", "unfinished")
    trials = standings(trials).assign(network=_networks(trials))
    curves = epoch_curves(reports, trials).merge(trials[["trial_id", "network", "status", "model/arch"]], on="trial_id")
    return Run(folder=folder, notes=notes, trials=trials, curves=curves)


def first_stage(run: Run) -> pd.DataFrame:
    """Return the trials of the stage that searches: all on the same images, so that their scores compare."""
    return run.trials[run.trials["stage"] == next(iter(run.stages), None)]


def with_latency(run: Run) -> pd.DataFrame:
    """Return the trials with `latency_ms` where the run has measured it: of its front, at each model's own size."""
    known = {line["trial_id"]: line.get("latency_ms") for line in run.notes.get("front", [])}
    return run.trials.assign(latency_ms=pd.to_numeric(run.trials["trial_id"].map(known), errors="coerce"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; nothing where there is none.

    Raises:
        AnalysisError: It is damaged, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: cannot be read ({error}); restore it from the run") from error
    if not isinstance(content, dict):
        raise AnalysisError(f"{path}: is no JSON object; restore it from the run")
    return content


def _state(folder: Path, notes: dict[str, Any]) -> str:
    state = str(notes.get("state", "unknown"))
    if state == "running" and time.time() - (folder / "run.json").stat().st_mtime > SILENT_S:
        return "cut off"
    return state


def _networks(trials: pd.DataFrame) -> list[str]:
    """Return name and width of each trial's network."""
    pairs = zip(trials["model/arch"], trials["model/width"], strict=True)
    return [
        "network unknown" if not isinstance(arch, str) else arch if pd.isna(width) else f"{arch} w{width:.0f}"
        for arch, width in pairs
    ]
