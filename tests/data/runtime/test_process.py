"""Settings of a process that runs torch on a CPU."""

import os
import platform
import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["search.run", "analysis"])
@pytest.mark.parametrize(("own", "expected"), [(None, "10000"), ("7", "7")])
def test_spinning_is_limited_before_torch_is_imported_unless_the_user_has(package, own, expected):
    code = f"import os, sys, {package}; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    env |= {"GOMP_SPINCOUNT": own} if own else {}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "False"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns the memory of large tensors")
@pytest.mark.parametrize("module", ["search.run", "analysis", None])
def test_large_allocations_use_freed_memory_again(module):
    code = """if True:
        import resource
        count_faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(2):
            b"".join([b"1" * 2**20] * 64)
        before = count_faults()
        b"".join([b"1" * 2**20] * 64)
        print(count_faults() - before)
    """
    setup = f"import {module}\n" if module else ""
    done = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, check=True)
    pages = int(done.stdout)
    assert pages < 10 if module else pages > 10_000
