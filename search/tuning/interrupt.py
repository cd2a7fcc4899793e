"""Stop a run cleanly on a signal, and at once if Ray is lost, does not stop, or exceeds the budget."""

import contextlib
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from data.runtime.cli import to_printable
from data.runtime.parallel import check_answer
from search.records.console import RunConsole
from search.records.run_dir import describe_stop, format_resume_command, is_claimed
from search.records.run_state import RunState

STOP_S = 10.0  # seconds after a signal for Ray Tune to save and for Ray to end
LOST_S = 3.0  # seconds without an answer from Ray's servers
LATE_S = 60.0  # seconds after the budget; Ray Tune waits for trials for half of them
POLL_S = 0.5


class RunInterruptedError(Exception):
    """The user stopped the run; all results so far are saved."""


class Interrupt:
    """Stops the run cleanly on SIGINT, SIGTERM or SIGHUP, and from a thread if Ray blocks the main thread."""

    def __init__(self, run_state: RunState, console: RunConsole) -> None:
        self.run_state, self.console = run_state, console
        self.requested = False  # True once a signal asked the run to stop
        self.tuning = False  # True while Ray Tune runs; at any other time a signal raises RunInterruptedError at once
        self.servers: Sequence[str] = ()  # addresses of Ray's servers, without which the run cannot continue
        self.deadline = float("inf")  # moment of time.monotonic() at which the run must have ended
        self._ended = threading.Event()

    def listen(self) -> None:
        """Install the signal handlers; Ray replaces them when it starts."""
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: self.request())
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # set by nohup
            signal.signal(signal.SIGHUP, lambda *_: self._hang_up())
        signal.signal(signal.SIGUSR1, lambda *_: None)  # the signal must not end the process before Ray Tune handles it

    def request(self) -> None:
        """Ask Ray Tune to save its state and stop."""
        again, self.requested = self.requested, True
        self.console.stage = f"stopping, in {STOP_S:.0f} s at most"
        self.deadline = min(self.deadline, time.monotonic() + STOP_S)
        if again or not self.tuning:
            raise RunInterruptedError
        os.kill(os.getpid(), signal.SIGUSR1)  # Ray Tune's signal to stop and save

    def _hang_up(self) -> None:
        """Stop after the terminal was closed; discard further output to it."""
        for descriptor in (1, 2):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        self.request()

    @contextlib.contextmanager
    def pass_to_ray_tune(self) -> Iterator[None]:
        """Pass signals to Ray Tune while it runs; raise RunInterruptedError afterwards if one stopped it."""
        self.tuning = True
        try:
            yield
        finally:
            self.tuning = False
        if self.requested:
            raise RunInterruptedError

    def watch(self) -> Callable[[], None]:
        """Watch Ray and the clock from a thread; return a function that ends the thread."""
        threading.Thread(target=self._watch, daemon=True).start()
        return self._ended.set

    def _watch(self) -> None:
        answered = time.monotonic()
        while not self._ended.wait(POLL_S):
            lost, now = _find_lost(self.servers), time.monotonic()
            answered = answered if lost else now
            if lost and (self.requested or now - answered > LOST_S):
                self._end(f"Ray has ended ({lost})")
            if now > self.deadline:
                self._end(f"Ray has not ended {LATE_S:.0f} s after the budget")

    def _end(self, reason: str) -> None:
        """End this process from a thread, because the main thread waits for Ray."""
        with contextlib.suppress(OSError):  # a full disk
            if self.run_state.state == "running":
                self.run_state.end("stopped")
        with contextlib.suppress(OSError):  # a closed terminal
            self.console.close()
            folder = self.run_state.folder
            more = f"continue with: {format_resume_command(folder)}" if is_claimed(folder) else "start the run again"
            text = describe_stop(folder) if self.requested else f"error: {reason}; {more}"
            print(to_printable(text), file=sys.stdout if self.requested else sys.stderr, flush=True)
        os._exit(130 if self.requested else 1)


def _find_lost(servers: Sequence[str]) -> str:
    """Return the error of the first server that does not answer; "" if all of them answer."""
    try:
        for address in servers:
            check_answer(address)
    except ConnectionError as error:
        return str(error)
    return ""
