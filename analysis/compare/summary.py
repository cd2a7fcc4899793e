"""Summarise finished runs from their records, one row for each run: as a frame and as a Markdown table.

    python -m analysis.compare.summary RUN [RUN ...]

Nothing is measured here; `analysis.compare.scoring` measures all models again, under equal conditions.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import AnalysisError
from analysis.compare.methods import METHODS
from analysis.runs.files import read_json
from analysis.runs.run import read_run_json
from analysis.runs.tables import format_markdown_table, load_trials
from data.runtime import cli
from search.records.run_dir import parse_run_argument

METRICS = ("score", "iou", "rmse_depth")
TITLES = {"IoU": "iou", "RMSE": "rmse_depth", "score": "score"}


def summarise_runs(*runs: Path | str) -> pd.DataFrame:
    """Return a row for each finished run.

    Returns:
        `run`, `method` (from `name_method`), `budget`, `data`, `seed`, `wall_s`, `trials`, `searched` (trials of the
        first stage), `failed`, `busy` (share of the search in which workers trained), the best model's `network`,
        `params` and `px`, and its `val_` and `test_` score, iou, rmse_depth and images as the run measured them: at its
        own image size, scored with the standard deviation of its validation depth.

    Raises:
        AnalysisError: A run has not ended with a model.
    """
    return pd.DataFrame([_summarise(Path(run)) for run in runs])


def warn_of_data(runs: pd.DataFrame) -> str:
    """Return a warning if runs, as `summarise_runs` returns them, used different data; "" if they did not."""
    names = sorted(set(runs["data"]))
    return f"WARNING: these runs used different data ({', '.join(names)}): do not rank them" if len(names) > 1 else ""


def build_results_table(runs: pd.DataFrame) -> str:
    """Return a Markdown table with a row for each run and each split that its model was measured on."""
    rows = []
    for run in runs.to_dict("records"):
        common = {"data": run["data"], "budget": run["budget"], "wall s": f"{run['wall_s']:.0f}"}
        common |= {"trials": str(run["searched"]), "busy": f"{run['busy']:.0%}", "network": run["network"]}
        common["parameters"] = f"{run['params']:,}"
        for split in (split for split in ("val", "test") if pd.notna(run[f"{split}_images"])):
            values = {title: run[f"{split}_{name}"] for title, name in TITLES.items()}
            numbers = {title: "-" if pd.isna(value) else f"{value:.3f}" for title, value in values.items()}
            rows.append({**common, "split": split, "images": f"{run[f'{split}_images']:.0f}", **numbers})
    return format_markdown_table(rows)


def name_method(run: Path, state: Mapping[str, Any]) -> str:
    """Return the method in the folder's name if analysis.compare named the folder, or else the run's options in words.

    The words name the sampler and the stages; the method of runs that did not record them is "unknown".
    """
    name, _, seed = run.name.rpartition("-")
    if name in METHODS and seed == str(state["seed"]):
        return name
    options = state.get("options")
    if options is None:
        return "unknown"
    sampler = "fixed configurations" if options.get("configs") else options.get("sampler", "tpe")
    split = [f"{options['split']} split"] if options.get("split", "background") != "background" else []
    return ", ".join([sampler, options.get("stages", "default"), *split])


def load_finished_run(run: Path) -> tuple[dict[str, Any], pd.DataFrame, "pd.Series[Any]"]:
    """Return run.json, the trials and the best trial of a run; raise AnalysisError if it has not ended with a model."""
    state, trials = read_run_json(run), load_trials(run)
    best = trials[trials["trial_id"] == state.get("best")].dropna(subset=["params", "model/width"])
    if best.empty or not {"budget", "data", "seed", "wall_s"} <= state.keys():
        raise AnalysisError(f"{run}: not a run that has ended with a model; name finished runs, or remove it")
    return state, trials, best.iloc[0]


def _summarise(run: Path) -> dict[str, Any]:
    state, trials, best = load_finished_run(run)
    metrics = read_json(run / "best" / "metrics.json")
    if not metrics:
        raise AnalysisError(f"{run}: not a run that has ended with a model; it has no best/metrics.json")
    row = {"run": str(run), "method": name_method(run, state), "budget": state["budget"]}
    row |= {"data": Path(state["data"]["folder"]).name, "seed": state["seed"], "wall_s": state["wall_s"]}
    row |= {"trials": len(trials), "searched": int((trials["stage"] == trials["stage"].iloc[0]).sum())}
    row |= {"failed": int((trials["status"] == "failed").sum()), "busy": _measure_busy(state.get("stages", []))}
    row |= {"network": f"{best['model/arch']} w{best['model/width']:.0f}", "params": int(best["params"])}
    names = [(split, name) for split in ("val", "test") for name in (*METRICS, "images")]
    return row | {"px": metrics["px"], **{f"{p}_{name}": metrics.get(p, {}).get(name, np.nan) for p, name in names}}


def _measure_busy(stages: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of the first stage's time, over all its rounds, in which workers trained."""
    rounds = [stage for stage in stages if stage["name"] == stages[0]["name"] and "busy" in stage]
    wall_s = sum(stage["wall_s"] for stage in rounds)
    return sum(stage["busy"] * stage["wall_s"] for stage in rounds) / wall_s if wall_s else float("nan")


def main(arguments: list[str] | None = None) -> int:
    """Print the results table of runs; return the exit code."""
    parser = cli.Parser("python -m analysis.compare.summary", "Print the results of runs as a Markdown table.")
    parser.add_argument("runs", nargs="+", type=parse_run_argument, metavar="RUN", help="run folders, or latest")
    args = parser.parse_args(arguments)
    return cli.run(lambda: print(build_results_table(summarise_runs(*args.runs)), end=""), AnalysisError)


if __name__ == "__main__":
    sys.exit(main())
