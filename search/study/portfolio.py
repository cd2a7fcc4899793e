"""Choose the configurations that a search tries first, and write them to search/config/portfolio.json.

    python -m search.study.portfolio --data SCENES COMPOSITES PHOTOS --minutes 60 --scores portfolio.csv

Every candidate (the present portfolio, random draws and variants of the best) is trained on every data set for the same
time on one core, as in a search with a short budget. Scores are kept in a file, so an interrupted command can be
repeated, also with more minutes; commands for different data sets can share the file and run at the same time. The
choice is greedy on the mean over the data sets of the normalised rank.

Source: Wistuba et al. 2015, "Sequential model-free hyperparameter tuning" (ICDM).
"""

import argparse
import contextlib
import itertools
import json
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from jaxtyping import Float

from data.data_module import DataModule, StageData
from data.dataset import DataError
from data.runtime import cli
from models.architectures.registry import ARCHITECTURES
from models.config import ConfigError
from search.config.recipes import PORTFOLIO, PORTFOLIO_FILE, build_recipe
from search.config.trial import TrialConfig
from search.records.run_dir import write_json
from search.records.run_state import format_time
from search.study.search_space import build_space, suggest
from search.training.trainer import FitPlan, TrialDivergedError, fit

SIZE = 8  # configurations of a portfolio
LEADERS = 3  # configurations of the present portfolio, from the first, whose variants are candidates
# Sections of a configuration that variants draw anew. Augmentation is not among them: short trainings score best
# without it, but their models generalise less well.
SECTIONS = ("model", "optim", "loss", "schedule")
COLUMNS = ["data", "name", "seconds", "px", "score", "config"]
MAX_EPOCHS = 1000  # more epochs than any candidate completes
MAX_VAL_IMAGES = 200  # largest number of validation images per epoch


def choose(scores: Float[np.ndarray, "candidates sets"], archs: Sequence[str], size: int = SIZE) -> list[int]:
    """Choose candidates so that on each data set one of them is good; return their rows, best first.

    Each choice gives the least mean over the data sets of the best normalised rank (0 is the best candidate of a data
    set, 1 the worst); ties go to the candidate with the better mean rank. The last places go to the best candidate of
    each architecture that is not chosen yet; `archs` names the architecture of each candidate.
    """
    ranks = pd.DataFrame(-scores).rank(method="min").to_numpy() - 1
    ranks = ranks / max(len(scores) - 1, 1)
    chosen: list[int] = []
    best = np.ones(scores.shape[1])
    while len(chosen) < min(size, len(scores)):
        missing = set(archs) - {archs[i] for i in chosen}
        is_last = size - len(chosen) <= len(missing)
        left = [i for i in range(len(scores)) if i not in chosen and (archs[i] in missing or not is_last)]
        chosen.append(min(left, key=lambda i: (np.minimum(best, ranks[i]).mean(), ranks[i].mean())))
        best = np.minimum(best, ranks[chosen[-1]])
    return chosen


def list_candidates(draws: int, seed: int) -> dict[str, TrialConfig]:
    """Return the portfolio and `draws` random configurations, by name.

    Two of three draws are leading configurations of the portfolio with one section drawn anew.
    """
    candidates = {name: build_recipe(name) for name in PORTFOLIO}
    bases = itertools.cycle(itertools.product(SECTIONS, list(PORTFOLIO)[:LEADERS]))
    for i in range(draws):
        if i % 3 == 0:
            drawn = _draw(f"{seed}-{i}", tuple(ARCHITECTURES))
            candidates[f"{drawn.model.arch}_{seed}_{i}"] = drawn
        else:
            section, name = next(bases)
            drawn = _draw(f"{seed}-{i}", (candidates[name].model.arch,))
            candidates[f"{name}_{section}_{seed}_{i}"] = replace(candidates[name], **{section: getattr(drawn, section)})
    return candidates


def _draw(seed: str, archs: tuple[str, ...]) -> TrialConfig:
    """Return a random configuration with one of the architectures."""
    sampler = optuna.samplers.RandomSampler(seed=random.Random(seed).getrandbits(32))
    return suggest(optuna.create_study(sampler=sampler).ask(), build_space(archs=archs))


def train(config: TrialConfig, data: StageData, seconds: float) -> float:
    """Train a configuration for a fixed time and return its best validation score."""
    scores, plan = [0.0], FitPlan(epochs=MAX_EPOCHS, max_val_images=MAX_VAL_IMAGES)
    with contextlib.suppress(TrialDivergedError):
        fit(config, data, plan, limit_s=seconds, report=lambda metrics, _: scores.append(metrics["score"]))
    return max(scores)


def read_scores(args: argparse.Namespace) -> pd.DataFrame:
    """Return the rows of --scores whose training time and image size equal those of this command."""
    if not args.scores.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        table = pd.read_csv(args.scores, dtype={"data": str})
    except (OSError, ValueError) as error:
        reason = f"cannot be read ({cli.first_line(error)}); name another file"
        raise DataError(f"--scores {args.scores}: {reason}") from error
    if lacking := [column for column in COLUMNS if column not in table]:
        raise DataError(f"--scores {args.scores}: has no column {lacking[0]!r}; name a file that does not exist yet")
    return table.query(f"seconds == {args.seconds} and px == {args.px}")


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row of COLUMNS for each candidate and data set that --scores lacks, until the time is over."""
    until, table = time.monotonic() + 60 * args.minutes, read_scores(args)
    known = set(zip(table["data"], table["name"], strict=True))
    modules = {folder.name: DataModule(folder, seed=args.seed) for folder in args.data}
    if len(modules) < len(args.data):
        raise DataError("--data: two folders have the same name, which --scores needs to tell them apart; rename one")
    for name, config in list_candidates(args.draws, args.seed).items():
        for folder, module in modules.items():
            if (folder, name) not in known and time.monotonic() < until:
                data = module.load_stage_data(fraction=1.0, px=args.px)
                values = (folder, name, args.seconds, args.px, train(config, data, args.seconds))
                yield dict(zip(COLUMNS, (*values, json.dumps(config.to_dict())), strict=True))


def write_portfolio(table: pd.DataFrame, path: Path) -> list[str]:
    """Choose from the candidates that were trained on all data sets, write the portfolio and return its names."""
    scores = table.pivot_table(index="name", columns="data", values="score", sort=False).dropna()
    if scores.empty:
        raise DataError("--minutes: too few to train a candidate on all data sets; repeat the command")
    configs = table.drop_duplicates("name").set_index("name")["config"]
    archs = [json.loads(configs[name])["model"]["arch"] for name in scores.index]
    names = [str(scores.index[i]) for i in choose(scores.to_numpy(), archs)]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=path.parent, capture_output=True, text=True, check=False)
    command = f"python -m search.study.portfolio {shlex.join(sys.argv[1:])}"
    about: dict[str, Any] = {"command": command, "time": format_time(), "commit": commit.stdout.strip()}
    about |= {"candidates": len(scores), "scores": scores.loc[names].round(3).to_dict("index")}
    write_json(path, {"about": about, "configurations": {name: json.loads(configs[name]) for name in names}})
    return names


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = cli.Parser("python -m search.study.portfolio", "Choose the configurations that a search tries first.")
    p.add_argument("--data", type=Path, nargs="+", required=True, metavar="DIR", help="data sets, three or more")
    p.add_argument("--minutes", type=float, default=60.0, help="time for trainings (default: %(default)s)")
    p.add_argument("--seconds", type=float, default=40.0, help="time of each training (default: %(default)s)")
    p.add_argument("--px", type=int, default=128, help="side of the images (default: %(default)s)")
    p.add_argument("--draws", type=int, default=40, help="random candidates (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="seed of draws and split (default: %(default)s)")
    p.add_argument("--scores", type=Path, default=Path("portfolio.csv"), help="scores so far (default: %(default)s)")
    p.add_argument(
        "--out", type=Path, default=PORTFOLIO_FILE, help="file to write (default: the file that searches use)"
    )
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _choose(args), DataError, ConfigError)


def _choose(args: argparse.Namespace) -> None:
    if not args.out.parent.is_dir():
        raise DataError(f"--out {args.out}: give a file in a folder that exists")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    for row in measure(args):
        print(f"{row['data']}: {row['name']} {row['score']:.3f}", flush=True)
        pd.DataFrame([row], columns=COLUMNS).to_csv(args.scores, mode="a", header=not args.scores.exists(), index=False)
    table = read_scores(args)
    if table.empty:
        raise DataError("--minutes: no candidate was trained")
    names = write_portfolio(table, args.out)
    print(f"{', '.join(names)} written to {args.out}")


if __name__ == "__main__":
    sys.exit(main())
