"""Find the faults of a data set folder: one-look check DIR."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data.check.check import check_folder
from data.check.fix import check_target, write_fixed_copy
from data.check.report import Report, print_report
from data.dataset import DataError, Dataset
from data.reading.dataset_json import list_joined_folders, write_dataset_json
from data.reading.layout import read_folder
from data.reading.splits import split_by_background
from data.runtime import cli
from data.runtime.files import explain_write_errors
from data.runtime.flags import (
    ROLE_FLAGS,
    add_meaning_flags,
    add_role_flags,
    read_meaning_flags,
    read_role_flags,
    to_flag,
)
from data.runtime.progress import progress_bar


def main(argv: Sequence[str] | None = None) -> int:
    """Run `one-look check` and return its exit code: 0 no faults, 1 faults found, 2 invalid input."""
    args = build_parser().parse_args(argv)
    return cli.run(lambda: _run(args), DataError, OSError)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = cli.Parser("one-look check", "Find the faults of a data set folder.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="data set folder")
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write valid and repaired triplets to OUT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every fault and inferred field to FILE")
    parser.add_argument("--write", action="store_true", help="write the certain fields to DIR/dataset.json")
    parser.add_argument("--workers", type=int, help="number of processes (default: one for each core)")
    add_role_flags(parser)
    add_meaning_flags(parser.add_argument_group("fields to write to DIR/dataset.json before the check"))
    return parser


def _run(args: argparse.Namespace) -> int:
    fields, roles = read_meaning_flags(args), read_role_flags(args)
    joined = list_joined_folders(args.folder).values()
    if joined and (fields or roles):
        flag = ROLE_FLAGS[next(iter(roles))] if roles else to_flag(next(iter(fields)))
        raise DataError(f"{args.folder}: joins other folders; give {flag} for each of them")
    if fields:
        read_folder(args.folder, roles=roles)  # fails if the folder is not a data set, before anything is written
        print(f"{write_dataset_json(args.folder, fields)}: set {json.dumps(fields)}")
    if args.fix:
        check_target((args.folder, *joined), args.fix)
    if args.json:
        _check_writable(args.json)
    with progress_bar(f"checking {args.folder}") as progress:
        report = check_folder(args.folder, roles=roles, workers=args.workers, progress=progress)
    print_report(report)
    if args.json:
        with explain_write_errors(args.json, "choose another file for --json"):
            args.json.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    if args.fix:
        with progress_bar(f"writing {args.fix}") as progress:
            print(write_fixed_copy(report, args.fix, args.workers, progress))
    else:
        for part in report.folders:
            _configure(part, write=args.write)
    return 1 if any(part.faults or part.dataset.doubts for part in (report, *report.parts)) else 0


def _configure(report: Report, *, write: bool) -> None:
    """Print the certain fields, or write them to dataset.json, and name the options for the others."""
    root, certain, folder = report.dataset.root, report.certain, shlex.quote(str(report.dataset.root))
    if certain and not write:
        print(f"  certain: {json.dumps(certain)}; --write writes it to {root / 'dataset.json'}")
    elif certain:
        try:
            print(f"{write_dataset_json(root, certain)}: written, {json.dumps(certain)}")
        except DataError as error:
            print(f"{error}\n  it would contain {json.dumps(certain)}", file=sys.stderr)
    unknown = [one for one in report.inferred if one.key not in certain and not one.doubt]
    if flags := " ".join(f"{to_flag(one.key)} {'N' if one.value is None else one.value}" for one in unknown):
        print(f"  uncertain; look at the data, then run, with the right number: one-look check {folder} {flags}")
    if report.mixed:
        print(f"  to write a copy whose manifest.csv gives near per line, run: one-look check {folder} --fix OUT")
    if not (write and "group_size" in certain) and (problem := _explain_refusal(report.dataset)):
        remedy = f" until group_size is known: one-look check {folder} --write"
        why = remedy if "group_size" in certain else cli.to_printable(f": {problem}")
        print(f"  a search will refuse this folder{why}")


def _explain_refusal(dataset: Dataset) -> str:
    """Return why a search cannot split the folder, and what to do; "" if it can."""
    try:
        split_by_background(replace(dataset, triplets=dataset.list_usable()))
    except DataError as error:
        return str(error).removeprefix(f"{dataset.label}: ")
    return ""


def _check_writable(path: Path) -> None:
    """Raise DataError if a file cannot be written; leave its content as it is."""
    is_new = not path.exists()
    with explain_write_errors(path, "choose another file for --json"):
        path.open("a").close()
    if is_new:
        path.unlink()


if __name__ == "__main__":
    sys.exit(main())
