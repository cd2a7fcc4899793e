"""What a run is worth beside others: its model on whole parts of the data, and what it would have handed out before.

Runs differ in the size and number of the images that they validate on, and in the deviation of the depth that their
scores are measured by. Here all are judged alike: at PX, the last size of the ladder, and by the deviation of the depth
of the whole validation part, by background, of their seed.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from analysis.exceptions import AnalysisError
from analysis.model import load_model
from analysis.runs.run import read_json
from analysis.runs.tables import load_reports, load_trials
from data.data_module import DataModule, load_data_module
from data.loading.loaders import Loader
from models.metrics.metrics import score
from search.output.model_folder import measure

PX = 160
RUNGS = {"explore": 0, "confirm": 1, "final": 2, "repeat": 2}  # finalists that are repeated climb no higher
FIGURES = ("score", "iou", "rmse_depth")


class AtSize(nn.Module):
    """A network that is shown images of another size than its own.

    Args:
        network: In evaluation mode, on the CPU.
        px: Side of the squares that it was trained on; images are brought to it as data.decode does.
    """

    def __init__(self, network: nn.Module, px: int) -> None:
        super().__init__()
        self.network, self.px = network, px

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2 h w"]:
        """Return the network's maps at the size of the images, between its values where they grow."""
        squares = image.permute(0, 2, 3, 1).contiguous().numpy()
        own = [cv2.resize(square, (self.px, self.px), interpolation=cv2.INTER_AREA) for square in squares]
        maps = self.network(torch.from_numpy(np.stack(own)).permute(0, 3, 1, 2)).float()
        return F.interpolate(maps, size=image.shape[2:], mode="bilinear")


def score_run(folder: Path) -> dict[str, Any]:
    """Return the figures of one run: of its model on whole parts of the data, of the network, of what it took.

    Raises:
        AnalysisError: It has no model, or its records are damaged.
        DataError: The data have changed since the run.
    """
    notes = read_json(folder / "run.json")
    trials = load_trials(folder).set_index("trial_id")
    if notes.get("best") not in trials["params"].dropna().index or not {"wall_s", "seed", "data"} <= notes.keys():
        raise AnalysisError(f"{folder}: no run that has ended with a model; remove it, and it is made again")
    best = trials.loc[notes["best"]]
    network = {"arch": best["model/arch"], "width": best["model/width"], "params": best["params"]}
    spent = {"trials": len(trials), "images_seen": trials["images_seen"].sum(), "wall_s": notes["wall_s"]}
    return {**measured(folder, notes), **network, **spent}


def measured(folder: Path, notes: dict[str, Any]) -> dict[str, float]:
    """Return score, IoU and RMSE of a run's model on all images of validation and test at PX, however slow it is.

    The run itself measures at its own size as many as its budget leaves time for. `sigma` is what the scores are
    measured by.

    Raises:
        DataError: The data have changed since the run.
    """
    model = load_model(folder, device="cpu")
    network = model.network if model.px == PX else AtSize(model.network, model.px)
    data_module = load_data_module(notes)
    by_background = (
        data_module if data_module.split == "background" else DataModule(data_module.dataset.root, seed=notes["seed"])
    )
    sigma = by_background.pack("val", PX).stats.depth_std or 1.0
    row: dict[str, float] = {"px": model.px, "sigma": sigma}
    for part in (name for name in ("val", "test") if data_module.sizes()[name]):
        loader = Loader(data_module.pack(part, PX), batch_size=32, stats=model.stats)
        found = measure(network, loader, model.stats, sigma)
        row |= {f"{part}_{name}": found[name] for name in FIGURES if name in found}
    return row


def handed_out(folder: Path, sigma: float) -> pd.DataFrame:
    """Return the validation score of the model that a run would have handed out, at every moment at which it changed.

    That model is the trial with the best score of the highest stage that has reported, as it is for a run that ends:
    where a stage opens, its first model takes the place of the best of the stage below, better or not. Chosen by the
    run's own score, shown by `sigma`; measured on the validation images and at the size of its stage, for it is not
    kept to be measured again. Trials that failed in the end are left out.

    Args:
        folder: A finished run.
        sigma: Deviation of the validation depth that scores are shown by.

    Returns:
        `time_s` since Enter, rising, and `score`.
    """
    trials, reports = load_trials(folder), load_reports(folder)
    failed = trials.loc[trials["status"] == "failed", "trial_id"]
    known = reports[reports["score"].notna() & ~reports["trial_id"].isin(failed)]
    known = known.assign(rung=known["stage"].map(RUNGS)).sort_values("ended_s", kind="stable")
    known = known[known["rung"] == known["rung"].cummax()]
    known = known[known["score"] == known.groupby("rung")["score"].cummax()]
    errors = known.reindex(columns=["iou", "rmse_depth"]).astype(object).where(lambda table: table.notna(), None)
    shown = [score(iou, rmse, sigma) for iou, rmse in errors.itertuples(index=False, name=None)]
    return pd.DataFrame({"time_s": known["ended_s"].to_numpy(), "score": shown})


def at_times(changes: pd.DataFrame, times_s: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Return the score that `handed_out` gives at each of the times; nan where there is no model yet."""
    before = np.searchsorted(changes["time_s"].to_numpy(), times_s, side="right")
    return np.concatenate([[np.nan], changes["score"].to_numpy(dtype=float)])[before]
