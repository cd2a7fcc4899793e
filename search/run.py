"""The command line: parse, call the study, say where things are."""

import argparse
import os
import shlex
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.data_module import DataModule
    from search.budget.budget import Budget
    from search.config.trial import TrialConfig
    from search.records.run_state import RunState
    from search.records.trials import TrialTable

BEGAN = time.time()
ROOT = str(Path(__file__).resolve().parent.parent)
if sys.path and Path(sys.path[0]).resolve() == Path(ROOT, "search"):
    sys.path[0] = ROOT  # as a script: the modules beside this file must not hide anyone's

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
BUILT_IN_COUNT = 2000


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    from search.tuning.stages import STAGE_PRESETS

    p = argparse.ArgumentParser(
        prog="search/run.py",
        description="Search for the network that best gives foreground mask and depth from one image.",
    )
    p.add_argument("--budget", help="wall time (90s, 10m, 2h), trials (40trials) or device hours (2gpuh)")
    p.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run that was cut off; with --budget, give it so much more",
    )
    p.add_argument(
        "--data", type=Path, nargs="+", metavar="DIR", help="data set folder, or several as one; built-in without it"
    )
    p.add_argument("--allow-bad", action="store_true", help="go on if over a tenth of the triplets cannot be used")
    p.add_argument("--out", type=Path, help="run folder; by default runs/ and the date")
    p.add_argument("--seed", type=_seed, default=0, help="seed of split, search and trials (default 0)")
    p.add_argument(
        "--split",
        choices=("background", "random"),
        default="background",
        help="how training and validation are kept apart: by background, or by image as the study did, which leaks",
    )
    stated = p.add_mutually_exclusive_group()
    stated.add_argument("--grid", type=Path, help="train the configurations of this JSON file instead of searching")
    stated.add_argument("--recipe", help="train this recipe instead of searching; `study` is the study's own path")
    stated.add_argument("--find-lr", action="store_true", help="centre the search's learning rates by a range test")
    p.add_argument("--width", type=int, help="of the recipe's network; by default the recipe's own")
    p.add_argument("--no-refine", action="store_true", help="end without the part that favours the mask, unaugmented")
    _add_constraints(p)
    p.add_argument("--keep", type=_count, default=0, metavar="N", help="keep N more models of the front")
    p.add_argument("--sampler", choices=("tpe", "random"), default="tpe", help="who chooses configurations")
    p.add_argument(
        "--stages",
        choices=tuple(STAGE_PRESETS),
        default="default",
        help="stages; others are baselines",
    )
    p.add_argument("--dry-run", action="store_true", help="measure for ten seconds, print the plan, train nothing")
    p.add_argument("--address", help="address of a Ray cluster; by default Ray is started on this machine")
    return p


def _add_constraints(p: argparse.ArgumentParser) -> None:
    limits = p.add_argument_group("constraints", "on the network; a configuration that breaks one is never trained")
    limits.add_argument("--max-params", type=_amount, metavar="N", help="most parameters (250k, 1M)")
    limits.add_argument("--max-macs", type=_amount, metavar="N", help="most multiply-adds of an image of 160 px (1.5G)")
    limits.add_argument(
        "--max-latency-ms", type=_amount, metavar="MS", help="longest for an image of 160 px, on one thread or the GPU"
    )


def _amount(text: str) -> float:
    """Read an amount such as 1M.

    Raises:
        ArgumentTypeError: It is none.
    """
    from search.budget.budget import BudgetError, parse_amount

    try:
        return parse_amount(text)
    except BudgetError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    """Read a whole number.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _seed(text: str) -> int:
    """Read a seed.

    Raises:
        ArgumentTypeError: Not a whole number that every generator takes.
    """
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 done, 2 the user's mistake, 130 stopped by the user."""
    args = parser().parse_args(arguments)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # other people's deprecations are not the user's business
    from data.dataset import DataError
    from models.config import ConfigError
    from search.budget.budget import BudgetError, parse_budget
    from search.records.run_dir import RunDirError

    try:
        if args.resume is not None:
            return _resume(args)
        if args.budget is None:
            raise BudgetError("--budget is missing; write a time (90s, 10m, 2h), 40trials or 2gpuh")
        out = args.out or Path("runs") / time.strftime("%Y%m%d-%H%M%S", time.localtime(BEGAN))
        return _search(args, parse_budget(args.budget), out)
    except (BudgetError, ConfigError, DataError, RunDirError, ConnectionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _search(args: argparse.Namespace, budget: "Budget", out: Path) -> int:
    """Start a new run."""
    from data.data_module import DataModule
    from search.records.run_dir import check_free

    check_free(out)
    configs, constraints = _allowed(args, _stated(args, budget), budget)
    options = {
        "budget": budget,
        "out": out,
        "seed": args.seed,
        "began": BEGAN,
        "configs": configs,
        "refine": not args.no_refine,
        "find_lr": args.find_lr,
        "constraints": constraints,
        "keep": args.keep,
        "sampler": args.sampler,
        "stages": args.stages,
    }
    data_module = DataModule(_data(args.data), seed=args.seed, split=args.split, allow_bad=args.allow_bad)
    return _plan(options, data_module) if args.dry_run else _run(args.address, options, data_module)


def _allowed(
    args: argparse.Namespace, stated: "tuple[TrialConfig, ...]", budget: "Budget"
) -> "tuple[tuple[TrialConfig, ...], dict[str, float]]":
    """Return the stated configurations that keep the constraints, and the constraints.

    What cannot be is refused here, before Ray starts; torch takes seconds to import, and is asked only where it must.

    Raises:
        ConfigError: No network keeps the constraints.
        BudgetError: It is in GPU hours, and this machine has no GPU.
    """
    names = ("max_params", "max_macs", "max_latency_ms")
    constraints = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if budget.device == "gpu" and not args.address:
        import torch

        budget.on(devices={"gpu": torch.cuda.device_count()}, used={"gpu": 0.0})
    if not constraints:
        return stated, constraints
    from search.budget.constraints import Constraints
    from search.study.space import list_smallest_networks
    from search.tuning.stages import build_stages

    limits = Constraints(px=build_stages(args.stages)[-1].px, **constraints)
    if not stated:
        limits.select(list_smallest_networks(), source="the search space")
        return stated, constraints
    kept = tuple(limits.select(stated, source="those configured"))
    if len(kept) < len(stated):
        print(f"{len(stated) - len(kept)} of {len(stated)} configurations break a constraint; they are left out")
    return kept, constraints


def _plan(options: "dict[str, Any]", data_module: "DataModule") -> int:
    """Print what the run would do."""
    import torch

    from search.budget.constraints import Constraints
    from search.dry_run import Planner, measure, show
    from search.tuning.stages import build_stages

    stages = build_stages(options["stages"], refine=options["refine"], fixed=bool(options["configs"]))
    constraints = Constraints(px=stages[-1].px, **options["constraints"])
    machine = measure(data_module)
    devices = {"cpu": machine.cluster.cpus, "gpu": torch.cuda.device_count()}
    budget = options["budget"].on(devices=devices, used={"cpu": 0.0, "gpu": 0.0})
    planner = Planner(
        stages=stages,
        budget=budget,
        data_module=data_module,
        machine=machine,
        constraints=constraints,
        configs=options["configs"],
    )
    data_module.check_left_out()
    if left_out := data_module.left_out.describe():
        print(f"left out: {left_out}")
    show(planner.estimate(), budget, machine)
    return 0


def _resume(args: argparse.Namespace) -> int:
    """Go on with a run, or extend it.

    Raises:
        RunDirError: No run to go on with, damaged records, or an option that belongs to a new one.
        DataError: Its data have changed.
    """
    from data.data_module import load_data_module
    from search.config.trial import TrialConfig
    from search.records.run_dir import hold
    from search.records.run_state import read_run_state, resumed_state
    from search.records.trials import TrialTable

    _only_for_resume(args)
    content = read_run_state(args.resume, extended=args.budget is not None)
    with hold(args.resume):
        table = TrialTable.load(args.resume)
        told, budget = content["asked"], _whole_budget(args, content, table)
        run_state = resumed_state(args.resume, content, now=BEGAN, budget=budget, extended=args.budget is not None)
        options = {
            "budget": budget,
            "out": args.resume,
            "seed": told["seed"],
            "began": run_state.began,
            "configs": tuple(TrialConfig.from_dict(config) for config in told["configs"]),
            "refine": told["refine"],
            "find_lr": told["find_lr"],
            **{name: told[name] for name in ("constraints", "keep", "sampler", "stages") if name in told},
        }
        return _run(args.address, options, load_data_module(content), (run_state, table))


def _only_for_resume(args: argparse.Namespace) -> None:
    """Refuse what a run that goes on cannot be told anew."""
    from search.records.run_dir import RunDirError

    grammar = parser()
    for name, value in vars(args).items():
        if name not in ("resume", "budget", "address") and value != grammar.get_default(name):
            option = f"--{name.replace('_', '-')}"
            raise RunDirError(f"{option} belongs to a new run; {args.resume} goes on as it was asked for")


def _whole_budget(args: argparse.Namespace, content: "dict[str, Any]", table: "TrialTable") -> "Budget":
    """Return what a run may spend in all: what it was given, or what it has used and what it is given now."""
    from search.budget.budget import Budget, extended, parse_budget

    budget = Budget(**content["asked"]["budget"])
    if args.budget is None:
        return budget
    trials = len(table.begun("explore"))
    used = content.get("device_s", {"cpu": 0.0, "gpu": 0.0})
    return extended(budget, parse_budget(args.budget), used_s=content["wall_s"], used=used, trials=trials)


def _run(
    address: str | None,
    options: "dict[str, Any]",
    data_module: "DataModule",
    past: "tuple[RunState, TrialTable] | None" = None,
) -> int:
    """Run the study, a new one or one that is taken up from its records, and say where things are."""
    from search.records.console import RunConsole
    from search.records.run_dir import is_claimed
    from search.tuning import cluster

    out = options["out"]
    if data_module.split == "random":
        print(
            "warning: --split random leaks: validation shares backgrounds with training, and flatters", file=sys.stderr
        )
    # Ray takes seconds to start, in which torch is imported here; it ends with the thread that started it, so the
    # pool outlives the run.
    with ThreadPoolExecutor(1) as pool, RunConsole() as console:
        starting = pool.submit(cluster.start, address)
        from search.budget.constraints import Constraints
        from search.experiment import Experiment, NoModelError, RunInterruptedError, RunOptions
        from search.tuning.stages import build_stages

        options["constraints"] = Constraints(px=build_stages(options["stages"])[-1].px, **options["constraints"])
        try:
            Experiment(RunOptions(**options), data_module, console, starting, past).run()
        except RunInterruptedError:
            resume = f"go on with: python search/run.py --resume {shlex.quote(str(out))}"
            print(
                f"stopped; all that was done is in {out}; {resume}"
                if is_claimed(out)
                else "stopped before anything was done"
            )
            return 130
        except NoModelError as error:
            print(f"error: {error}", file=sys.stderr)
            _report(out)
            return 1
    _report(out)
    print(_where_things_are(out))
    return 0


def _report(out: Path) -> None:
    """Write report.html; a run whose report fails is done all the same."""
    try:
        from analysis.report.report import write_report  # the one thing that is asked of the layer above

        write_report(out)
    except Exception as error:
        again = f"`python -m analysis.report {shlex.quote(str(out))}` tries again"
        print(f"warning: there is no report ({type(error).__name__}: {error}); {again}", file=sys.stderr)


def _stated(args: argparse.Namespace, budget: "Budget") -> "tuple[TrialConfig, ...]":
    """Return the configurations that take the place of the search; none to search.

    Raises:
        BudgetError: The budget has fewer trials than the grid.
        ConfigError: No such recipe or width, or a grid that cannot be read.
    """
    from models.config import ConfigError

    if args.width is not None and args.recipe is None:
        raise ConfigError("--width belongs to --recipe; a search chooses widths itself")
    if args.recipe is None and args.grid is None:
        return ()
    from search.budget.budget import BudgetError
    from search.config.grid import read_grid
    from search.config.recipes import build_recipe

    configs = read_grid(args.grid) if args.grid else [build_recipe(args.recipe, width=args.width)]
    if budget.trials is not None and budget.trials < len(configs):
        raise BudgetError(f"--budget {budget.text} is less than the {len(configs)} configurations of {args.grid}")
    return tuple(configs)


def _data(folders: list[Path] | None) -> Path:
    """Return the data set folder: the one stated, one that joins those stated, or the built-in scenes."""
    if folders is None:
        return _built_in_data()
    from data.reading.dataset_json import join_folders
    from data.runtime.files import cache_dir

    return folders[0] if len(folders) == 1 else join_folders(folders, cache_dir())


def _built_in_data() -> Path:
    from data.runtime.progress import progress_bar
    from data.scenes.scenes import cached_scenes

    with progress_bar("drawing built-in scenes, once") as progress:
        return cached_scenes(BUILT_IN_COUNT, progress=progress)


def _where_things_are(out: Path) -> str:
    from search.records.console import dashboards

    lines = [
        f"report    {out / 'report.html'}  (open it in a browser)",
        f"model     {out / 'best'}  (metrics.json: its figures on data it never saw; samples.png: look at it)",
        f"trials    {out / 'trials.csv'}",
        *dashboards(out, searches=(out / "study.journal").exists()),
    ]
    if (out / "front").exists():
        lines.insert(2, f"front     {out / 'front'}  (more models, smaller or faster)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
