"""Finished runs side by side, a row each, as they recorded themselves: a frame, a Markdown table, means over seeds.

    python -m analysis.compare.summary RUN [RUN ...]

`analysis.compare.scoring` measures models anew, all alike; nothing is measured here.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import AnalysisError
from analysis.compare.compare import estimate_mean
from analysis.compare.methods import METHODS
from analysis.compare.scoring import METRICS
from analysis.runs.files import read_json
from analysis.runs.tables import load_trials, markdown_table
from data.runtime import cli
from search.records.run_dir import run_path

METHOD = ["method", "budget"]
TITLES = {"IoU": "iou", "RMSE": "rmse_depth", "score": "score"}


def summarize_runs(*runs: Path | str) -> pd.DataFrame:
    """Return a row for each finished run.

    Returns:
        `run`, `method` (from `name_method`), `budget`, `data`, `seed`, `wall_s`, `trials`, `searched` (trials of the
        first stage), `failed`, `busy` (share of the search in which workers trained), the best model's `network`,
        `params` and `px`, and its `val_` and `test_` score, iou, rmse_depth and images as the run measured them: at its
        own size, scored with the standard deviation of the depth that it saw.

    Raises:
        AnalysisError: A run has not ended with a model.
    """
    return pd.DataFrame([_summarize(Path(run)) for run in runs])


def build_results_table(runs: pd.DataFrame) -> str:
    """Return a Markdown table with a row for each run and each part that its model was measured on."""
    rows = []
    for run in runs.to_dict("records"):
        common = {"data": run["data"], "budget": run["budget"], "wall s": f"{run['wall_s']:.0f}"}
        common |= {"trials": str(run["searched"]), "busy": f"{run['busy']:.0%}", "network": run["network"]}
        common["parameters"] = f"{run['params']:,}"
        for part in (part for part in ("val", "test") if pd.notna(run[f"{part}_images"])):
            values = {title: run[f"{part}_{name}"] for title, name in TITLES.items()}
            numbers = {title: "-" if pd.isna(value) else f"{value:.3f}" for title, value in values.items()}
            rows.append({**common, "part": part, "images": f"{run[f'{part}_images']:.0f}", **numbers})
    return markdown_table(rows)


def name_method(run: Path, state: Mapping[str, Any]) -> str:
    """Return the method in a folder's name, if analysis.compare named it, or else the run's options in words.

    The options are the sampler and the stages; the method of runs that did not record them is "unknown".
    """
    name, _, seed = run.name.rpartition("-")
    if name in METHODS and seed == str(state["seed"]):
        return name
    options = state.get("options", state.get("asked"))  # "asked" in run folders of format 1
    if options is None:
        return "unknown"
    sampler = "fixed configurations" if options.get("configs") else options.get("sampler", "tpe")
    split = [f"{options['split']} split"] if options.get("split", "background") != "background" else []
    return ", ".join([sampler, options.get("stages", "default"), *split])


def estimate_methods(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return `runs`, and the `mean` of a metric with its 95 % interval `low` to `high`, of each method, the best first.

    A method with another budget has a row of its own. The interval of a single run is a point. There are no rows for a
    metric that no run has, such as those of a test part that the data lack.
    """
    groups = table[table[metric].notna()].groupby(METHOD)[metric]
    rows = {name: [len(values), *estimate_mean(values.to_numpy(dtype=float))] for name, values in groups}
    index = pd.MultiIndex.from_tuples(list(rows), names=METHOD)
    found = pd.DataFrame([*rows.values()], index=index, columns=["runs", "mean", "low", "high"])
    return found.astype({"runs": int}).sort_values("mean", ascending=False)


def _summarize(run: Path) -> dict[str, Any]:
    state, metrics = read_json(run / "run.json"), read_json(run / "best" / "metrics.json")
    if not state or not metrics:
        raise AnalysisError(f"{run}: not a run that has ended with a model; name the folders of finished runs")
    trials = load_trials(run)
    known = trials[trials["trial_id"] == metrics.get("trial_id")].dropna(subset=["params", "model/width"])
    if known.empty or not {"budget", "data", "seed", "wall_s", "stages"} <= state.keys():
        raise AnalysisError(f"{run}: its records are damaged or of another version; restore them from the run")
    best = known.iloc[0]
    row = {"run": str(run), "method": name_method(run, state), "budget": state["budget"]}
    row |= {"data": Path(state["data"]["folder"]).name, "seed": state["seed"], "wall_s": state["wall_s"]}
    row |= {"trials": len(trials), "searched": int((trials["stage"] == trials["stage"].iloc[0]).sum())}
    row |= {"failed": int((trials["status"] == "failed").sum()), "busy": _measure_busy(state["stages"])}
    row |= {"network": f"{best['model/arch']} w{best['model/width']:.0f}", "params": int(best["params"])}
    names = [(part, name) for part in ("val", "test") for name in (*METRICS, "images")]
    return row | {"px": metrics["px"], **{f"{p}_{name}": metrics.get(p, {}).get(name, np.nan) for p, name in names}}


def _measure_busy(stages: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of the first stage's time, over all its rounds, in which workers trained."""
    rounds = [stage for stage in stages if stage["name"] == stages[0]["name"] and "busy" in stage]
    wall_s = sum(stage["wall_s"] for stage in rounds)
    return sum(stage["busy"] * stage["wall_s"] for stage in rounds) / wall_s if wall_s else float("nan")


def main(arguments: list[str] | None = None) -> int:
    """Print the results table of runs; return the exit code."""
    parser = cli.Parser("python -m analysis.compare.summary", "Print the results of runs as a Markdown table.")
    parser.add_argument("runs", nargs="+", type=run_path, metavar="RUN", help="run folders, or latest")
    args = parser.parse_args(arguments)
    return cli.run(lambda: print(build_results_table(summarize_runs(*args.runs)), end=""), AnalysisError)


if __name__ == "__main__":
    sys.exit(main())
