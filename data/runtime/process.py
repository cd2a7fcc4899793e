"""Settings of a process that runs torch on a CPU: waiting threads sleep soon, and freed memory is used again."""

import ctypes
import os
import platform

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
    """Limit spinning and keep freed memory; call this before torch is imported."""
    limit_spinning()
    keep_freed_memory()


def limit_spinning() -> None:
    """Limit how long waiting threads keep a core busy, unless the user has set it."""
    os.environ.setdefault(*SPINNING)


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocations of this process, where the C library is glibc."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_MAX, 0)
