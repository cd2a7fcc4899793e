"""The cores of this process, and its settings for torch on a CPU: threads sleep soon, freed memory is used again."""

import ctypes
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")

# How often a thread of GNU OpenMP, which computes torch's operations, looks for work before it sleeps. Its default
# keeps cores busy that the other threads need as soon as other programs use them: two threads of a trial then trained
# 10 images/s beside two busy programs instead of 25, and alone 65 as with this value (67); sleeping at once gives 48.
SPINNING = ("GOMP_SPINCOUNT", "10000")
# Parameters of glibc's mallopt: the free bytes at the end of the heap above which they go back to the system, and the
# number of allocations outside the heap. By default, glibc returns the memory of large tensors as soon as they are
# freed, so that each training step of an `efficientnet_lite` at 160 px touches 15,000 new pages: it then takes 22.4 ms
# an image instead of 19.1, and a forward pass 11.7 instead of 8.3, at the same peak of memory.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def prepare_process() -> None:
    """Limit spinning, unless the user has set it, and keep freed memory; call this before torch is imported."""
    os.environ.setdefault(*SPINNING)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocations of this process, where the C library is glibc."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_MAX, 0)


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
