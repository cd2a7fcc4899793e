"""Data and configurations small enough for tests of the training loop, and budgets that fit the machine."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from data.data_module import DataModule, StageData
from search.config.trial import TrialConfig
from tests.waiting import HANG_S

RUN = Path(__file__).resolve().parents[2] / "search" / "run.py"
USUAL_S = 25.0  # for `grid_run` on two cores that do nothing else


class GridRun(NamedTuple):
    """A run of two given configurations, split by image."""

    folder: Path
    process: "subprocess.CompletedProcess[str]"
    wall_s: float


@pytest.fixture(scope="session")
def grid_run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> GridRun:
    """The run of a grid, to its end whatever time it takes."""
    folder = tmp_path_factory.mktemp("grid")
    small = {"recipe": "quick_residual", "model/width": 4, "augment/brightness_contrast": 0.0}
    (folder / "grid.json").write_text(json.dumps({**small, "product": {"optim/lr": [0.02, 0.003]}}))
    options = ["--grid", folder / "grid.json", "--budget", "2trials", "--data", tiny_dataset, "--out", folder / "out"]
    options += ["--stages", "race", "--set", "stage.explore.epochs=8", "--set", "stage.final.epochs=4"]
    command, begin = [sys.executable, RUN, *options, "--split", "random"], time.monotonic()
    process = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert process.returncode == 0, process.stderr
    return GridRun(folder / "out", process, time.monotonic() - begin)


@pytest.fixture(scope="session")
def stretch(grid_run: GridRun) -> Callable[[float], int]:
    """Convert seconds of a quiet machine to seconds of this one, by the time of `grid_run`, but to no fewer.

    A budget that is stretched has time for the same trials however slow the machine is.
    """
    factor = max(1.0, grid_run.wall_s / USUAL_S)
    return lambda seconds: math.ceil(factor * seconds)


@pytest.fixture(scope="session")
def fit_data(tiny_dataset: Path) -> StageData:
    """The tiny data set, whole, at 32 px."""
    return DataModule(tiny_dataset, seed=0).load_stage_data(fraction=1.0, px=32)


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
