"""Command line of the search: parse, dispatch, exit code."""

import argparse
import os
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

BEGAN = time.monotonic()
ROOT = str(Path(__file__).resolve().parent.parent)
if sys.path and Path(sys.path[0]).resolve() == Path(ROOT, "search"):
    sys.path[0] = ROOT  # when run as a script, modules beside this file must not hide others of the same name

from data.dataset import DataError
from data.runtime import cli
from data.runtime.cli import parse_path
from data.runtime.flags import to_flag
from data.runtime.process import count_cores, prepare_process
from data.runtime.progress import progress_bar
from data.runtime.storage import StorageError, parse_location
from models.config import ConfigError
from search.command_line import checks
from search.command_line.settings import add_settings, format_settings, parse_arguments
from search.config.budget import FORMS, Budget, BudgetError, extend_budget, parse_budget
from search.config.options import RunOptions, add_options
from search.config.plugins import add_plugin_option, find_copy, hash_by_name, load_plugins
from search.records.disk import DiskFullError, find_full_disk
from search.records.mirror import claim_storage, fetch_run, mirror_run
from search.records.run_dir import (
    RunDirError,
    check_free,
    describe_stop,
    format_resume_command,
    hold,
    is_claimed,
    is_one_look,
    parse_run,
)
from search.records.run_state import RunState, read_run_json, resume_run_state
from search.records.trials import TrialTable

if TYPE_CHECKING:  # imports torch
    from data.data_module import DataModule

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
prepare_process()


def build_parser() -> cli.Parser:
    """Return the parser of the command line."""
    purpose = "Search for a small network that predicts foreground mask and depth from one image."
    codes = "Exit code: 0 done, 1 no model, 2 invalid input, 130 interrupted."
    p = cli.Parser("one-look search" if is_one_look() else "search/run.py", purpose, codes)
    add_settings(p)
    add = p.add_argument
    budget = "wall time (90s, 10m, 1h30m), trials (40trials) or device hours (2gpuh, 2cpuh)"
    add("--budget", metavar="TIME", help=budget)
    resume = "continue an interrupted run (folder, URI or latest); --budget extends it, --data names the moved data"
    add("--resume", type=parse_run, metavar="RUN", help=resume)
    data = "data set folders, or s3:// or gs:// URIs; several are joined (default: built-in scenes)"
    add("--data", type=parse_location, nargs="+", metavar="DIR", help=data)
    allow = "continue if over a tenth of the triplets cannot be used"
    add("--allow-bad", default=False, action=argparse.BooleanOptionalAction, help=allow)
    add("--out", type=parse_path, help="run folder (default: runs/ and the date)")
    add("--dry-run", action="store_true", help="measure this machine, print an estimate, train nothing")
    add("--address", help="address of a Ray cluster (default: start Ray on this machine)")
    plugin = "Python file with an Architecture or a loss Term, see CONTRIBUTING.md; the file is executed"
    add_plugin_option(p, help=plugin)
    instead = p.add_mutually_exclusive_group()
    grid = "train the configurations of this JSON file instead of a search"
    instead.add_argument("--grid", type=parse_path, help=grid)
    recipe = "train this recipe instead of a search: study (of the original course project), or names joined by + that "
    recipe += "`python -m search.config.recipes` prints, such as quick_efficientnet+varied"
    instead.add_argument("--recipe", help=recipe)
    add("--width", type=int, help="width of the recipe's network")
    add_options(p, find_lr=instead)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 done, 1 no model, 2 invalid input, 130 interrupted."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # deprecations in other packages do not concern the user
    return cli.run(lambda: _dispatch(arguments), BudgetError, ConfigError, DataError, RunDirError, ConnectionError)


def _dispatch(arguments: list[str] | None) -> int:
    """Parse the command line and the settings file, and start or resume a run."""
    parser = build_parser()
    args = parse_arguments(parser, arguments)
    if args.print_config:
        with progress_bar("loading torch"):
            load_plugins(hash_by_name(args.plugin))
            text = format_settings(parser, args)
        print(text, end="")
        return 0
    return _name_full_disk(_start if args.resume is None else _resume, args)


def _name_full_disk(command: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command; report a full disk in one line and return exit code 1."""
    try:
        return command(args)
    except (OSError, DiskFullError) as error:
        out = Path(args.resume or args.out or "")
        full = find_full_disk(error, out)
        if not full:
            raise
        begun = f"free some, then continue with: {format_resume_command(out)}"
        remedy = begun if is_claimed(out) else "free some, or name another folder"
        print(cli.to_printable(f"error: {full}; {remedy}"), file=sys.stderr)
        return 1


def _start(args: argparse.Namespace) -> int:
    """Start a new run, or print an estimate of it."""
    if args.dry_run and args.address:
        raise ConfigError("--dry-run measures this machine, not the cluster of --address; leave out one of them")
    if args.budget is None:
        raise BudgetError(f"--budget is missing; {FORMS}")
    budget = parse_budget(args.budget)
    out = args.out = args.out or parse_path("runs") / time.strftime("%Y%m%d-%H%M%S")
    check_free(out)
    with progress_bar("checking the options"):
        options = checks.build_options(args, budget)
    if args.dry_run:
        return _estimate(args, options)
    if options.storage:
        options = replace(options, storage=claim_storage(options.storage, out))
    data_module = checks.open_data(args, options)
    copied = argparse.Namespace(**vars(args) | {"out": None})
    copies = {"settings.toml": lambda: format_settings(build_parser(), copied).encode()}  # imports torch, so not yet
    copies |= {f"plugins/{name}": find_copy(name, sha256).read_bytes for name, sha256 in options.plugins.items()}
    run_state = RunState(folder=out, options=options.to_dict(), began=BEGAN, copies=copies)
    return _run(args.address, options, data_module, run_state, TrialTable(out))


def _estimate(args: argparse.Namespace, options: RunOptions) -> int:
    """Print an estimate of a run; the measuring processes start while the data are read."""
    from data.runtime.parallel import MAX_TOGETHER, start_processes

    with start_processes(min(args.workers or count_cores(), MAX_TOGETHER), "search.training.throughput") as pool:
        data_module = checks.open_data(args, options)
        with progress_bar("loading torch"):
            from search.command_line.dry_run import print_estimate

        print_estimate(options, data_module, pool, args.out)
    return 0


def _resume(args: argparse.Namespace) -> int:
    """Continue a run, with more budget if --budget is given."""
    _refuse_options_of_a_new_run(args)
    with progress_bar("reading the run"):
        args.resume, storage = fetch_run(args.resume)
    extended = args.budget is not None
    checks.register_plugins(read_run_json(args.resume, extended=extended)["options"].get("plugins", {}), args.resume)
    with hold(args.resume):
        content = read_run_json(args.resume, extended=extended)  # another process may have ended meanwhile
        if content["state"] == "done" and not extended:
            return _end(args.resume)
        table = TrialTable.load(args.resume)
        options = RunOptions.from_dict(content["options"])
        if options.encoder_weights:
            options.encoder_weights.restore()
        if extended:
            options = replace(options, budget=_extend(options.budget, parse_budget(args.budget), content, table))
        options = replace(options, workers=checks.check_workers(args) or options.workers, storage=storage)
        checks.select_gpus(options.gpus, args.address)
        written = (args.resume / "run.json").read_bytes()
        run_state = resume_run_state(args.resume, content, now=BEGAN, options=options.to_dict(), extended=extended)
        run_state.start_clock()  # a process that is killed during start-up counts too
        try:
            with progress_bar("loading torch"):
                from data.data_module import load_data_module

            data_module = load_data_module(content, checks.find_folders(args.data or options.sources))
        except Exception:  # no stage has begun
            run_state.withdraw(written)
            raise
        except KeyboardInterrupt:
            run_state.end("stopped")
            raise
        return _run(args.address, options, data_module, run_state, table)


def _refuse_options_of_a_new_run(args: argparse.Namespace) -> None:
    defaults, kept = build_parser(), ("resume", "budget", "address", "data", "workers", "plugin")
    for name, value in vars(args).items():
        if name not in kept and value != defaults.get_default(name):
            raise RunDirError(
                f"{to_flag(name)} applies only to a new run; {args.resume} continues with its recorded options"
            )


def _extend(budget: Budget, more: Budget, content: dict, table: TrialTable) -> Budget:
    used = content.get("device_s", {"cpu": 0.0, "gpu": 0.0})
    trials = sum(not record.parent_id for record in table.records.values())
    return extend_budget(budget, more, used_s=content["wall_s"], used=used, trials=trials)


def _run(
    address: str | None, options: RunOptions, data_module: "DataModule", run_state: RunState, table: TrialTable
) -> int:
    """Run the experiment and write the report; meanwhile copy the run to its storage, if it has one."""
    from search.records.console import RunConsole
    from search.tuning.ray import session

    out = run_state.folder
    if options.split == "random":
        print("warning: --split random leaks: validation shares backgrounds with training", file=sys.stderr)
    with mirror_run(out, options.storage) as discard:
        # Torch is imported while Ray starts. Ray ends with the thread that started it, so the pool outlives the run.
        with ThreadPoolExecutor(1) as pool, RunConsole() as console:
            starting = pool.submit(session.start, address, options.workers)
            from search.experiment import Experiment, NoModelError, RunInterruptedError, StageFailedError

            try:
                Experiment(options, data_module, console, starting, run_state, table, discard).run()
            except RunInterruptedError:
                print(cli.to_printable(describe_stop(out)))
                return 130
            except (NoModelError, StageFailedError, StorageError) as error:
                if not is_claimed(out):
                    raise
                more = "" if isinstance(error, NoModelError) else f"; continue with: {format_resume_command(out)}"
                print(cli.to_printable(f"error: {error}{more}"), file=sys.stderr)
                _write_report(out)
                return 1
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.default_int_handler)
        return _end(out)


def _end(out: Path) -> int:
    """Write the report of a run that is done, and print where the results are."""
    from search.records.console import list_results

    _write_report(out)
    print(cli.to_printable("\n".join(list_results(out))))
    return 0


def _write_report(out: Path) -> None:
    """Write report.html; a failure is a warning, because the run itself is complete."""
    try:
        with progress_bar("writing the report"):
            from analysis.report.report import write_report  # the only import from the layer above

            write_report(out)
    except Exception as error:
        again = f"try again with `one-look report {shlex.quote(str(out))}`"
        print(f"warning: there is no report ({type(error).__name__}: {error}); {again}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
