"""Progress of a run for the user: a live block on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from data.runtime.cli import format_count, to_printable
from data.runtime.progress import Progress, add_bar, build_bars, format_duration, no_progress
from search.records.run_dir import shorten
from search.records.trials import TrialRecord


class RunConsole:
    """Shows the stage, the time left, trials by status and the best one so far."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.stage, self.deadline, self.end = "starting", 0.0, 0.0
        self.counts: Counter[str] = Counter()
        self.running: set[str] = set()
        self.best: dict[str, tuple[float, str]] = {}  # best score and description, by trial
        self._before = "none yet"  # shown until a trial of the stage has a score
        self._bars = build_bars(self.console)  # shown by the live block, so never started
        self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> "RunConsole":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the live block."""
        self._live.stop()

    def print(self, line: str, *, lead: str = "", style: str = "bold", whole: bool = False) -> None:
        """Print a line above the live block, after the styled word `lead`.

        A terminal wraps it between words, unless it must stay `whole` because it contains a command to copy.
        """
        text = Text.assemble((lead, style), to_printable(line))
        self.console.print(text, soft_wrap=whole or not self.console.is_terminal)

    @contextmanager
    def show_progress(self, title: str) -> Iterator[Progress]:
        """Show a progress bar below the live block, if there is a terminal."""
        if not self.console.is_terminal:
            yield no_progress
            return
        with add_bar(self._bars, title) as progress:
            yield progress

    def begin(self, stage: str, description: str, deadline: float, end: float) -> None:
        """Enter a stage. `deadline` (0 if there is none) and `end`, that of the run, are values of time.monotonic()."""
        if self.best:
            self._before = f"none yet; in {self.stage} {self._describe_best()}"
        self.stage, self.deadline, self.end = stage, deadline, end
        self.counts.clear()
        self.running.clear()
        self.best.clear()
        left = f", for {format_duration(max(deadline - time.monotonic(), 0))}" if deadline else ""
        self.print(f"  {description}{left}", lead=stage)

    def update(self, record: TrialRecord) -> None:
        """Update the display for a trial that started, reported or ended."""
        if record.status:
            self.running.discard(record.trial_id)
            self.counts[record.status] += 1
        else:
            self.running.add(record.trial_id)
        if record.status == "failed":
            self.best.pop(record.trial_id, None)
        elif record.metrics:
            self._update_best(record)

    def _update_best(self, record: TrialRecord) -> None:
        """Keep the line of a trial; without a terminal, print it when an ended trial is the best so far."""
        leader = max((score for score, _ in self.best.values()), default=float("-inf"))
        self.best[record.trial_id] = (record.score, describe_trial(record))
        for trial_id in sorted(self.best.keys() - self.running, key=lambda trial_id: self.best[trial_id])[:-1]:
            del self.best[trial_id]  # another trial that has ended is better
        if record.status and record.score >= leader and not self.console.is_terminal:
            self.print(f"  best so far {describe_trial(record)}")

    def _describe_best(self) -> str:
        return max(self.best.values(), default=(0.0, self._before))[1]

    def finish(self) -> None:
        """Print a summary of the stage."""
        counted = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in self.counts.items())
        ended = format_count(sum(self.counts.values()), "trial")
        self.print(f"  {ended}: {counted or 'none ended'}; best {self._describe_best()}")

    def _render(self) -> Group:
        return Group(self.build_block(), self._bars)

    def build_block(self) -> Table:
        """Return the live block."""
        now = time.monotonic()
        table = Table.grid(padding=(0, 2))
        table.add_row("stage", Text(self.stage, style="bold"))
        if self.deadline:
            table.add_row("time left", f"{_clock(self.deadline - now)} in this stage, {_clock(self.end - now)} in all")
        counts = [f"{len(self.running)} running"] + [f"{n} {s.replace('_', ' ')}" for s, n in self.counts.items()]
        table.add_row("trials", " · ".join(counts))
        table.add_row("best", Text(to_printable(self._describe_best())))
        return table


def list_dashboards(out: Path, *, searches: bool, ray: str = "") -> list[str]:
    """Return the commands that show a run in a browser; `ray` is the address of the Ray dashboard while it exists."""
    out = shorten(out)
    lines = [f"curves    tensorboard --logdir {quote(str(out / 'tensorboard'))}"]
    if searches:
        journal, artifacts = (quote(str(out / name)) for name in ("study.journal", "artifacts"))
        lines.append(f"search    optuna-dashboard {journal} --artifact-dir {artifacts}")
    if ray:
        lines.append(f"workers   {ray}  (Ray's dashboard during the run; `ray get-auth-token` prints its token)")
    return lines


def list_results(out: Path) -> list[str]:
    """Return the places of a finished run's results, a line each."""
    out = shorten(out)
    front = [f"front     {out / 'front'}  (more models, smaller or faster)"] if (out / "front").exists() else []
    return [
        f"report    {out / 'report.html'}  (open it in a browser)",
        f"model     {out / 'best'}  (README.md, metrics.json, samples.png)",
        *front,
        f"trials    {out / 'trials.csv'}",
        *list_dashboards(out, searches=(out / "study.journal").exists()),
    ]


def describe_trial(record: TrialRecord) -> str:
    """Return a line with a trial's id, score, IoU and depth error as far as they are known, and its network."""
    metrics = record.metrics
    named = {"IoU": metrics.get("iou"), "depth RMSE": metrics.get("rmse_depth")}
    known = ", ".join(f"{name} {value:.3f}" for name, value in named.items() if value is not None)
    parts = [f"{record.trial_id} score {record.score:.3f} ({known})"]
    parts.append(f"{record.config['model/arch']} of width {record.config['model/width']}")
    if "params" in metrics:
        parts.append(f"{metrics['params']:,} parameters")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    seconds = max(int(seconds), 0)
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"
