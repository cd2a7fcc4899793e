"""Check the options of a run, and open its data, before Ray starts and before anything is written.

Torch takes seconds to import and is imported only where it is needed.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from data.dataset import DataError
from data.runtime import cli
from data.runtime.files import find_cache_folder
from data.runtime.process import count_cores
from data.runtime.progress import progress_bar
from data.runtime.storage import fetch_folder, is_uri
from models.config import TASKS, ConfigError
from models.score import DEFAULT_WEIGHTS, describe_score, find_tasks
from search.command_line.settings import name_settings_file
from search.config.budget import Budget, BudgetError
from search.config.encoder_weights import EncoderWeights, read_encoder_weights
from search.config.options import RunOptions
from search.config.plugins import hash_by_name, load_plugins

if TYPE_CHECKING:  # imports torch
    from data.data_module import DataModule
    from search.config.trial import TrialConfig

BUILT_IN_COUNT = 2000


def build_options(args: argparse.Namespace, budget: Budget) -> RunOptions:
    """Return the options of a new run; reduce `args.space` to its differences from the default space.

    Raise ConfigError or BudgetError if an option does not fit this machine, another option or the budget.
    """
    check_workers(args)
    select_gpus(args.gpus, args.address)
    register_plugins(hash_by_name(args.plugin), args.out)
    args.space = _check_space(args)
    if args.track and "://" in args.track:
        from data.runtime.parallel import check_answer

        check_answer(urlsplit(args.track.partition(":")[2]).netloc.rpartition("@")[2])
    encoder = _read_encoder(args)
    options = _pin_encoder(RunOptions.from_args(args, budget=budget, configs=_read_configs(args, budget)), encoder)
    return _check_feasible(options, local=args.address is None)


def open_data(args: argparse.Namespace, options: RunOptions) -> "DataModule":
    """Return the data of a new run and print how the user's data are read; raise DataError if they are unusable."""
    with progress_bar("loading torch"):
        from data.data_module import DataModule

    named: dict[str, Any] = {"roles": options.roles, "fields": options.dataset_fields, "allow_bad": args.allow_bad}
    named["weights"] = options.score or DEFAULT_WEIGHTS
    data_module = DataModule(
        _find_data(find_folders(args.data or ()), options), seed=options.seed, split=options.split, **named
    )
    if args.data is not None:
        print(cli.fit_width(data_module.describe()), flush=True)
    if options.score:
        triplets = data_module.dataset.triplets
        tasks = {task for task in TASKS if any(getattr(triplet, task) for triplet in triplets)}
        known = [name for name in options.score if find_tasks([name]) <= tasks]
        print(cli.fit_width(f"score = {describe_score(options.score, known)}"), flush=True)
    return data_module


def check_workers(args: argparse.Namespace) -> int | None:
    """Return the value of --workers; raise ConfigError if this machine has fewer cores."""
    workers: int | None = args.workers
    if args.address is None and workers is not None and workers > (cores := count_cores()):
        raise ConfigError(f"--workers {workers}: this process may use {cores} cores; use {cores} or fewer")
    return workers


def select_gpus(count: int | None, address: str | None) -> None:
    """Restrict torch and Ray to the first `count` GPUs; raise ConfigError if there are fewer, or on a cluster."""
    if count is None:
        return
    if address is not None:
        raise ConfigError(f"--gpus {count}: the GPUs of a cluster cannot be limited; leave out --gpus or --address")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible.split(",")[:count])
    if count:
        import torch

        if torch.cuda.device_count() < count:
            raise ConfigError(f"--gpus {count}: this machine has {torch.cuda.device_count()}; use that many or fewer")


def register_plugins(plugins: Mapping[str, str], folder: Path) -> None:
    """Register the user's architectures and losses, and print the names of their files."""
    load_plugins(plugins, folder)
    for name, sha256 in plugins.items():
        print(cli.to_printable(f"your code runs in every process: {name} (SHA-256 {sha256[:12]})"), flush=True)


def _check_space(args: argparse.Namespace) -> dict[str, Any]:
    """Return the user's part of the space, by parameter; raise ConfigError if it is wrong or nothing is searched."""
    if not args.space:
        return {}
    from search.study.space_settings import simplify_space

    with name_settings_file(args):
        space = simplify_space(args.space)
    if space and (args.recipe or args.grid):
        raise ConfigError("--recipe and --grid do not search: leave out [space], --arch and --set")
    return space


def _read_configs(args: argparse.Namespace, budget: Budget) -> "tuple[TrialConfig, ...]":
    """Return the configurations that are trained instead of a search; none for a search."""
    if args.width is not None and args.recipe is None:
        raise ConfigError("--width applies only to --recipe; a search chooses the width")
    if args.recipe is None and args.grid is None:
        return ()
    if args.recipe is not None and args.grid is not None:
        raise ConfigError("--recipe and --grid exclude each other; use one of them")
    from search.config.recipes import build_recipe, read_grid

    configs = read_grid(args.grid) if args.grid else [build_recipe(args.recipe, width=args.width)]
    if budget.trials is not None and budget.trials < len(configs):
        raise BudgetError(f"--budget {budget.text} is less than the {len(configs)} configurations of {args.grid}")
    return tuple(configs)


def _read_encoder(args: argparse.Namespace) -> EncoderWeights | None:
    """Read the weights of --encoder-weights, if given."""
    source: str | None = args.encoder_weights
    if source is None:
        return None
    encoder = read_encoder_weights(source)
    fields = ", ".join(f"{name} {value}" for name, value in encoder.model.items() if name not in ("arch", "weights"))
    print(f"{source}: encoder of {encoder.model['arch']} ({fields}), sha256 {encoder.sha256[:12]}", flush=True)
    return encoder


def _pin_encoder(options: RunOptions, encoder: EncoderWeights | None) -> RunOptions:
    """Return the options with the encoder of --encoder-weights; raise ConfigError if they do not fit."""
    configs = tuple(encoder.pin(config) for config in options.configs) if encoder else options.configs
    started = [config for config in configs if getattr(config.model, "weights", "none") == "file"]
    if encoder and configs and not started:
        raise ConfigError(f"--encoder-weights {encoder.source}: no configuration uses {encoder.model['arch']}")
    searched = options.space.get("model.arch")  # None for all
    if encoder and not configs and searched and (arch := encoder.model["arch"]) not in searched:
        problem = f"--encoder-weights {encoder.source}: the search has no {arch}"
        raise ConfigError(f"{problem}; add it to --arch, or leave out --encoder-weights")
    for config in started:
        if not encoder or config.model.arch != encoder.model["arch"]:
            raise ConfigError(f"{config.model.arch} with weights 'file' needs --encoder-weights and a file for it")
    return replace(options, configs=configs, encoder_weights=encoder)


def _check_feasible(options: RunOptions, *, local: bool) -> RunOptions:
    """Return the options without the configurations that exceed a constraint; raise ConfigError if none is left."""
    if options.budget.device == "gpu" and local:
        import torch

        options.budget.as_wall_time(devices={"gpu": torch.cuda.device_count()}, used={"gpu": 0.0})
    if not options.limits:
        return options
    from search.config.constraints import Constraints
    from search.study.search_space import build_space, list_smallest_networks
    from search.study.space_settings import read_space

    constraints = Constraints(px=options.px, **options.limits)
    if not options.configs:
        constraints.check(
            list_smallest_networks(build_space(configured=read_space(options.space, options.encoder_weights))),
            source="the search space",
        )
        return options
    kept = tuple(constraints.select(options.configs, source="those configured"))
    if left_out := len(options.configs) - len(kept):
        print(f"{left_out} of {len(options.configs)} configurations exceed a constraint and are left out")
    return replace(options, configs=kept)


def find_folders(locations: Sequence[Path | str]) -> list[Path]:
    """Return the folders of data sets; those in a storage are downloaded unless they are cached."""
    folders = []
    for location in locations:
        if is_uri(location):
            with progress_bar(f"downloading {location}") as progress:
                folders.append(fetch_folder(str(location), progress))
        else:
            folders.append(Path(location))
    return folders


def _find_data(folders: list[Path], options: RunOptions) -> Path:
    """Return the data set folder: the given one, a new one that joins several, or the built-in scenes."""
    if options.roles and len(folders) != 1:
        raise DataError("--images, --masks and --depth name sub-folders of a single data set; name it with --data")
    if not folders:
        from data.scenes.scenes import find_cached_scenes

        with progress_bar("drawing built-in scenes, once") as progress:
            return find_cached_scenes(BUILT_IN_COUNT, progress=progress)
    from data.reading.dataset_json import join_folders

    return folders[0] if len(folders) == 1 else join_folders(folders, find_cache_folder())
