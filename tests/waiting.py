"""Wait for what another process or thread does, however slow the machine is."""

from collections.abc import Callable
from time import monotonic, sleep  # those of a test that replaces the clock stay as they are

HANG_S = 600.0  # after which a process of a test hangs; no correct process takes so long on any machine
POLL_S = 0.02


def wait_until(condition: Callable[[], object], *, or_until: Callable[[], object] = lambda: False) -> None:
    """Return once `condition` holds; fail if `or_until` holds before, or after HANG_S."""
    until = monotonic() + HANG_S
    while not condition():
        assert not or_until(), "ended before"
        assert monotonic() < until, "hangs"
        sleep(POLL_S)
