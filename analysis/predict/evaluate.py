"""Measure a model on other data sets: any folder with true masks, true depth or both.

    one-look evaluate [RUN_OR_MODEL] DIR [DIR ...] [--near dark] [--table FILE.csv]

Each image is predicted and measured at its own size. Depth is measured after fitting its scale and shift to the truth,
because a single image does not determine them. A baseline that ignores the image puts the metrics into perspective.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Bool

from analysis import AnalysisError
from analysis.predict.command import add_device_option, load_named_model, make_parser, reinterpret_first_argument
from analysis.predict.photos import FloatMap, RGBImage
from analysis.runs.files import check_file, write_file
from data.dataset import DataError, Dataset
from data.runtime import cli
from data.runtime.flags import add_meaning_flags, add_role_flags, read_meaning_flags, read_role_flags
from data.runtime.progress import Progress, no_progress, progress_bar

if TYPE_CHECKING:  # these imports take seconds, and --help does not need them
    import pandas as pd

    from analysis.predict.model import Model
    from data.values.triplet import TripletArrays
    from models.score import Score

METRICS = ("score", "iou", "boundary_f", "mae_mask", "rmse_depth", "explained_depth", "delta1")
BASELINE = "baseline"
LEGEND = (
    "[low, high]: 95 % interval of the mean over the images. baseline: foreground everywhere, and depth that increases "
    "evenly from the bottom to the top."
)
EPILOG = """\
iou, boundary_f (F-measure of the outline, within 0.75 % of the diagonal) and mae_mask measure the mask thresholded at
0.5; rmse_depth, explained_depth (1 = all of the depth's variance, 0 = no better than its mean) and delta1 (share of
pixels within a factor of 1.25) measure relative inverse depth after scale and shift. score is the score of the model's
run, computed from these values. All are means over the images that have the truth (iou and boundary_f: some
foreground), with the 95 % interval of a bootstrap over images. The baseline predicts foreground everywhere, and depth
that increases evenly from the bottom to the top.

Exit code: 0 done (images that cannot be measured are named and left out), 2 wrong arguments, or a data set cannot be
measured (the others are).
"""

BoolMap = Bool[np.ndarray, "h w"]
T = TypeVar("T")


def align_depth(prediction: FloatMap, truth: FloatMap, known: BoolMap) -> FloatMap:
    """Align predicted to true inverse depth by the best non-negative scale and shift; `known` has at least one pixel.

    Source: Ranftl et al. 2020, arXiv:1907.01341, section 5 (least squares, in inverse depth). A negative scale, which
    would reward swapped near and far, becomes 0.
    """
    p, t = prediction[known].astype(np.float64), truth[known].astype(np.float64)
    spread = p - p.mean()
    variance = float((spread**2).sum())
    scale = max(float((spread * t).sum()) / variance, 0.0) if variance else 0.0
    fitted: FloatMap = (scale * (prediction - p.mean()) + t.mean()).astype(np.float32)
    return fitted


def measure_prediction(mask: FloatMap, depth: FloatMap, truth: "TripletArrays", score: "Score") -> dict[str, float]:
    """Measure one prediction at the truth's size; metrics that need unknown truth are left out."""
    import torch

    from models.metrics import EXTRA, binarise, compute_score_metrics, select_images
    from models.score import SCORED
    from models.target import Target

    def batch(*planes: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack(planes))[None]

    known, has_mask = truth.depth_known, torch.tensor([truth.mask is not None])
    true_mask, true_depth = (np.zeros_like(mask) if each is None else each for each in (truth.mask, truth.depth))
    true_depth = np.where(known, true_depth, np.float32(0))
    fitted = align_depth(depth, true_depth, known) if known.any() else depth
    foreground = binarise(batch(true_mask)).float()
    target = Target(foreground, batch(true_depth), batch(known), has_mask, batch(truth.mask_known))
    metrics = compute_score_metrics(batch(mask, fitted), target, EXTRA)
    found = {name: float(metrics[name]) for name in SCORED if select_images(name, target)}
    if known.any():
        found["explained_depth"] = 1 - (found["rmse_depth"] / max(float(true_depth[known].std()), 1e-6)) ** 2
    return found | ({"score": score.compute(found)} if found.keys() & score.weights.keys() else {})


def predict_baseline(shape: tuple[int, int]) -> tuple[FloatMap, FloatMap]:
    """Return mask and depth of the baseline: foreground everywhere, and depth that gets nearer towards the bottom."""
    ramp = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    return np.ones(shape, np.float32), np.repeat(ramp, shape[1], axis=1)


def evaluate(model: "Model", dataset: Dataset, *, progress: Progress = no_progress) -> "pd.DataFrame":
    """Return METRICS in two rows for each image, for the model and the baseline; they are empty where truth is unknown.

    Unreadable images are named on stderr and left out.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for (name, truth), image, *prediction in model.predict_many(_read_truths(dataset, progress)):
        for by, (mask, depth) in (("model", prediction), (BASELINE, predict_baseline(image.shape[:2]))):
            rows.append({"image": name, "by": by, **measure_prediction(mask, depth, truth, model.score)})
    if not rows:
        raise AnalysisError(f"{dataset.root}: no image could be measured; check it with one-look check")
    return pd.DataFrame(rows, columns=["image", "by", *METRICS])


def _read_truths(dataset: Dataset, progress: Progress) -> Iterator[tuple[tuple[str, "TripletArrays"], RGBImage]]:
    """Yield the name and the content of each readable triplet, and its image."""
    from data.values.triplet import read_triplet, resolve_specs

    for unusable in dataset.unusable:
        print(cli.to_printable(f"left out: {unusable.message}"), file=sys.stderr)
    folders = zip(dataset.folders, resolve_specs(dataset), strict=True)
    pairs = [(triplet, spec) for folder, spec in folders for triplet in folder.triplets]
    for number, (triplet, spec) in enumerate(pairs, start=1):
        try:
            truth = read_triplet(triplet, spec)
            yield (triplet.id, truth), truth.image
        except DataError as error:
            print(cli.to_printable(f"left out: {error}"), file=sys.stderr)
        progress(number, len(pairs))


def summarise_metrics(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return `images`, and `mean`, `low` and `high` (95 % interval) of each metric, a row for each value of `by`."""
    import pandas as pd
    from scipy.stats import bootstrap

    rows = {}
    for by, group in table.groupby("by", sort=False):
        row: dict[tuple[str, str], float] = {("images", ""): len(group)}
        for name in METRICS:
            values = group[name].dropna().to_numpy()
            low = high = mean = float(values.mean()) if len(values) else float("nan")
            if len(values) > 1 and np.ptp(values) > 0:
                found = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
                low, high = found.confidence_interval
            row |= {(name, "mean"): mean, (name, "low"): low, (name, "high"): high}
        rows[by] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def format_summary(folder: Path, summary: "pd.DataFrame", weights: Mapping[str, float]) -> str:
    """Format the means as lines of text; `weights` are those of the score."""
    from models.score import describe_score, find_tasks

    known = [name for name in METRICS if summary[(name, "mean")].notna().any()]
    lines = [f"{folder}, {int(summary[('images', '')].iloc[0])} images"]
    lines.append(f"  {'':<10}" + "".join(f"{name:>24}" for name in known))
    for by, row in summary.iterrows():
        cells = (f"{row[(name, 'mean')]:.3f} [{row[(name, 'low')]:.3f}, {row[(name, 'high')]:.3f}]" for name in known)
        lines.append(f"  {by:<10}" + "".join(f"{cell:>24}" for cell in cells))
    if "score" in known:
        tasks = find_tasks({"iou", "rmse_depth"}.intersection(known))
        lines.append(f"  score: {describe_score(weights, [name for name in weights if find_tasks([name]) <= tasks])}")
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    text = "Measure a model on data sets with true masks, true depth or both."
    parser = make_parser("one-look evaluate", text, EPILOG)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="data set folders")
    add_role_flags(parser)
    add_meaning_flags(parser.add_argument_group("meaning of the values", "for values that dataset.json leaves open"))
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the metrics of each image to a CSV file")
    add_device_option(parser)
    return parser


def open_dataset(folder: Path, **options: Any) -> Dataset:
    """Read a data set like `read_dataset`; raise DataError if the meaning of its values is unknown."""
    from data.reading.layout import read_dataset

    dataset = read_dataset(folder, **options)
    dataset.check_meaning()
    return dataset


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _evaluate(args), AnalysisError, DataError)


def _evaluate(args: argparse.Namespace) -> int:
    """Measure the data sets that can be measured; return the exit code."""
    import pandas as pd

    check_file(args.table)
    reinterpret_first_argument(args, "folders")
    roles = read_role_flags(args)
    if roles and len(args.folders) > 1:
        named = "--images, --masks and --depth name sub-folders of one folder"
        raise DataError(f"{named}; measure the other data sets in separate calls")
    fields = read_meaning_flags(args)
    datasets = _keep_measurable(partial(open_dataset, folder, roles=roles, fields=fields) for folder in args.folders)
    for dataset in datasets:
        for line in filter(None, (dataset.description, *dataset.warnings)):
            print(cli.to_printable(f"{dataset.root}: {line}"))
    if not datasets:
        return 2
    model = load_named_model(args)
    tables = _keep_measurable(partial(_measure, model, dataset) for dataset in datasets)
    if tables:
        print(LEGEND)
    if tables and args.table:
        write_file(args.table, pd.concat(tables).to_csv(index=False).encode())
    return 0 if len(tables) == len(args.folders) else 2


def _keep_measurable(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Return the results of calls for one data set each; print the errors of those that fail."""
    results: list[T] = []
    for call in calls:
        try:
            results.append(call())
        except (AnalysisError, DataError) as error:
            cli.print_error(error)
    return results


def _measure(model: "Model", dataset: Dataset) -> "pd.DataFrame":
    """Measure a model on a data set, print the means and return the metrics of each image."""
    with progress_bar(f"measuring {dataset.root.name}") as progress:
        table = evaluate(model, dataset, progress=progress)
    print(format_summary(dataset.root, summarise_metrics(table), model.score.weights))
    if any(part.fingerprint in model.fingerprints for part in dataset.folders):
        print("  note: the model was trained on images of this folder, so these metrics are too optimistic")
    return table.assign(folder=str(dataset.root))


if __name__ == "__main__":
    sys.exit(main())
