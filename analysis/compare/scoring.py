"""Score the models of different runs under equal conditions, and trace the incumbent of each run over time.

Runs differ in the size and number of their validation images and in the standard deviation of the depth that scales
their scores. This module scores every model at PX, the image size of the last stage, with the standard deviation of the
depth over the whole validation split of its seed (split by background).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from analysis.compare.summary import METRICS, load_finished_run
from analysis.predict.evaluate import evaluate
from analysis.predict.model import load_model
from analysis.runs.tables import load_reports, load_trials
from data.data_module import load_data_module
from data.dataset import Dataset
from data.loading.device_loader import build_loader
from data.runtime.progress import progress_bar
from models.cost import choose_images_per_pass
from models.score import Score
from search.output.model_folder import measure

PX = 160
STAGE_ORDER = {"explore": 0, "confirm": 1, "final": 2, "repeat": 2}  # repeats rank as high as finalists
JUDGED = ("score", "iou", "explained_depth")  # metrics on the data set of --judge


class ResizingNetwork(nn.Module):
    """A network whose inputs are first resized to its `px`, on the CPU as data.values.triplet does."""

    def __init__(self, network: nn.Module, px: int) -> None:
        super().__init__()
        self.network, self.px = network, px

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2 h w"]:
        """Return the network's maps, interpolated to the size of the images."""
        squares = image.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        own = [cv2.resize(square, (self.px, self.px), interpolation=cv2.INTER_AREA) for square in squares]
        maps = self.network(torch.from_numpy(np.stack(own)).permute(0, 3, 1, 2).to(image.device)).float()
        return F.interpolate(maps, size=image.shape[2:], mode="bilinear")


def score_run(folder: Path, judge: Dataset | None = None) -> dict[str, Any]:
    """Return the metrics of a run's model on whole splits of the data, its network, and what the run spent.

    With a data set `judge`, the row also contains the means of the JUDGED metrics on it, as `judge_score` and so on.

    Raises:
        AnalysisError: The run has no model, or its records are damaged.
        DataError: The data have changed since the run.
    """
    state, trials, best = load_finished_run(folder)
    network = {"arch": best["model/arch"], "width": best["model/width"], "params": int(best["params"])}
    spent = {"trials": len(trials), "images_seen": trials["images_seen"].sum(), "wall_s": state["wall_s"]}
    row = measure_model(folder, state) | network | spent
    if judge is None:
        return row
    judged = evaluate(load_model(folder), judge).query("by == 'model'")[[*JUDGED]].mean().dropna()
    return {f"judge_{name}": value for name, value in judged.items()} | row


def score_runs(runs: Sequence[Path], judge: Dataset | None = None) -> pd.DataFrame:
    """Return a frame with the row of `score_run` for each run."""
    rows = []
    with progress_bar("measuring the models on whole splits") as progress:
        for number, run in enumerate(runs, start=1):
            rows.append(score_run(Path(run), judge))
            progress(number, len(runs))
    return pd.DataFrame(rows)


def measure_model(folder: Path, state: dict[str, Any]) -> dict[str, float]:
    """Measure a run's model on all validation and test images of the run at PX; return score, IoU, RMSE and `sigma`.

    The run itself measured at its own image size, and only as many images as its budget allowed. `sigma` is the
    standard deviation of the depth that scales the scores.

    Raises:
        DataError: The data have changed since the run.
    """
    model = load_model(folder)
    count = choose_images_per_pass(model.config.model, PX, model.device)
    network = model.network if model.px == PX else ResizingNetwork(model.network, model.px)
    data_module = load_data_module(state)
    by_background = data_module
    if data_module.split != "background":
        by_background = load_data_module({**state, "data": {**state["data"], "split": "background"}})
    sigma = by_background.pack("val", PX).stats.depth_std or 1.0
    row: dict[str, float] = {"px": model.px, "sigma": sigma}
    for split in (name for name in ("val", "test") if data_module.sizes()[name]):
        loader = build_loader(data_module.pack(split, PX), device=model.device, batch_size=count, stats=model.stats)
        metrics = measure(network, loader, model.stats, Score(sigma=sigma))
        row |= {f"{split}_{name}": metrics[name] for name in METRICS if name in metrics}
    return row


def trace_incumbent(folder: Path, sigma: float) -> pd.DataFrame:
    """Return the validation score of a run's incumbent at every time at which the incumbent changed.

    The incumbent is the trial with the best score of the highest stage that has reported, as at the end of a run: when
    a stage opens, its first model replaces the best one of the stage below, whether it is better or not. The incumbent
    is chosen by the run's score and rescored with a common `sigma`. It keeps its stage's image size because its weights
    are not stored. Trials that failed are left out.

    Returns:
        `time_s` in seconds since the start of the command, increasing, and `score`.
    """
    trials, reports = load_trials(folder), load_reports(folder)
    failed = trials.loc[trials["status"] == "failed", "trial_id"]
    known = reports[reports["score"].notna() & ~reports["trial_id"].isin(failed)]
    known = known.assign(order=known["stage"].map(STAGE_ORDER)).sort_values("ended_s", kind="stable")
    known = known[known["order"] == known["order"].cummax()]
    known = known[known["score"] == known.groupby("order")["score"].cummax()]
    errors = known.reindex(columns=["iou", "rmse_depth"])
    scores = [Score(sigma=sigma).compute({str(k): v for k, v in row.dropna().items()}) for _, row in errors.iterrows()]
    return pd.DataFrame({"time_s": known["ended_s"].to_numpy(), "score": scores})


def sample_curve(curve: pd.DataFrame, times_s: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Return the score of a `trace_incumbent` frame at each of the times; nan where there is no incumbent yet."""
    before = np.searchsorted(curve["time_s"].to_numpy(), times_s, side="right")
    return np.concatenate([[np.nan], curve["score"].to_numpy(dtype=float)])[before]
