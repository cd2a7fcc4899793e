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
    """Return the command, time, Python and package versions, platform and number of usable cores of this process."""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "time": iso_time(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": count_cores(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def iso_time() -> str:
    """Return the current local time in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
