"""Show progress bars with count, rate and remaining time on a terminal; show nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from data.runtime.cli import to_printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import Task

Progress = Callable[[int, int], None]  # called with (done, total)
ShowProgress = Callable[[str], AbstractContextManager[Progress]]  # takes a title, as `progress_bar` does

BAR_WIDTH = 24
RATE_WINDOW_S = 60.0  # the rate is averaged over the last minute
_shown: list["Bars"] = []  # bars now on the terminal: two sets would overwrite each other


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a bar on stderr, if it is a terminal, while the context is active, below the bars of enclosing contexts.

    In a notebook the bar is a widget.
    """
    kernel = sys.modules.get("ipykernel.kernelapp")
    if kernel is not None and kernel.IPKernelApp.initialized():
        with _widget_bar(title) as progress:
            yield progress
        return
    if not sys.stderr.isatty():
        yield no_progress
        return
    with _bars_on_stderr() as bars, add_bar(bars, title) as progress:
        yield progress


@contextmanager
def add_bar(bars: "Bars", title: str) -> Iterator[Progress]:
    """Add a bar while the context is active."""
    added = bars.add_task(to_printable(title), total=None)
    try:
        yield lambda done, total: bars.update(added, completed=done, total=total)
    finally:
        bars.remove_task(added)


def offset_progress(progress: Progress, before: int, total: int) -> Progress:
    """Return the progress of a part of some work, of which `before` items were done already."""
    return lambda done, _: progress(before + done, total)


def build_bars(console: "Console") -> "Bars":
    """Return bars with count, rate and remaining time, which vanish when they are stopped."""
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    class Pace(TextColumn):
        """Column with count, rate and remaining time, as far as they are known."""

        def render(self, task: "Task") -> Text:
            left = "" if task.time_remaining is None else f"  {format_duration(task.time_remaining)} left"
            return Text(format_pace(task.completed, task.total, task.speed) + left)

    bar = BarColumn(bar_width=BAR_WIDTH)
    columns = TextColumn("{task.description}", markup=False), bar, Pace("")
    return Progress(
        *columns,
        console=console,
        transient=True,
        speed_estimate_period=RATE_WINDOW_S,
        redirect_stdout=sys.stdout.isatty(),  # printed lines go above the bars on a terminal, but not out of a pipe
    )


def format_duration(seconds: int | float) -> str:
    """Format seconds as a short text in s, min or h."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def format_pace(done: int | float, total: int | float | None, per_s: float | None) -> str:
    """Format a count and a rate, per second or in seconds each; unknown values are omitted."""
    count = f"{done:,.0f}/{total:,.0f}" if total is not None else ""
    rate = (f"{per_s:,.1f}/s" if per_s >= 1 else f"{1 / per_s:,.1f} s each") if per_s else ""
    return f"{count}  {rate}" if rate else count


@contextmanager
def _widget_bar(title: str) -> Iterator[Progress]:
    from IPython.display import display
    from ipywidgets import HBox, IntProgress, Label

    bar, pace = IntProgress(max=1), Label()
    box = HBox([Label(to_printable(title)), bar, pace])
    shown = display(box, display_id=True)

    def show(done: int, total: int) -> None:
        bar.max, bar.value, pace.value = total, done, f"{done:,}/{total:,}"

    try:
        yield show
    finally:
        box.close()
        shown.update({"text/plain": ""}, raw=True)  # so that a saved notebook and its HTML do not contain the bar


@contextmanager
def _bars_on_stderr() -> Iterator["Bars"]:
    if _shown:
        yield _shown[-1]
        return
    from rich.console import Console

    with build_bars(Console(stderr=True)) as bars:
        _shown.append(bars)
        try:
            yield bars
        finally:
            _shown.clear()
