"""Arguments shared by all commands that use a model, and the loading of the named model."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from analysis.runs.files import RUN_WEIGHTS, find_run, is_run_or_model
from data.runtime import cli
from data.runtime.progress import progress_bar
from search.config.plugins import add_plugin_option
from search.records.run_dir import LATEST, parse_run_argument

if TYPE_CHECKING:
    from analysis.predict.model import Model


def make_parser(prog: str, description: str, epilog: str = "") -> cli.Parser:
    """Return the parser of a command with the argument `model` and the option --plugin."""
    parser = cli.Parser(prog, description, epilog)
    named = "run folder, its best/ or a .safetensors file (default: %(default)s, the last run with a model)"
    find = partial(parse_run_argument, needs=RUN_WEIGHTS)
    parser.add_argument("model", type=find, nargs="?", default=LATEST, metavar="RUN_OR_MODEL", help=named)
    add_plugin_option(parser)
    return parser


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add --device, which `load_named_model` reads."""
    parser.add_argument("--device", help="torch device, such as cpu or cuda:1 (default: a GPU if there is one)")


def reinterpret_first_argument(args: argparse.Namespace, others: str) -> None:
    """Use the latest run if the first argument is not a model but belongs to the list `others`.

    This lets `one-look predict a.jpg b.jpg` work like `one-look predict a.jpg`.
    """
    if args.model.exists() and not is_run_or_model(args.model):
        setattr(args, others, [args.model, *getattr(args, others)])
        args.model = find_run(LATEST, needs=RUN_WEIGHTS)


def load_named_model(args: argparse.Namespace) -> "Model":
    """Load the model of a command line; raise AnalysisError if there is none."""
    with progress_bar("loading the model"):
        from analysis.predict.model import load_model

        return load_model(args.model, device=args.device)
