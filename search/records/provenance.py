"""Describe the command, machine and package versions that produced a result."""

import platform
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from data.runtime.cores import count_cores

_PACKAGES = ("torch", "ray", "optuna", "albumentations", "pytorch-msssim", "opencv-python-headless", "numpy", "pandas")


def describe_process() -> dict[str, Any]:
    """Return command, time, platform, number of usable cores, and versions of Python and the installed packages."""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "time": iso_time(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": count_cores(),
        "versions": {name: version for name in _PACKAGES if (version := _find_version(name))},
    }


def iso_time() -> str:
    """Return the current local time in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
