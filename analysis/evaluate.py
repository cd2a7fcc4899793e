"""How good a model is on pictures from elsewhere: any folder with true masks, true depth or both.

    python -m analysis.evaluate RUN_OR_MODEL DIR [DIR ...] [--near dark] [--table FILE.csv]

Each picture is predicted and measured at its own size. Depth is measured after the scale and shift that fit it best to
the truth, for those cannot be seen in one picture. Two rows that look at no picture say what the metrics are worth.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, UInt8

from analysis.exceptions import AnalysisError
from data.runtime.progress import Progress, progress_bar

if TYPE_CHECKING:
    from analysis.model import Model
    from data.dataset import Dataset, DatasetSpec, Triplet

BATCH = 16
FIGURES = ("iou", "boundary_f", "mae_mask", "rmse_depth", "explained_depth", "delta1")
BLIND = "no model"
HALF = 0.5  # masks are foreground above
EPILOG = """\
iou, boundary_f (F-measure of the outline, within 0.75 % of the diagonal) and mae_mask are of the mask at one half;
rmse_depth, explained_depth (1 = all of the depth's variance, 0 = no better than its mean) and delta1 (share of pixels
within a factor of 1.25) are of relative inverse depth after scale and shift. All are means over the pictures that have
the truth, with the 95 % interval of a bootstrap over pictures. The row of no model is a mask that is all foreground
and a depth that grows evenly from the bottom to the top.

Exit code: 0 done (pictures that cannot be measured are named and left out), 2 wrong arguments or nothing to measure.
"""

Map = Float32[np.ndarray, "h w"]
Known = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is known of a picture, at its own size.

    Attributes:
        image: RGB.
        mask: True = foreground; None where there is no mask.
        depth: Relative inverse depth, near = 1; None where there is none.
        known: Where depth is known.
    """

    image: UInt8[np.ndarray, "h w 3"]
    mask: Known | None
    depth: Map | None
    known: Known


def read_truth(triplet: "Triplet", spec: "DatasetSpec") -> Truth:
    """Read a picture and its truth, its own polarity of depth before that of the folder.

    Raises:
        DataError: A file that cannot be read, or that has another size than the picture.
    """
    import cv2

    from data.reading.decode import check_same_size, read_image
    from data.reading.depth import to_inverse_depth

    def truth(path: Path, flags: int) -> np.ndarray:
        return check_same_size(read_image(path, flags), path, image, triplet.image)

    image = read_image(triplet.image, cv2.IMREAD_COLOR_RGB)
    mask = depth = None
    known = np.zeros(image.shape[:2], bool)
    if triplet.mask is not None:
        grey = truth(triplet.mask, cv2.IMREAD_GRAYSCALE)
        mask = grey > HALF * max(int(grey.max(initial=0)), 1)
    if triplet.depth is not None:
        raw = truth(triplet.depth, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
        depth, known = to_inverse_depth(raw, spec.for_triplet(triplet))
    return Truth(image=image, mask=mask, depth=depth, known=known)


def aligned(prediction: Map, truth: Map, known: Known) -> Map:
    """Return a prediction of depth with the scale, not negative, and the shift that fit the truth best.

    Args:
        prediction: Relative inverse depth.
        truth: The same, in its own scale.
        known: Where it is known: somewhere.

    Source: Ranftl et al. 2020, arXiv:1907.01341, section 5 (least squares, in inverse depth). A negative scale, which
    would credit a model for taking far for near, becomes 0.
    """
    p, t = prediction[known].astype(np.float64), truth[known].astype(np.float64)
    spread = p - p.mean()
    variance = float((spread**2).sum())
    scale = max(float((spread * t).sum()) / variance, 0.0) if variance else 0.0
    fitted: Map = (scale * (prediction - p.mean()) + t.mean()).astype(np.float32)
    return fitted


def figures_of(mask: Map, depth: Map, truth: Truth) -> dict[str, float]:
    """Return the FIGURES of one prediction, at the size of the truth; only those whose truth is known."""
    import torch

    from models.metrics.metrics import binarise, boundary_f, overlap, relative_depth_metrics, rmse

    def maps(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values))[None, None]

    metrics: dict[str, torch.Tensor] = {}
    if truth.mask is not None:
        predicted, true = binarise(maps(mask)), maps(truth.mask)
        metrics = {"iou": overlap(predicted, true)[0], "boundary_f": boundary_f(predicted, true)}
        metrics["mae_mask"] = (maps(mask) - true.float()).abs().mean((1, 2, 3))
    if truth.depth is not None and truth.known.any():
        fitted = aligned(depth, truth.depth, truth.known)
        spread = float(truth.depth[truth.known].std())
        p, t, valid = maps(fitted), maps(np.where(truth.known, truth.depth, np.float32(0))), maps(truth.known)
        metrics["rmse_depth"] = rmse(p, t, valid)
        metrics["explained_depth"] = 1 - (metrics["rmse_depth"] / max(spread, 1e-6)) ** 2
        metrics["delta1"] = relative_depth_metrics(p, t, valid)["delta1"]
    return {name: float(values) for name, values in metrics.items()}


def blind(shape: tuple[int, int]) -> tuple[Map, Map]:
    """Return what can be said without a look at the picture: all is foreground, and what is lower is nearer."""
    ramp = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    return np.ones(shape, np.float32), np.repeat(ramp, shape[1], axis=1)


def evaluate(model: "Model", dataset: "Dataset", *, progress: Progress | None = None) -> pd.DataFrame:
    """Measure a model on every picture of a data set.

    Args:
        model: Of analysis.load_model.
        dataset: Of data.reading.layout.read_dataset.
        progress: Told (pictures done, pictures in all).

    Returns:
        Two rows a picture, `model` and BLIND in the column `by`: `image`, `by`, and FIGURES, empty where the truth is
        not known. Pictures that cannot be read are named on stderr and left out.

    Raises:
        AnalysisError: No picture could be measured.
    """
    rows: list[dict[str, Any]] = []
    for done, batch in enumerate(_batches(dataset), start=1):
        predictions = model.predict_many([truth.image for _, truth in batch], batch_size=BATCH)
        for (name, truth), prediction in zip(batch, predictions, strict=True):
            for by, (mask, depth) in (("model", prediction), (BLIND, blind(truth.image.shape[:2]))):
                rows.append({"image": name, "by": by, **figures_of(mask, depth, truth)})
        if progress:
            progress(min(done * BATCH, len(dataset.triplets)), len(dataset.triplets))
    if not rows:
        raise AnalysisError(f"{dataset.root}: no picture could be measured")
    return pd.DataFrame(rows, columns=["image", "by", *FIGURES])


def _batches(dataset: "Dataset") -> Iterator[list[tuple[str, Truth]]]:
    from data.dataset import DataError

    for unusable in dataset.unusable:
        print(f"left out: {unusable.message}", file=sys.stderr)
    stated = [(triplet, part.spec) for part in dataset.folders for triplet in part.triplets]
    for start in range(0, len(stated), BATCH):
        batch = []
        for triplet, spec in stated[start : start + BATCH]:
            try:
                batch.append((triplet.id, read_truth(triplet, spec)))
            except DataError as error:
                print(f"left out: {error}", file=sys.stderr)
        yield batch


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and 95 % interval of each figure, a row for each of `by`.

    Returns:
        Columns: `images`, and for each figure its mean, `low` and `high` below it; empty where nothing is known.
    """
    from scipy.stats import bootstrap

    rows = {}
    for by, group in table.groupby("by", sort=False):
        row: dict[tuple[str, str], float] = {("images", ""): len(group)}
        for name in FIGURES:
            values = group[name].dropna().to_numpy()
            low = high = mean = float(values.mean()) if len(values) else float("nan")
            if len(values) > 1 and np.ptp(values) > 0:
                found = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
                low, high = found.confidence_interval
            row |= {(name, "mean"): mean, (name, "low"): low, (name, "high"): high}
        rows[by] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def show(folder: Path, summary: pd.DataFrame) -> str:
    """Return the means as lines of text."""
    known = [name for name in FIGURES if summary[(name, "mean")].notna().any()]
    lines = [f"{folder}, {int(summary[('images', '')].iloc[0])} pictures"]
    lines.append(f"  {'':<10}" + "".join(f"{name:>24}" for name in known))
    for by, row in summary.iterrows():
        cells = (f"{row[(name, 'mean')]:.3f} [{row[(name, 'low')]:.3f}, {row[(name, 'high')]:.3f}]" for name in known)
        lines.append(f"  {by:<10}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.evaluate",
        description="Measure a model on folders of pictures whose masks, depth or both are known.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="RUN_OR_MODEL", help="run folder, its best/, or model.safetensors")
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="data set folders")
    parser.add_argument("--near", choices=("bright", "dark"), help="of all relative depth, instead of what is stated")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the metrics of each picture to a CSV file")
    parser.add_argument("--device", help="torch device (default: a GPU if there is one)")
    return parser


def _stated(dataset: "Dataset", near: str | None) -> "Dataset":
    """Return a data set whose depth has the polarity that was stated, if any was, in all its folders and lines."""
    if near is None:
        return dataset
    triplets = tuple(replace(triplet, near=near) for triplet in dataset.triplets)
    return replace(dataset, triplets=triplets, parts=tuple(_stated(part, near) for part in dataset.parts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = parser().parse_args(arguments)
    from analysis.model import load_model
    from analysis.runs.files import write_file
    from data.dataset import DataError
    from data.reading.layout import read_dataset

    tables = []
    try:
        datasets = [_stated(read_dataset(folder), args.near) for folder in args.folders]
        model = load_model(args.model, device=args.device)
        for dataset in datasets:
            with progress_bar(f"measuring {dataset.root.name}") as progress:
                table = evaluate(model, dataset, progress=progress)
            print(show(dataset.root, means(table)))
            tables.append(table.assign(folder=str(dataset.root)))
        if args.table:
            write_file(args.table, pd.concat(tables).to_csv(index=False).encode())
    except (AnalysisError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
