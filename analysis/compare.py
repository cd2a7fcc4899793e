"""Methods side by side at equal budget: each is a whole run of search/run.py, of the same length, for each seed.

    python -m analysis.compare --data DIR --budget 3m --seeds 3 --out DIR

A seed decides which backgrounds are held out, the same for every method. The runs follow each other, methods taking
turns, so that a machine that is slow for a while is slow for all; runs that are there already are not repeated. Writes
table.md and runs.csv, and keeps every run folder.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.trials import load_trials

RUN = Path(__file__).resolve().parents[1] / "search" / "run.py"
METHODS = {
    "search": [],
    "study": ["--recipe", "study"],
    "study_small": ["--recipe", "study", "--width", "4"],
    "random_split": ["--split", "random"],
}


class CompareError(RuntimeError):
    """A run that did not end with a model; the message holds its own words."""


def run_all(args: argparse.Namespace) -> pd.DataFrame:
    """Make every run that is not there yet; return a row for each.

    Raises:
        CompareError: A run failed.
    """
    rows = []
    for seed in range(args.seeds):
        for method in args.methods:
            folder = args.out / f"{method}-{seed}"
            if not finished(folder):
                print(f"{method}, seed {seed}: {args.budget} ...", flush=True)
                run(method, seed, args, folder)
            rows.append({"method": method, "seed": seed, **figures(folder)})
    return pd.DataFrame(rows)


def run(method: str, seed: int, args: argparse.Namespace, folder: Path) -> None:
    """Make one run of the command line.

    Raises:
        CompareError: It did not end well.
    """
    common = ["--data", str(args.data), "--budget", args.budget, "--seed", str(seed), "--out", str(folder)]
    process = subprocess.run([sys.executable, str(RUN), *METHODS[method], *common], capture_output=True, text=True)
    if process.returncode:
        words = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        raise CompareError(f"{method}, seed {seed}: {words[-1]}")


def finished(folder: Path) -> bool:
    """Return whether `folder` holds a finished run.

    Raises:
        CompareError: It holds one that has not finished.
    """
    if not folder.exists():
        return False
    notes = folder / "run.json"
    if notes.exists() and json.loads(notes.read_text(encoding="utf-8"))["state"] == "done":
        return True
    raise CompareError(f"{folder} holds no finished run; remove it")


def figures(folder: Path) -> dict[str, Any]:
    """Return the figures of one run: of its model on each part, of the network, of what it took."""
    notes = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "best" / "metrics.json").read_text(encoding="utf-8"))
    trials = load_trials(folder).set_index("trial_id")
    best = trials.loc[notes["best"]]
    parts = {
        f"{part}_{name}": metrics[part][name]
        for part in ("val", "test")
        for name in ("score", "iou", "rmse_depth")
        if name in metrics.get(part, {})
    }
    network = {"arch": best["model/arch"], "width": best["model/width"], "params": best["params"]}
    spent = {"trials": len(trials), "images_seen": trials["images_seen"].sum(), "wall_s": notes["wall_s"]}
    return {**parts, **network, **spent}


def table(runs: pd.DataFrame) -> str:
    """Return the methods' means over seeds as a Markdown table, lowest and highest of the seeds in brackets."""
    columns = {
        "test score": "test_score",
        "test IoU": "test_iou",
        "test RMSE": "test_rmse_depth",
        "validation score": "val_score",
    }
    known = {title: name for title, name in columns.items() if name in runs}
    lines = [["method", "seeds", *known, "validation - test", "trials", "parameters"]]
    lines.append(["---"] * len(lines[0]))
    for method, group in runs.groupby("method", sort=False):
        apart = group["val_score"] - group["test_score"] if "test_score" in group else pd.Series(dtype=float)
        spreads = [spread(group[name]) for name in known.values()] + [spread(apart)]
        rest = [f"{group['trials'].mean():.0f}", f"{group['params'].min():,} to {group['params'].max():,}"]
        lines.append([str(method), str(len(group)), *spreads, *rest])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(values: "pd.Series[float]") -> str:
    """Return mean [lowest, highest]."""
    known = values.dropna()
    return f"{known.mean():.3f} [{known.min():.3f}, {known.max():.3f}]" if len(known) else "-"


def _methods(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in METHODS:
            raise argparse.ArgumentTypeError(f"no method {name!r}; choose from {', '.join(METHODS)}")
    return names


def _seeds(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seeds, at least 1")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Make the runs, write and print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data set folder")
    parser.add_argument("--budget", required=True, help="of each run, such as 3m")
    parser.add_argument("--seeds", type=_seeds, default=3, help="runs of each method (default 3)")
    parser.add_argument(
        "--methods", type=_methods, default=list(METHODS), help=f"some of {','.join(METHODS)} (default all)"
    )
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder of all runs (default comparison)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        runs = run_all(args)
    except CompareError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    runs.to_csv(args.out / "runs.csv", index=False)
    (args.out / "table.md").write_text(table(runs), encoding="utf-8")
    print(table(runs), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
