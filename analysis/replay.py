"""Searchers and ladders on recorded curves and a simulated clock: which settings win, with intervals.

    python -m analysis.replay --repeats 200 --out replay

Every method is run `--repeats` times for each budget and number of workers, each time on another half of the recorded
configurations: else one network that a method happens to stop would decide, however often it is repeated. Repeats share
their seed, their half and, under random search, their suggestions, so that methods are compared pair by pair. Budgets
are wall times, stated as the number of whole explore trials that two workers would train in them. Writes repeats.csv
and table.md.

What is measured is the recorded score of what the ladder would hand out, at the epoch that it reached; regret is what
it lacks of the best score of the half at the final size.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import AnalysisError
from analysis.estimates import interval, iqm
from analysis.files import check_folder, write_file
from analysis.searchers import Searchers
from analysis.settings import Method, methods
from analysis.simulate import climb, search
from analysis.surrogate import Recording, load_recording
from data.progress import progress_bar
from search.ladder import ranked
from search.records import TrialRecord

CURVES = Path(__file__).parent / "benchmarks" / "curves.parquet"
BUDGETS = {"3m": 23.0, "5m": 38.0, "20m": 160.0}  # whole explore trials of 14 s on two workers, start-up left out
REFERENCE_WORKERS = 2
GROUPS = list(dict.fromkeys(method.group for method in methods()))
Row = dict[str, Any]


class Replay:
    """Plays methods on one recording; the first stage of methods alike in it is played once."""

    def __init__(self, recording: Recording, searchers: Searchers | None = None) -> None:
        self.recording, self.searchers = recording, searchers or Searchers(recording)
        self.best = recording.best

    def on_half(self, seed: int) -> "Replay":
        """Return the same on a half of the recording, drawn by the seed."""
        half = self.recording.half(seed)
        return Replay(half, Searchers(half, self.searchers.drawn))

    def play(self, chosen: Sequence[Method], *, budget: float, workers: int, seed: int) -> list[Row]:
        """Return a row for each method: score, regret, trials of its first stage and how many of them ended whole."""
        wall_s = budget * self.recording.unit_s / REFERENCE_WORKERS
        played: dict[Any, list[TrialRecord]] = {}
        rows = []
        for method in chosen:
            rung, options = method.rungs[0], tuple(sorted(method.options.items()))
            until_s = wall_s * rung.stage.share / sum(each.stage.share for each in method.rungs)
            key = (method.searcher, options, rung, method.asha, until_s)
            if key not in played:
                searcher = getattr(self.searchers, method.searcher)(seed, **method.options)
                played[key] = search(self.recording, searcher, rung, method.asha, workers=workers, until_s=until_s)
            begun = played[key]
            score = 0.0  # where nothing has a score nothing better than a constant guess comes out
            if ranked(begun):
                score = climb(self.recording, begun, method.rungs, workers=workers, wall_s=wall_s, seed=seed).score
            whole = sum(record.status == "completed" for record in begun)
            names = {"group": method.group, "method": method.name, "budget": budget, "workers": workers, "seed": seed}
            rows.append({**names, "score": score, "regret": self.best - score, "trials": len(begun), "whole": whole})
        return rows


@cache
def _replay(curves: Path) -> Replay:
    return Replay(load_recording(curves))


def _repeat(
    curves: Path, groups: Sequence[str], budgets: Sequence[float], workers: Sequence[int], seed: int
) -> list[Row]:
    """Play everything with one seed; in a process of its own."""
    chosen = [method for method in methods() if method.group in groups]
    replay = _replay(curves).on_half(seed)
    return [
        row
        for budget in budgets
        for count in workers
        for row in replay.play(chosen, budget=budget, workers=count, seed=seed)
    ]


def play_all(args: argparse.Namespace) -> Iterator[list[Row]]:
    """Yield the rows of each repeat as it is done."""
    given = args.curves, args.groups, args.budgets, args.workers
    if args.processes == 1:
        yield from (_repeat(*given, seed) for seed in range(args.repeats))
        return
    with ProcessPoolExecutor(args.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from (
                done.result() for done in as_completed([pool.submit(_repeat, *given, s) for s in range(args.repeats)])
            )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def table(rows: pd.DataFrame) -> str:
    """Return a Markdown table for each budget, number of workers and group: interquartile means with 95 % intervals.

    The last column is the mean difference to the first of the group, pair by pair; bold where its interval excludes 0.
    """
    parts = []
    for (budget, workers, group), some in rows.groupby(["budget", "workers", "group"], sort=False):
        wide = some.pivot_table(index="seed", columns="method", values="score")
        names = list(some["method"].drop_duplicates())
        lines = [[str(group), "score", "regret", "trials", "whole", f"less {names[0]}"], ["---"] * 6]
        for name in names:
            mine = some[some["method"] == name]
            counts = [f"{mine[column].mean():.0f}" for column in ("trials", "whole")]
            apart = wide[name].to_numpy() - wide[names[0]].to_numpy()
            figures = [_estimate(mine["score"].to_numpy()), f"{iqm(mine['regret'].to_numpy()):.3f}"]
            lines.append([name, *figures, *counts, "" if name == names[0] else _difference(apart)])
        title = f"{budget:g} whole trials, {workers} workers, {some['seed'].nunique()} repeats"
        parts.append(f"**{title}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)


def _estimate(values: np.ndarray) -> str:
    low, high = interval(values)
    return f"{iqm(values):.3f} [{low:.3f}, {high:.3f}]"


def _difference(apart: np.ndarray) -> str:
    """Return mean and percentile bootstrap interval of paired differences."""
    drawn = np.random.default_rng(0).integers(len(apart), size=(2000, len(apart)))
    low, high = np.percentile(apart[drawn].mean(axis=1), (2.5, 97.5))
    text = f"{apart.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _budgets(text: str) -> list[float]:
    return [BUDGETS[part] if part in BUDGETS else float(_count(part)) for part in text.split(",")]


def _counts(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _groups(text: str) -> list[str]:
    for name in text.split(","):
        if name not in GROUPS:
            raise argparse.ArgumentTypeError(f"no group {name!r}; choose from {', '.join(GROUPS)}")
    return text.split(",")


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(prog="python -m analysis.replay", description=(__doc__ or "").splitlines()[0])
    p.add_argument(
        "--curves", type=Path, default=CURVES, help="table of recorded curves (default the one that is here)"
    )
    p.add_argument("--repeats", type=_count, default=200, help="of every method (default 200)")
    p.add_argument("--workers", type=_counts, default=[2], help="simulated workers, such as 2,16,256 (default 2)")
    known = ",".join(BUDGETS)
    what = f"some of {known}, or numbers of whole explore trials on two workers (default {known})"
    p.add_argument("--budgets", type=_budgets, default=list(BUDGETS.values()), help=what)
    p.add_argument("--groups", type=_groups, default=GROUPS, help=f"some of {','.join(GROUPS)} (default all)")
    p.add_argument("--processes", type=_count, default=2, help="real processes (default 2)")
    p.add_argument("--out", type=Path, default=Path("replay"), help="folder of table.md, repeats.csv (default replay)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Play, write and print the table; return the exit code."""
    args = parser().parse_args(argv)
    try:
        check_folder(args.out)
        about = load_recording(args.curves).describe()
        rows: list[Row] = []
        with progress_bar("replaying") as progress:
            for count, some in enumerate(play_all(args), start=1):
                rows += some
                if progress:
                    progress(count, args.repeats)
        frame = pd.DataFrame(rows)
        text = f"{about}\n\n{table(frame)}"
        write_file(args.out / "repeats.csv", frame.to_csv(index=False).encode())
        write_file(args.out / "table.md", text.encode())
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
