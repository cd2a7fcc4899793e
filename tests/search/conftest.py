"""Data and configurations small enough for tests of the training loop."""

from pathlib import Path

import pytest

from data.data_module import DataModule, StageData
from search.config.trial import TrialConfig


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
