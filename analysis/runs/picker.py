"""Pick runs in a notebook."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from analysis.runs.files import read_json
from search.records.run_dir import list_runs

SHOWN = 8  # lines of the list


def has_trials(run: Path) -> bool:
    """Return whether trials of a run have ended."""
    return (run / "trials.csv").is_file()


def has_model(run: Path) -> bool:
    """Return whether a run has ended with a model."""
    return (run / "best" / "model.safetensors").is_file()


def pick_runs(count: int = 1, *, usable: Callable[[Path], bool] = has_trials) -> Any:
    """Return a list widget of the runs that this user has started, whose `value` is those that are picked.

    The newest `count` are picked first. After another choice the cells below are to be run again.
    """
    from ipywidgets import Layout, SelectMultiple

    runs = [run for run in list_runs() if usable(run)]
    if not runs:
        raise AnalysisError('there is no such run yet; name its folder instead: runs = ["path/to/run"]')
    options = [(_describe(run), str(run)) for run in runs]
    look = {"rows": min(len(runs), SHOWN), "layout": Layout(width="98%")}
    return SelectMultiple(options=options, value=list(map(str, runs[:count])), **look)


def _describe(run: Path) -> str:
    about = read_json(run / "run.json")
    data = Path(about.get("data", {}).get("folder", "")).name
    return f"{run.name}  {about.get('state', '')}  budget {about.get('budget', '')}  data {data}  ({run.parent})"
