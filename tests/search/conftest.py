"""Data and configurations small enough for tests of the training loop, and budgets that fit the machine."""

import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data.data_module import DataModule, StageData
from search.config.trial import TrialConfig
from tests.waiting import HANG_S

RUN = Path(__file__).resolve().parents[2] / "search" / "run.py"
USUAL_S = 25.0  # for a run of one small trial and its two repeats on two cores that do nothing else


@pytest.fixture(scope="session")
def stretch(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], int]:
    """Convert seconds of a quiet machine to seconds of this one, measured by a short run, but to no fewer.

    A budget that is stretched has time for the same trials however slow the machine is.
    """
    options = ["--budget", "1trials", "--data", tiny_dataset, "--out", tmp_path_factory.mktemp("pace") / "out"]
    options += ["--recipe", "quick_residual", "--width", "4", "--set", "stage.final.epochs=1"]
    begin = time.monotonic()
    subprocess.run([sys.executable, RUN, *options], check=True, timeout=HANG_S)
    factor = max(1.0, (time.monotonic() - begin) / USUAL_S)
    return lambda seconds: math.ceil(factor * seconds)


@pytest.fixture(scope="session")
def fit_data(tiny_dataset: Path) -> StageData:
    """The tiny data set, whole, at 32 px."""
    return DataModule(tiny_dataset, seed=0).stage_data(fraction=1.0, px=32)


@pytest.fixture
def small_config() -> TrialConfig:
    """A network of a few thousand parameters."""
    return TrialConfig.from_dict(
        {
            "model": {"arch": "unet", "width": 4, "stem_stride": 2, "levels": 3, "block": "plain"},
            "loss": {"depth_structural": "none"},
            "optim": {"batch_size": 8, "lr": 0.005},
        }
    )
