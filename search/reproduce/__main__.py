"""Train a recorded trial again and compare: one-look reproduce RUN TRIAL_ID."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from data.dataset import DataError
from data.runtime import cli
from data.runtime.progress import progress_bar
from models.config import ConfigError
from search.config.plugins import add_plugin_option
from search.records.run_dir import RunDirError, parse_run_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 equal metrics, 1 different metrics, 2 a user error."""
    purpose = "Train a trial of a run again from its record and report whether its metrics are equal."
    parser = cli.Parser("one-look reproduce", purpose)
    parser.add_argument("run", type=parse_run_argument, metavar="RUN", help="run folder, or latest")
    parser.add_argument("trial_id", metavar="TRIAL", help="trial from trials.csv, such as e0007")
    add_plugin_option(parser)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="device to train on (default: the recorded one)")
    args = parser.parse_args(arguments)
    return cli.run(lambda: _reproduce(args), RunDirError, ConfigError, DataError, ConnectionError)


def _reproduce(args: argparse.Namespace) -> int:
    with progress_bar("loading torch"):  # after --help
        from search.reproduce.reproduce import RunRecords, reproduce_trial

    records = RunRecords(args.run)
    for line in records.describe_changes():
        print(line)
    different = reproduce_trial(records, args.trial_id, partial(print, flush=True), device=args.device).different
    print(f"{args.trial_id}: " + (f"different; first, {different[0]}" if different else "the same, bit for bit"))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
