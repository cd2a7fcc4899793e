"""Recorded curves: a few hundred configurations trained to their end on a small copy of the ladder.

    python -m analysis.benchmarks.record_curves --data DIR --out analysis/benchmarks/curves.parquet --configs 300

What `analysis.replay` plays on a simulated clock. Configurations are drawn at random from the search space, the study's
recipes and the starters first, those too expensive left out. Each climbs all stages from its own weights, and is
trained a second time, from scratch, at the size of the last, as a search without promotion would. An epoch's cost is
the processor seconds of one thread, which a busy machine does not stretch.

Every configuration that is done is a line of FILE.jsonl, so the command goes on where it was stopped.
"""

import argparse
import io
import json
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch

from analysis import AnalysisError
from analysis.files import write_file
from data.dataset import DataError
from data.progress import progress_bar
from models.build import model_config
from models.cost import macs, probe
from search.config import TrialConfig
from search.fit import FitPlan, State, TrialDiverged, fit
from search.ladder import Stage
from search.records import append_line, read_lines
from search.space import SpaceLimits, batch_sizes, first_points, suggest
from search.supply import FitData, Supply

IMAGES = {"explore": 128, "confirm": 160, "final": 160, "flat": 160}
STAGES = (
    Stage(name="explore", fraction=1.0, px=48, epochs=9),
    Stage(name="confirm", fraction=1.0, px=48, epochs=4),
    Stage(name="final", fraction=1.0, px=64, epochs=4, refine=0.2),
    Stage(name="flat", fraction=1.0, px=64, epochs=5),  # from scratch
)
MOST_MACS = 16e6  # of an image of the first stage; 44 million at 80 px
NARROW = 4  # every architecture has this width
SHAPE = ("arch", "stem_stride", "block", "levels", "skips")  # what the work hangs on most, beside the width
NULLABLE = {bool: "boolean", int: "Int64"}  # what other architectures lack stays whole, or a switch
Row = dict[str, Any]


def draw(count: int, *, seed: int) -> list[TrialConfig]:
    """Return the first `count` affordable configurations of a random search that begins with the recipes."""
    limits = SpaceLimits(batch_sizes=batch_sizes(IMAGES["explore"]))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for point in first_points(limits, affordable):
        study.enqueue_trial(point)
    found: list[TrialConfig] = []
    while len(found) < count:
        config = suggest(study.ask(), limits)
        found += [config] if affordable(config) else []
    return found


def affordable(config: TrialConfig) -> bool:
    """Return whether a configuration is cheap enough to be recorded."""
    return excess(config) <= 0


def excess(config: TrialConfig) -> float:
    """Return by what part a configuration costs more than MOST_MACS.

    Told by the work of a narrow network with the plainest decoder, of which a few dozen cover the whole space: to build
    every network that is drawn would take minutes.
    """
    fields = config.model.to_dict()
    narrow = model_config({name: fields[name] for name in SHAPE if name in fields} | {"width": NARROW})
    return macs(narrow, STAGES[0].px) * (config.model.width / NARROW) ** 2 / MOST_MACS - 1


def supplied(root: Path, *, seed: int) -> dict[str, FitData]:
    """Return what each stage trains on, packed.

    Raises:
        DataError: The folder cannot be used, or has too few images.
    """
    supply = Supply(root, seed=seed)
    data = {stage.name: supply.for_stage(stage, most=IMAGES[stage.name]) for stage in STAGES}
    if len(data["final"].train) < IMAGES["final"]:
        raise DataError(f"{root}: has {len(data['final'].train)} training images; {IMAGES['final']} are needed")
    return data


def record(number: int, config: TrialConfig, data: dict[str, FitData]) -> Row:
    """Train one configuration on all stages; return its line of the record."""
    rows: list[Row] = []
    weights: State | None = None
    for stage in STAGES:
        begins_anew = stage.name in ("explore", "flat")
        if weights is None and not begins_anew:
            continue  # the stage below diverged
        weights = train(config, data[stage.name], stage, None if begins_anew else weights, rows, seed=number)
    size = {"params": probe(config.model).params, "macs": macs(config.model, STAGES[0].px)}
    return {"config": number, **size, "flat": config.flat(), "rows": rows}


def train(
    config: TrialConfig, data: FitData, stage: Stage, weights: State | None, rows: list[Row], *, seed: int
) -> State | None:
    """Train one stage, append a row an epoch; return the weights of its best epoch, None if it diverged."""
    last = time.process_time()

    def note(figures: dict[str, Any], state: object) -> None:
        nonlocal last
        now = time.process_time()
        rows.append({"stage": stage.name, "epoch": figures["epoch"], "score": figures["score"], "cpu_s": now - last})
        last = now

    plan = FitPlan(epochs=stage.epochs, refine=stage.refine, seed=seed)
    try:
        return fit(config, data, plan, report=note, weights=weights).state_dict()
    except TrialDiverged:
        spent = time.process_time() - last
        rows.append({"stage": stage.name, "epoch": rows_of(rows, stage) + 1, "score": None, "cpu_s": spent})
        return None


def rows_of(rows: Iterable[Row], stage: Stage) -> int:
    """Return how many epochs of a stage are recorded."""
    return sum(row["stage"] == stage.name for row in rows)


def record_all(
    configs: list[TrialConfig], data: dict[str, FitData], path: Path, *, about: Row, workers: int
) -> Iterator[int]:
    """Append a line to `path` for every configuration that it does not hold yet; yield how many it then holds.

    Raises:
        AnalysisError: The lines there are of another recording.
    """
    lines = list(read_lines(path))
    if lines and lines[0] != about:
        raise AnalysisError(
            f"{path}: holds another recording ({json.dumps(lines[0])}); remove it or name another --out"
        )
    if not lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, about)
    done = {line["config"] for line in lines[1:]}
    yield len(done & set(range(len(configs))))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=partial(torch.set_num_threads, 1)) as pool:
        left = [pool.submit(record, i, config, data) for i, config in enumerate(configs) if i not in done]
        try:
            for count, future in enumerate(as_completed(left), start=len(configs) - len(left) + 1):
                append_line(path, future.result())
                yield count
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def table(lines: Sequence[Row]) -> pd.DataFrame:
    """Return one row an epoch: configuration, stage, epoch, score, cpu_s, params, macs, images, configuration's fields.

    Scores are NaN where the training diverged. Fields are columns `section/field` as in trials.csv.
    """
    rows = []
    for line in sorted(lines, key=lambda line: int(line["config"])):
        fields = {k: json.dumps(v) if isinstance(v, list) else v for k, v in line["flat"].items()}
        sizes = {name: line[name] for name in ("config", "params", "macs")}
        rows += [{**sizes, **row, "train_images": IMAGES[row["stage"]], **fields} for row in line["rows"]]
    kinds = {name: NULLABLE.get(type(value)) for line in lines for name, value in line["flat"].items()}
    types = {name: "int32" for name in ("config", "epoch", "params", "train_images")}
    types |= {"score": "float32", "cpu_s": "float32"} | {name: kind for name, kind in kinds.items() if kind}
    frame = pd.DataFrame(rows).astype(types)
    leading = ["config", "stage", "epoch", "score", "cpu_s"]
    return frame[leading + [name for name in frame if name not in leading]]


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(
        prog="python -m analysis.benchmarks.record_curves", description=(__doc__ or "").splitlines()[0]
    )
    p.add_argument("--data", type=Path, required=True, help="data set folder")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="table to write, such as curves.parquet")
    p.add_argument("--configs", type=_positive, default=300, help="configurations to train (default 300)")
    p.add_argument("--workers", type=_positive, default=2, help="processes of one thread each (default 2)")
    p.add_argument("--seed", type=int, default=0, help="of split and draw (default 0)")
    return p


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Train what is not recorded yet and write the table; return the exit code."""
    args = parser().parse_args(argv)
    path = args.out.with_name(args.out.name + ".jsonl")
    torch.set_num_threads(1)
    try:
        data = supplied(args.data, seed=args.seed)
        stages = {stage.name: [stage.px, stage.epochs, IMAGES[stage.name]] for stage in STAGES}
        about = {"data": args.data.name, "seed": args.seed, "stages": stages, "most_macs": MOST_MACS}
        configs = draw(args.configs, seed=args.seed)
        with progress_bar("recording") as progress:
            for count in record_all(configs, data, path, about=about, workers=args.workers):
                if progress:
                    progress(count, len(configs))
        content = io.BytesIO()
        lines = list(read_lines(path))[1:]
        recorded = table([line for line in lines if line["config"] < len(configs)])
        recorded.to_parquet(content, compression="zstd", index=False)
        write_file(args.out, content.getvalue())
    except (AnalysisError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
