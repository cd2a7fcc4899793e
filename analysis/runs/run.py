"""Read a run folder as frames, whether the run is finished, running, cut off, failed or of an older version."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import AnalysisError
from analysis.runs.curves import add_ranks, build_curves
from analysis.runs.files import find_run, read_json
from analysis.runs.tables import load_reports, load_trials_so_far
from search.records.run_dir import list_runs

SHOWN = 8  # lines of the list of runs in a notebook
SILENT_S = 60.0  # a run writes its clock every two seconds; after this long without a write, it has died


@dataclass(frozen=True, kw_only=True)
class Run:
    """The content of a run folder."""

    folder: Path
    run_json: dict[str, Any]  # content of run.json; empty if there is none
    state: str  # running, done, stopped, failed, or cut off if the process died without recording its end
    # A row per trial and stage, from load_trials_so_far and add_ranks.
    # Trials that have not ended are "running", or "unfinished" if the run has ended.
    trials: pd.DataFrame
    curves: pd.DataFrame  # a row per trial and epoch, from build_curves

    @property
    def stages(self) -> list[str]:
        """The stages that have trials, in order of their start."""
        return list(dict.fromkeys(self.trials["stage"]))

    @property
    def best(self) -> pd.Series | None:
        """The trial in best/, or else the best trial of the stage with the largest and most images."""
        scored = self.trials[self.trials["rank"].notna()]
        chosen = scored[scored["trial_id"] == self.run_json.get("best")]
        if chosen.empty:
            chosen = scored.sort_values(["px", "train_images", "score"], ascending=False, kind="stable")
        return None if chosen.empty else chosen.iloc[0]


def read_run(folder: Path | str) -> Run:
    """Read a run folder, or `latest`; raise AnalysisError if it is not a run folder or a file is damaged."""
    folder = find_run(folder)
    if not folder.is_dir():
        raise AnalysisError(f"{folder}: no such folder; name the folder of a run")
    if not any((folder / name).is_file() for name in ("run.json", "trials.csv", "reports.jsonl")):
        raise AnalysisError(f"{folder}: not a run folder; it has neither run.json nor trials.csv")
    content, reports = read_run_json(folder), load_reports(folder)
    state = str(content.get("state", "unknown"))
    if state == "running" and time.time() - (folder / "run.json").stat().st_mtime > SILENT_S:
        state = "cut off"
    trials = load_trials_so_far(folder, reports)
    if state != "running":
        trials["status"] = trials["status"].replace("running", "unfinished")
    trials = add_ranks(trials)
    return Run(folder=folder, run_json=content, state=state, trials=trials, curves=build_curves(reports, trials))


def read_run_json(folder: Path) -> dict[str, Any]:
    """Return run.json in the present format, {} if there is none; format 1 names some fields differently."""
    content = read_json(folder / "run.json")
    if "asked" not in content:
        return content
    options = {**content["asked"], **content["asked"].get("constraints", {})}
    name = str(options.get("ladder", "climb"))
    options.setdefault("stages", {"climb": "default", "flat": "single"}.get(name, name))
    older, newer = "rank_correlation_with_stage_below", "rank_correlation_with_previous_stage"
    stages = [stage | {newer: stage[older]} if older in stage else stage for stage in content.get("stages", [])]
    return content | {"options": options, "stages": stages}


def select_first_stage(run: Run) -> pd.DataFrame:
    """Return the trials of the first stage, whose scores are comparable because all are measured on the same images."""
    return run.trials[run.trials["stage"] == next(iter(run.stages), None)]


def thin_trials(run: Run, most: int, best: int) -> Run:
    """Return the run with at most about `most` trials per stage: the `best` ones, and others evenly spaced."""
    kept: set[str] = set()
    for _, trials in run.trials.groupby("stage", sort=False):
        others = trials[~(trials["rank"] <= best)] if len(trials) > most else trials[:0]
        step = -(-len(others) // (most - best)) or 1
        kept.update(trials["trial_id"][~trials.index.isin(others.index)], others["trial_id"][::step])
    if len(kept) == len(run.trials):
        return run
    trials, curves = (frame[frame["trial_id"].isin(kept)] for frame in (run.trials, run.curves))
    return replace(run, trials=trials, curves=curves)


def add_latency(run: Run) -> pd.DataFrame:
    """Return the trials with `latency_ms`, which a run measures for its Pareto front at each model's own size.

    A search that minimises the latency measures it for every trial.
    """
    own = run.trials.get("latency_ms", float("nan"))
    known = {line["trial_id"]: line.get("latency_ms") for line in run.run_json.get("front", [])}
    measured = pd.to_numeric(run.trials["trial_id"].map(known), errors="coerce")
    return run.trials.assign(latency_ms=measured.fillna(own))


def pick_runs(count: int = 1, *, with_model: bool = False) -> Any:
    """Return a list widget of this user's runs with trials or a model, whose `value` is the selected runs.

    The latest `count` are selected at first. After changing the selection, run the cells below again.
    """
    from ipywidgets import Layout, SelectMultiple

    needed = "best/model.safetensors" if with_model else "trials.csv"
    runs = [run for run in list_runs() if (run / needed).is_file()]
    if not runs:
        raise AnalysisError('there is no such run yet; name its folder instead: runs = ["path/to/run"]')
    options = [(_describe_run(run), str(run)) for run in runs]
    look = {"rows": min(len(runs), SHOWN), "layout": Layout(width="98%")}
    return SelectMultiple(options=options, value=list(map(str, runs[:count])), **look)


def _describe_run(run: Path) -> str:
    about = read_json(run / "run.json")
    data = Path(about.get("data", {}).get("folder", "")).name
    return f"{run.name}  {about.get('state', '')}  budget {about.get('budget', '')}  data {data}  ({run.parent})"
