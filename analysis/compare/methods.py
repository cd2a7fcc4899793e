"""The methods that are compared, and their runs: each is a whole run of search/run.py, of the same budget.

Knows the command line of search/run.py and run.json; judges nothing.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.exceptions import AnalysisError
from analysis.runs.run import read_json
from search.budget.budget import Budget

RUN = Path(__file__).resolve().parents[2] / "search" / "run.py"
OURS = "ours"
METHODS = {
    OURS: [],
    "random": ["--sampler", "random"],  # random search, the same ladder
    "one_epoch_topk": ["--ladder", "one_epoch"],  # one epoch for all, then the best few trained fully
    "asha_only": ["--ladder", "flat"],  # ASHA at the final size: no promotion, no weights used again
    "study": ["--recipe", "study"],  # the study's network, loss and path
    "study_small": ["--recipe", "study", "--width", "4"],
    "random_split": ["--split", "random"],  # a search on a split that leaks
}
DEFAULT = tuple(METHODS)[:5]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared.

    Attributes:
        data: Data set folder.
        budget: Of each run.
        methods: Names in METHODS.
        seeds: Runs of each method; a seed decides which backgrounds are held out, the same for every method.
        out: Folder of all runs.
    """

    data: Path
    budget: Budget
    methods: Sequence[str]
    seeds: int
    out: Path

    def runs(self) -> list[tuple[str, int, Path]]:
        """Return method, seed and folder of each run; methods take turns, for a machine may be slow for a while."""
        return [(name, seed, self.out / f"{name}-{seed}") for seed in range(self.seeds) for name in self.methods]


def run_all(plan: Plan) -> None:
    """Make every run that is not there yet, and say how far that has come.

    Raises:
        AnalysisError: A folder holds something else, which is found before anything runs; or a run failed.
    """
    missing = [each for each in plan.runs() if not finished(each[2], plan)]
    for number, (method, seed, folder) in enumerate(missing):
        print(f"run {number + 1} of {len(missing)}: {method}, seed {seed}; {_left(plan, len(missing) - number)}")
        sys.stdout.flush()
        run(method, seed, plan, folder)


def run(method: str, seed: int, plan: Plan, folder: Path) -> None:
    """Make one run of the command line.

    Raises:
        AnalysisError: It did not end well.
    """
    common = ["--data", str(plan.data), "--budget", plan.budget.text, "--seed", str(seed), "--out", str(folder)]
    command = [sys.executable, str(RUN), *METHODS[method], *common]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, said = process.communicate()
        except KeyboardInterrupt:
            process.wait()  # it was told too, and ends in order
            raise
    if process.returncode:
        words = said.strip().splitlines() or [f"exit code {process.returncode}"]
        raise AnalysisError(f"{method}, seed {seed}: {words[-1]}")


def finished(folder: Path, plan: Plan) -> bool:
    """Return whether `folder` holds a finished run of the data and the budget that are asked for.

    Raises:
        AnalysisError: It holds one that has not finished, or another.
    """
    if not folder.exists():
        return False
    notes = read_json(folder / "run.json")
    if notes.get("state") != "done" or "budget" not in notes or "folder" not in notes.get("data", {}):
        raise AnalysisError(f"{folder} holds no finished run; remove it")
    made_of = (notes["budget"], Path(notes["data"]["folder"]).resolve())
    if made_of != (plan.budget.text, plan.data.resolve()):
        raise AnalysisError(f"{folder} is a run of {made_of[0]} on {made_of[1]}; name another --out")
    return True


def _left(plan: Plan, runs: int) -> str:
    """Return what `runs` runs take, in words."""
    if plan.budget.wall_s is None:
        return f"{runs} of {plan.budget.text} to go"
    minutes = -(-runs * plan.budget.wall_s // 60)
    return f"{minutes // 60:.0f} h {minutes % 60:.0f} min to go" if minutes >= 60 else f"{minutes:.0f} min to go"
