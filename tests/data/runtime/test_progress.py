import io
import re
from contextlib import redirect_stderr

import pytest

from data.runtime.progress import format_duration, format_pace, no_progress, progress_bar
from tests.waiting import wait_until


class Terminal(io.StringIO):
    """Takes what is written to a terminal."""

    def isatty(self):
        return True

    def seen(self):
        """Return all lines that were ever shown, without control codes."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue()).replace("\r", "\n").splitlines()

    def await_line(self, text):
        """Wait until a line with that text is drawn."""
        wait_until(lambda: any(text in line for line in self.seen()))


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        ((0, None, None), ""),
        ((3, 10, None), "3/10"),
        ((1234, 40000, 61.26), "1,234/40,000  61.3/s"),
        ((1, 8, 0.25), "1/8  4.0 s each"),
        ((0, 8, 0.0), "0/8"),
    ],
)
def test_pace_is_in_the_unit_that_suits_it(figures, shown):
    assert format_pace(*figures) == shown


def test_nothing_is_shown_where_there_is_no_terminal(capsys):
    with progress_bar("photos") as progress:
        progress(1, 2)
    assert capsys.readouterr() == ("", "")


def test_bar_has_count_rate_and_time_left_and_vanishes(terminal):
    with redirect_stderr(terminal), progress_bar("photos") as progress:
        for done in (1, 2, 3):
            progress(done, 5)
            terminal.await_line(f"{done}/5")
    last = [line for line in terminal.seen() if "3/5" in line][-1]
    assert re.search(r"photos .* 3/5  [\d.,]+(/s| s each)  [\d.]+ s left", last)
    assert terminal.getvalue().endswith("\x1b[2K\x1b[?25h\r")  # the line is wiped


def test_work_within_work_has_a_bar_below_and_the_outer_one_stays(terminal):
    with redirect_stderr(terminal), progress_bar("outer") as outer:
        outer(1, 2)
        terminal.await_line("1/2")
        with progress_bar("inner") as inner:
            inner(3, 4)
            terminal.await_line("3/4")
        outer(2, 2)
        terminal.await_line("2/2")
    lines = terminal.seen()
    first = next(number for number, line in enumerate(lines) if "inner" in line)
    assert "outer" in lines[first - 1] and "2/2" in [line for line in lines if "outer" in line][-1]
    with redirect_stderr(terminal), progress_bar("next") as progress:
        progress(1, 1)
    assert "inner" not in terminal.seen()[-1]


def test_bar_is_taken_away_where_work_fails(terminal):
    with pytest.raises(ValueError, match="no"), redirect_stderr(terminal), progress_bar("photos") as progress:
        progress(1, 2)
        raise ValueError("no")
    again = Terminal()
    with redirect_stderr(again), progress_bar("others") as progress:
        progress(1, 2)
    assert "others" in again.getvalue() and "photos" not in again.getvalue()


def test_what_is_printed_to_a_pipe_meanwhile_stays_in_it(terminal, capsys):
    with redirect_stderr(terminal), progress_bar("photos") as progress:
        progress(1, 2)
        print("a line")
    assert capsys.readouterr().out == "a line\n" and "a line" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.26, "4.3 s"), (12, "12 s"), (360, "6 min"), (5999, "100 min"), (7200, "2.0 h")]
)
def test_durations_are_short_texts(seconds, text):
    assert format_duration(seconds) == text


def test_process_that_imports_the_kernel_of_notebooks_is_not_one(capsys):
    pytest.importorskip("ipykernel.kernelapp")
    with progress_bar("reading") as progress:
        progress(1, 2)
    assert progress is no_progress and capsys.readouterr().out == ""
