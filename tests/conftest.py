"""What all tests share: the real pictures, if they lie beside the project, and a tiny data set."""

import csv
import os
import time
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


class FixedClock:
    """A clock that stands still until a test moves `now`."""

    def __init__(self) -> None:
        self.now = time.monotonic()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FixedClock:
    """The clock behind time.monotonic() in this process, so that no outcome depends on how fast the machine is."""
    fixed = FixedClock()
    monkeypatch.setattr(time, "monotonic", lambda: fixed.now)
    return fixed


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures in ../shared/data, which are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"no real pictures in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty built-in scenes of 64 px: 10 backgrounds, 4 placements each."""
    from data.scenes.scenes import make_scenes

    folder = tmp_path_factory.mktemp("tiny") / "scenes"
    return make_scenes(folder, 40, per_background=4, px=64, seed=1, workers=1)  # the check doubts none


PARTIAL = {  # what the four images of each background keep of their truth
    "mask_only": ("mask", "mask", "mask", "mask"),
    "depth_only": ("depth", "depth", "depth", "depth"),
    "mixed": ("mask depth", "mask", "depth", "depth"),
}


@pytest.fixture(scope="session")
def partial_datasets(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny data set without depth, without masks, and with some of each; the files are the same."""
    with (tiny_dataset / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    folders = {name: tmp_path_factory.mktemp("partial") / name for name in PARTIAL}
    for name, folder in folders.items():
        folder.mkdir()
        for linked in ("images", "masks", "depth", "dataset.json"):
            (folder / linked).symlink_to(tiny_dataset / linked)
        with (folder / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for i, row in enumerate(rows):
                hidden = {"mask", "depth"} - set(PARTIAL[name][i % 4].split())
                writer.writerow(row | dict.fromkeys(hidden, ""))
    return folders


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors on many threads wait for each other; and sums differ with the number of threads."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep packs and built-in scenes of tests out of the user's cache."""
    os.environ["ONE_LOOK_CACHE"] = str(tmp_path_factory.mktemp("cache"))
