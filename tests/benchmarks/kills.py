"""Measure what a run loses when its processes are killed: kill -9 at random times, resume, and count.

    python -m tests.benchmarks.kills --data DIR --trials 8 --kills 10 --out DIR

The kinds of kill are of the driver while trials train, of a worker, of the driver while it starts, and of the driver
in the closing, after the last trial. Each kind has as many runs as its kills need, with at most MAX_KILLS in one: a
trial is retried twice. Prints a table; the exit code is 1 if a trial that had ended was lost, changed or trained twice,
or if a run has no model at its end.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.runs.files import check_folder
from search.records.run_dir import read_lines

RUN = Path(__file__).resolve().parents[2] / "search" / "run.py"
LIMITS = ("--stages", "one_epoch", "--max-params", "60k", "--max-macs", "15M", "--px", "96")  # keep trials short
MAX_KILLS = 2  # of one run
POLL_S = 0.05
CLOSED_S = 0.7  # seconds after a stage within which the next one begins
Process = subprocess.Popen[bytes]


def start(args: argparse.Namespace, out: Path) -> Process:
    """Start or resume a run."""
    new = ["--data", str(args.data), "--budget", f"{args.trials}trials", "--out", str(out), *LIMITS]
    options = ["--resume", str(out)] if (out / "run.json").exists() else new
    if options is new:  # a run that was killed as it claimed its folder has nothing to resume
        shutil.rmtree(out, ignore_errors=True)
    return subprocess.Popen([sys.executable, str(RUN), *options], stdout=subprocess.DEVNULL)


def read_state(out: Path) -> dict[str, Any]:
    """Return the content of run.json; {} before the run has claimed its folder."""
    path = out / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_ended(out: Path) -> dict[str, str]:
    """Return the last report of every trial that has ended, as text."""
    over = {line["trial_id"] for line in read_lines(out / "trials.jsonl") if "config" not in line}
    reports = (line for line in read_lines(out / "reports.jsonl") if line["trial_id"] in over)
    return {line["trial_id"]: json.dumps(line) for line in reports}


def await_report(process: Process, out: Path) -> None:
    """Wait until the run has one more report, or has ended."""
    before = len(list(read_lines(out / "reports.jsonl")))
    while process.poll() is None and len(list(read_lines(out / "reports.jsonl"))) <= before:
        time.sleep(POLL_S)


def kill(process: Process, seconds: float) -> bool:
    """Kill a process after some seconds; return False if it ended before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def kill_driver(process: Process, out: Path, rng: random.Random, longest: float) -> tuple[Process | None, bool]:
    """Kill the driver at a random time after it has started to train."""
    await_report(process, out)
    return None, kill(process, rng.uniform(0.0, longest))


def kill_worker(process: Process, out: Path, rng: random.Random, longest: float) -> tuple[Process | None, bool]:
    """Kill a random process that trains, at a random time; the driver continues."""
    await_report(process, out)
    time.sleep(rng.uniform(0.0, longest))
    workers = find_workers(process.pid)
    if workers:
        os.kill(rng.choice(workers), signal.SIGKILL)
    return process, bool(workers)


def find_workers(driver: int) -> list[int]:
    """Return the descendants of a driver that have the name of a trial, such as ray::e0001_residual."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in listed.splitlines()]
    family = {driver}
    for _ in range(3):  # the driver starts Ray, which starts the workers
        family |= {int(pid) for pid, parent, _ in lines if int(parent) in family}
    return [int(pid) for pid, _, title in lines if int(pid) in family and re.match(r"ray::[a-z]\d+_", title)]


def kill_start(process: Process, out: Path, rng: random.Random, longest: float) -> tuple[Process | None, bool]:
    """Kill the driver at a random time of its first seconds."""
    return None, kill(process, rng.uniform(0.0, longest))


def kill_closing(process: Process, out: Path, rng: random.Random, longest: float) -> tuple[Process | None, bool]:
    """Kill the driver at a random time after its last stage has ended."""
    before, ended = read_state(out), -1
    while process.poll() is None:
        state = read_state(out)
        stages = state.get("stages", [])
        started = len(state.get("earlier", ())) > len(before.get("earlier", ())) or not before
        closed = started and bool(stages) and stages[-1]["name"] in ("final", "repeat") and "wall_s" in stages[-1]
        if closed and ended == len(stages):  # twice in a row: no further stage begins
            break
        ended = len(stages) if closed else -1
        time.sleep(CLOSED_S)
    return None, kill(process, rng.uniform(0.0, longest / 6))


KINDS: dict[str, Callable[[Process, Path, random.Random, float], tuple[Process | None, bool]]] = {
    "driver": kill_driver,
    "worker": kill_worker,
    "driver in start-up": kill_start,
    "driver in the closing": kill_closing,
}


def measure(args: argparse.Namespace, kind: str, out: Path) -> dict[str, int]:
    """Kill runs of one kind as often as asked; return what was lost, changed and repeated in all of them."""
    rng, total = random.Random(args.seed), Counter[str]()
    while total["kills"] < args.kills and total["runs"] < 2 * args.kills:
        found = measure_run(args, kind, out / f"{total['runs']:02}", rng, min(MAX_KILLS, args.kills - total["kills"]))
        total.update({"runs": 1, **found})
        print(f"{kind}: {dict(total)}", flush=True)
    return dict(total)


def measure_run(args: argparse.Namespace, kind: str, out: Path, rng: random.Random, kills: int) -> dict[str, int]:
    """Kill one run, at most `kills` times, and let it come to its end; return what was lost, changed and repeated."""
    seen, killed, process = dict[str, str](), 0, None
    while killed < kills and read_state(out).get("state") != "done":
        process, hit = KINDS[kind](process or start(args, out), out, rng, args.longest)
        killed += hit
        seen = {**read_ended(out), **seen}
    code = (process or start(args, out)).wait() if read_state(out).get("state") != "done" else 0
    now = read_ended(out)
    started = [line for line in read_lines(out / "trials.jsonl") if "config" in line]
    ids = Counter(line["trial_id"] for line in started)
    promoted = Counter((line["stage"], line["parent_id"]) for line in started if line["stage"] in ("confirm", "final"))
    epochs = Counter((line["trial_id"], line["epochs"]) for line in read_lines(out / "reports.jsonl"))
    return {
        "kills": killed,
        "ended before a kill": len(seen),
        "lost": len(seen.keys() - now.keys()),
        "changed": sum(now.get(trial_id) != report for trial_id, report in seen.items()),
        "trained twice": sum(count > 1 for counts in (ids, promoted, epochs) for count in counts.values()),
        "failed": sum(line.get("status") == "failed" for line in read_lines(out / "trials.jsonl")),
        "models at the end": int(not code and (out / "best" / "model.safetensors").exists()),
    }


def main() -> int:
    """Measure each kind and print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data set folder, a small one")
    parser.add_argument("--trials", type=int, default=24, help="trials of the search of each run (default 24)")
    parser.add_argument("--kills", type=int, default=10, help="kills of each kind (default 10)")
    parser.add_argument("--longest", type=float, default=12.0, help="seconds before a kill at most (default 12)")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="kinds of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the times of the kills (default 0)")
    parser.add_argument("--out", type=Path, default=Path("kills"), help="folder of the runs (default kills)")
    args = parser.parse_args()
    check_folder(args.out)
    table = {kind: measure(args, kind, args.out / kind.replace(" ", "_")) for kind in args.kinds}
    columns = list(next(iter(table.values())))
    print("\n".join(["| killed | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]))
    for kind, row in table.items():
        print(f"| {kind} | " + " | ".join(str(row[name]) for name in columns) + " |")
    wrong = [row[name] for row in table.values() for name in ("lost", "changed", "trained twice")]
    return int(any(wrong) or any(row["models at the end"] < row["runs"] for row in table.values()))


if __name__ == "__main__":
    sys.exit(main())
