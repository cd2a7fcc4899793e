"""Methods side by side at equal budget: each is a whole run of search/run.py, of the same length, for each seed.

    python -m analysis.compare --data DIR --budget 3m --seeds 3 --out DIR

A seed decides which backgrounds are held out, the same for every method. The runs follow each other, methods taking
turns, so that a machine that is slow for a while is slow for all; runs that are there already are not repeated. Their
models are then measured on all images of validation and test. Writes table.md and runs.csv, and keeps every run folder.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import AnalysisError
from analysis.files import check_folder, write_file
from analysis.trials import load_trials

RUN = Path(__file__).resolve().parents[1] / "search" / "run.py"
METHODS = {
    "search": [],
    "study": ["--recipe", "study"],
    "study_small": ["--recipe", "study", "--width", "4"],
    "random_split": ["--split", "random"],
}


def run_all(args: argparse.Namespace) -> pd.DataFrame:
    """Make every run that is not there yet; return a row for each.

    Raises:
        AnalysisError: A run failed.
    """
    rows = []
    for seed in range(args.seeds):
        for method in args.methods:
            folder = args.out / f"{method}-{seed}"
            if not finished(folder, args):
                print(f"{method}, seed {seed}: {args.budget} ...", flush=True)
                run(method, seed, args, folder)
            rows.append({"method": method, "seed": seed, **figures(folder)})
    return pd.DataFrame(rows)


def run(method: str, seed: int, args: argparse.Namespace, folder: Path) -> None:
    """Make one run of the command line.

    Raises:
        AnalysisError: It did not end well.
    """
    common = ["--data", str(args.data), "--budget", args.budget, "--seed", str(seed), "--out", str(folder)]
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


def finished(folder: Path, args: argparse.Namespace) -> bool:
    """Return whether `folder` holds a finished run of the data and the budget that are asked for.

    Raises:
        AnalysisError: It holds one that has not finished, or another.
    """
    if not folder.exists():
        return False
    path = folder / "run.json"
    notes = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"state": "none"}
    if notes["state"] != "done":
        raise AnalysisError(f"{folder} holds no finished run; remove it")
    made_of, wanted = (notes["budget"], Path(notes["data"]["folder"]).resolve()), (args.budget, args.data.resolve())
    if made_of != wanted:
        raise AnalysisError(f"{folder} is a run of {made_of[0]} on {made_of[1]}; name another --out")
    return True


def figures(folder: Path) -> dict[str, Any]:
    """Return the figures of one run: of its model on whole parts of the data, of the network, of what it took."""
    notes = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    trials = load_trials(folder).set_index("trial_id")
    best = trials.loc[notes["best"]]
    network = {"arch": best["model/arch"], "width": best["model/width"], "params": best["params"]}
    spent = {"trials": len(trials), "images_seen": trials["images_seen"].sum(), "wall_s": notes["wall_s"]}
    return {**measured(folder, notes), **network, **spent}


def measured(folder: Path, notes: dict[str, Any]) -> dict[str, float]:
    """Return score, IoU and RMSE of a run's model on all images of validation and test, however slow it is.

    The run itself measures as many as its budget leaves time for.
    """
    from analysis.model import load_model
    from data.loaders import Loader
    from search.best import measure
    from search.supply import Supply

    model = load_model(folder, device="cpu")
    sigma = json.loads((folder / "best" / "config.json").read_text(encoding="utf-8"))["sigma_depth"]
    supply = Supply(Path(notes["data"]["folder"]), seed=notes["seed"], split=notes["data"]["split"])
    row = {}
    for part in (name for name in ("val", "test") if supply.sizes()[name]):
        loader = Loader(supply.pack(part, model.px), batch_size=32, stats=model.stats)
        found = measure(model.network, loader, model.stats, sigma)
        row |= {f"{part}_{name}": found[name] for name in ("score", "iou", "rmse_depth") if name in found}
    return row


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


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(prog="python -m analysis.compare", description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, required=True, help="data set folder")
    p.add_argument("--budget", required=True, help="of each run, such as 3m")
    p.add_argument("--seeds", type=_seeds, default=3, help="runs of each method (default 3)")
    p.add_argument("--methods", type=_methods, default=list(METHODS), help=f"some of {','.join(METHODS)} (default all)")
    p.add_argument("--out", type=Path, default=Path("comparison"), help="folder of all runs (default comparison)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Make the runs, write and print the table; return the exit code."""
    args = parser().parse_args(argv)
    try:
        check_folder(args.out)
        runs = run_all(args)
        write_file(args.out / "runs.csv", runs.to_csv(index=False).encode())
        write_file(args.out / "table.md", table(runs).encode())
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(table(runs), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
