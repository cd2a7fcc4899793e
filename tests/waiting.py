"""Wait for what another process or thread does, however slow the machine is."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep  # those of a test that replaces the clock stay as they are

HANG_S = 600.0  # after which a process of a test hangs; no correct process takes so long on any machine
LEAVE_S = 20.0  # in which Ray's processes end after the run that started them
POLL_S = 0.02


def wait_until(condition: Callable[[], object], *, or_until: Callable[[], object] = lambda: False) -> None:
    """Return once `condition` holds; fail if `or_until` holds before, or after HANG_S."""
    until = monotonic() + HANG_S
    while not condition():
        assert not or_until(), "ended before"
        assert monotonic() < until, "hangs"
        sleep(POLL_S)


def wait_for_report(out: Path, process: subprocess.Popen, *, also: Callable[[], object] = lambda: True) -> None:
    """Return once a run that has just been started or resumed in `out` has recorded a report, and `also` holds.

    From then on Ray Tune runs and handles signals, and the run has printed the command that resumes it. The reports of
    earlier processes do not count. The run is killed if that does not happen.
    """
    earlier = read_reports(out)
    try:
        wait_until(lambda: read_reports(out) - earlier and also(), or_until=lambda: process.poll() is not None)
    except AssertionError:
        process.kill()
        raise


def read_reports(out: Path) -> set[str]:
    """Return the lines of reports.jsonl, no two of which are equal, because they contain times."""
    path = out / "reports.jsonl"
    return set(path.read_text().splitlines()) if path.exists() else set()


def list_ray_processes() -> set[int]:
    """Return the numbers of all processes that Ray has started on this machine, whoever asked for it."""
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    ray = [line for line in listing.splitlines() if "raylet" in line or "gcs_server" in line or " ray::" in line]
    return {int(line.split()[0]) for line in ray}


def list_left_behind(before: set[int]) -> set[int]:
    """Return those of Ray's processes that are still there LEAVE_S after a run, beside those from before."""
    until = monotonic() + LEAVE_S
    while (left := list_ray_processes() - before) and monotonic() < until:
        sleep(0.1)
    return left
