"""What a person sees while a run goes on: a live block on a terminal, plain lines elsewhere. Knows no Ray."""

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

from data.runtime.progress import Progress, add_bar, build_bars
from search.records.trials import TrialRecord


class RunConsole:
    """Shows stage, time left, trials by status and the best so far; `notify` may be called for every event."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.stage, self.deadline, self.end = "starting", 0.0, 0.0
        self.counts: Counter[str] = Counter()
        self.running: set[str] = set()
        self.best: dict[str, tuple[float, str]] = {}  # newest score and description by trial
        self._bars = build_bars(self.console)  # shown by the live block, so never started
        self._live = Live(get_renderable=self._shown, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> "RunConsole":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str, *, lead: str = "", style: str = "bold") -> None:
        """Print one line above the live block, behind a word in a style of its own."""
        self.console.print(Text.assemble((lead, style), line), soft_wrap=True)

    @contextmanager
    def working(self, title: str) -> Iterator[Progress | None]:
        """Show a bar below the live block while work goes on; yields a function to tell (done, in all), or None."""
        if not self.console.is_terminal:
            yield None
            return
        with add_bar(self._bars, title) as progress:
            yield progress

    def begin(self, stage: str, what: str, deadline: float, end: float) -> None:
        """Enter a stage that ends by `deadline`, of a run that ends by `end` (seconds since the epoch)."""
        self.stage, self.deadline, self.end = stage, deadline, end
        self.counts.clear()
        self.running.clear()
        self.best.clear()
        left = f", until {_clock(deadline - time.time())} from now" if deadline else ""
        self.say(f"  {what}{left}", lead=stage)

    def notify(self, record: TrialRecord) -> None:
        """Take note of a trial that started, reported or ended."""
        if record.status:
            self.running.discard(record.trial_id)
            self.counts[record.status] += 1
        else:
            self.running.add(record.trial_id)
        if record.status == "failed":
            self.best.pop(record.trial_id, None)
        elif record.metrics:
            self._consider(record)

    def _consider(self, record: TrialRecord) -> None:
        """Keep the line of a trial if it is the best by its newest score; say so where there is no live block."""
        leader = max((score for score, _ in self.best.values()), default=float("-inf"))
        self.best[record.trial_id] = (record.score, describe(record))
        if record.status and record.score >= leader and not self.console.is_terminal:
            self.say(f"  best so far {describe(record)}")

    def _best_line(self) -> str:
        return max(self.best.values(), default=(0.0, "none yet"))[1]

    def finish(self) -> None:
        """Leave a stage: print how it went."""
        counted = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in self.counts.items())
        self.say(f"  {sum(self.counts.values())} trials: {counted or 'none ended'}; best {self._best_line()}")

    def _shown(self) -> Group:
        return Group(self.block(), self._bars)

    def block(self) -> Table:
        """Return the live block."""
        now = time.time()
        table = Table.grid(padding=(0, 2))
        table.add_row("stage", Text(self.stage, style="bold"))
        if self.deadline:
            table.add_row("time left", f"{_clock(self.deadline - now)} in this stage, {_clock(self.end - now)} in all")
        counts = [f"{len(self.running)} running"] + [f"{n} {s.replace('_', ' ')}" for s, n in self.counts.items()]
        table.add_row("trials", " · ".join(counts))
        table.add_row("best", self._best_line())
        return table


def dashboards(out: Path, *, searches: bool, ray: str = "") -> list[str]:
    """Return the commands that show a run in a browser, a line each.

    Args:
        out: The run folder.
        searches: Whether the run has an Optuna study.
        ray: Address of the Ray dashboard, while there is one.
    """
    lines = [f"curves    tensorboard --logdir {quote(str(out / 'tensorboard'))}"]
    if searches:
        journal, artifacts = (quote(str(out / name)) for name in ("study.journal", "artifacts"))
        lines.append(f"search    optuna-dashboard {journal} --artifact-dir {artifacts}")
    if ray:
        lines.append(f"workers   ray get-auth-token   prints the token that {ray} asks for, while the run goes on")
    return lines


def describe(record: TrialRecord) -> str:
    """Return a trial in a few words: id, score, IoU and depth error as far as they are known, and what it is."""
    metrics = record.metrics
    named = {"IoU": metrics.get("iou"), "depth RMSE": metrics.get("rmse_depth")}
    told = ", ".join(f"{name} {value:.3f}" for name, value in named.items() if value is not None)
    parts = [f"{record.trial_id} score {record.score:.3f} ({told})"]
    parts.append(f"{record.config['model/arch']} of width {record.config['model/width']}")
    if "params" in metrics:
        parts.append(f"{metrics['params']:,} parameters")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    seconds = max(int(seconds), 0)
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"
