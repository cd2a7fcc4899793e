"""The methods of a comparison and their runs: whole runs of search/run.py with the same budget."""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from analysis import AnalysisError
from analysis.runs.files import read_json
from data.runtime.progress import format_duration, progress_bar
from search.config.budget import Budget

RUN = Path(__file__).resolve().parents[2] / "search" / "run.py"
DEFAULT = "default"
METHODS = {  # options of search/run.py
    DEFAULT: "",
    # the first configuration that a search tries, trained for the whole budget
    "starter": "--recipe quick_efficientnet",
    # random search with the same stages
    "random": "--sampler random --first nothing",
    # plain ASHA: no portfolio, no promotion, no reuse of weights
    "asha_only": "--stages single --first nothing",
    # one epoch for all trials, then full training of the best one or two
    "one_epoch_topk": "--stages one_epoch",
    # the study's network, loss and training
    "study": "--recipe study --refine",
    "study_small": "--recipe study --width 4 --refine",
    # a search on a split by image, which leaks backgrounds
    "random_split": "--split random",
}
DEFAULT_METHODS = tuple(METHODS)[:4]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The runs of a comparison."""

    data: Path
    budget: Budget  # budget of each run
    methods: Sequence[str]  # names in METHODS
    seeds: int  # number of runs of each method; the seed decides which backgrounds are held out
    out: Path
    judge: Path | None = None  # a data set that no method is trained on; all models are measured on it too

    def runs(self) -> list[tuple[str, int, Path]]:
        """Return method, seed and folder of each run; methods alternate, so that a slow period affects all of them."""
        return [(name, seed, self.out / f"{name}-{seed}") for seed in range(self.seeds) for name in self.methods]


def run_missing(comparison: Comparison) -> None:
    """Start every run that does not exist yet, one after another, and print the progress.

    Raises:
        AnalysisError: A folder holds something else (checked before the first run), or a run failed.
    """
    missing = [each for each in comparison.runs() if not is_finished(each[2], comparison)]
    for number, (method, seed, folder) in enumerate(missing):
        left = _time_left(comparison, len(missing) - number)
        print(f"run {number + 1} of {len(missing)}: {method}, seed {seed}; {left}", flush=True)
        run_method(method, seed, comparison, folder)


def run_method(method: str, seed: int, comparison: Comparison, folder: Path) -> None:
    """Run search/run.py with the arguments of a method; raise AnalysisError if the run fails."""
    options = ["--data", str(comparison.data), "--budget", comparison.budget.text, "--seed", str(seed)]
    command = [sys.executable, str(RUN), *METHODS[method].split(), *options, "--out", str(folder)]
    begin, title = time.monotonic(), f"{method}, seed {seed}"
    with (
        progress_bar(title) as progress,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process,
    ):
        errors = None
        try:
            while errors is None:
                with suppress(subprocess.TimeoutExpired):
                    _, errors = process.communicate(timeout=1)
                if comparison.budget.wall_s:
                    progress(int(time.monotonic() - begin), round(comparison.budget.wall_s))
        except KeyboardInterrupt:
            process.wait()  # the run has received the signal too and shuts down cleanly
            raise
    if process.returncode:
        lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
        raise AnalysisError(f"{method}, seed {seed}: {lines[-1]}")


def is_finished(folder: Path, comparison: Comparison) -> bool:
    """Return whether a run on these data with this budget is in `folder`; raise AnalysisError if it holds another."""
    if not folder.exists():
        return False
    state = read_json(folder / "run.json")
    if state.get("state") != "done" or "budget" not in state or "folder" not in state.get("data", {}):
        raise AnalysisError(f"{folder} holds no finished run; remove it")
    budget, data = state["budget"], Path(state["data"]["folder"]).resolve()
    if (budget, data) != (comparison.budget.text, comparison.data.resolve()):
        raise AnalysisError(f"{folder} is a run of {budget} on {data}; name another --out")
    return True


def _time_left(comparison: Comparison, runs: int) -> str:
    if comparison.budget.wall_s is None:
        return f"{runs} of {comparison.budget.text} to go"
    return f"{format_duration(runs * comparison.budget.wall_s)} to go"
