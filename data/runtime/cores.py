"""Count the cores that this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def count_cores() -> int:
    """Return the number of usable cores: those of the machine, the affinity (taskset) and the control group allow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _read_quotas())]))


def _read_quotas() -> Iterator[float]:
    """Yield the processor time per second that each control group above this process allows, where it has a limit."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = CGROUPS / controllers if controllers else CGROUPS
        own = root / path.strip("/")
        for folder in [own, *own.parents][: len(own.parts) - len(root.parts) + 1]:
            yield from _read_quota(folder)


def _read_quota(folder: Path) -> Iterator[float]:
    """Yield the limit of one control group, in version 2 (cpu.max) or 1 (cpu.cfs_quota_us)."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            files = (folder / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
            quota, period = (file.read_text(encoding="utf-8") for file in files)
        if quota != "max" and float(quota) > 0:
            yield float(quota) / float(period)
    except (OSError, ValueError):  # this control group sets no limit
        return
