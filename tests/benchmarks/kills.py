"""Measure what a run loses when it is killed: kill -9 at random times, resume, and compare with an undisturbed run.

    python -m tests.benchmarks.kills --data DIR --trials 24 --kills 10 --out DIR

Both runs have a budget in trials, so they have the same number of rows. Prints how many ended trials were lost,
repeated or changed, and both numbers of rows; the exit code is 1 if any were.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from analysis.runs.files import check_folder
from analysis.runs.tables import load_trials
from search.records.files import read_lines

RUN = Path(__file__).resolve().parents[2] / "search" / "run.py"
LIMITS = ("--max-params", "60k", "--max-macs", "100M")  # keep trials short


def start(args: argparse.Namespace, out: Path) -> "subprocess.Popen[bytes]":
    """Start or resume a run."""
    new = ["--data", str(args.data), "--budget", f"{args.trials}trials", "--out", str(out), *LIMITS]
    options = ["--resume", str(out)] if (out / "run.json").exists() else new
    return subprocess.Popen([sys.executable, str(RUN), *options], stdout=subprocess.DEVNULL)


def read_ended(out: Path) -> dict[str, str]:
    """Return the last report of every trial that has ended, as text."""
    over = {line["trial_id"] for line in read_lines(out / "trials.jsonl") if "config" not in line}
    reports = (line for line in read_lines(out / "reports.jsonl") if line["trial_id"] in over)
    return {line["trial_id"]: json.dumps(line) for line in reports}


def kill(args: argparse.Namespace, out: Path, rng: random.Random) -> int:
    """Kill the run at a random time after it has started to train; return the number of ended trials."""
    process = start(args, out)
    before = len(list(read_lines(out / "reports.jsonl"))) if (out / "reports.jsonl").exists() else 0
    while process.poll() is None:
        if (out / "reports.jsonl").exists() and len(list(read_lines(out / "reports.jsonl"))) > before:
            break
        time.sleep(0.2)
    try:
        process.wait(rng.uniform(0.0, args.longest))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return len(read_ended(out))


def finish(args: argparse.Namespace, out: Path) -> None:
    """Let the run finish.

    Raises:
        RuntimeError: The run failed.
    """
    if start(args, out).wait():
        raise RuntimeError(f"{out}: the run failed")


def main() -> int:
    """Make both runs and print the comparison; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data set folder, a small one")
    parser.add_argument("--trials", type=int, default=24, help="trials of the search (default 24)")
    parser.add_argument("--kills", type=int, default=10, help="how often the run is killed (default 10)")
    parser.add_argument("--longest", type=float, default=12.0, help="seconds of training before a kill at most")
    parser.add_argument("--out", type=Path, default=Path("kills"), help="folder of both runs (default kills)")
    args = parser.parse_args()
    check_folder(args.out)
    alone, killed, rng = args.out / "alone", args.out / "killed", random.Random(0)
    finish(args, alone)
    seen: dict[str, str] = {}
    for i in range(args.kills):
        if killed.exists() and json.loads((killed / "run.json").read_text(encoding="utf-8"))["state"] == "done":
            print(f"the run ended before kill {i + 1}; give it more --trials")
            return 1
        count = kill(args, killed, rng)
        seen = {**read_ended(killed), **seen}
        print(f"kill {i + 1}: {count} trials had ended", flush=True)
    finish(args, killed)
    now = read_ended(killed)
    started = [line for line in read_lines(killed / "trials.jsonl") if "config" in line]
    ids = Counter(line["trial_id"] for line in started)
    promoted = Counter((line["stage"], line["parent_id"]) for line in started if line["stage"] in ("confirm", "final"))
    epochs = Counter((line["trial_id"], line["epochs"]) for line in read_lines(killed / "reports.jsonl"))
    metrics = {
        "lost": len(seen.keys() - now.keys()),
        "changed": sum(now.get(trial_id) != report for trial_id, report in seen.items()),
        "started twice": sum(count > 1 for counts in (ids, promoted) for count in counts.values()),
        "epochs reported twice": sum(count > 1 for count in epochs.values()),
        "rows": len(load_trials(killed)),
        "rows of the undisturbed run": len(load_trials(alone)),
    }
    print(", ".join(f"{name} {value}" for name, value in metrics.items()))
    same = metrics["rows"] == metrics["rows of the undisturbed run"]
    return 0 if same and not any(list(metrics.values())[:4]) else 1


if __name__ == "__main__":
    sys.exit(main())
