"""Look into every file of a data set folder, or of those that it joins: its faults, and what dataset.json should state.

The command line of `python -m data.check`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.check.duplicates import (
    UNKNOWN,
    duplicates,
    gaps,
    named_faults,
    repeated_backgrounds,
    shared_backgrounds,
    strays,
)
from data.check.examine import Finding, examine
from data.check.faults import Fault, ignored
from data.check.fix import check_out, repair
from data.check.inference import guess, write_spec
from data.check.polarity import weigh
from data.check.report import Report, as_json, table
from data.dataset import FAULT_KINDS, DataError, Dataset, DatasetSpec, Triplet
from data.reading.dataset_json import join_datasets, list_joined_folders, read_dataset_json
from data.reading.layout import read_folder
from data.runtime.parallel import parallel_map
from data.runtime.progress import Progress, offset_progress, progress_bar

CHUNK = 16  # triplets to a job
SMALL = 256  # triplets that one process has done before others have started
FLAGS = {"near": "near", "depth_unit": "depth-unit", "missing": "missing", "group_size": "group-size"}


def check(root: Path, *, workers: int | None = None, progress: Progress | None = None) -> Report:
    """Examine every triplet of a folder.

    Args:
        root: The data set folder.
        workers: Processes; the number of cores if None.
        progress: Told how many triplets are done.

    Returns:
        What was found. Of joined folders: in each, and what only shows over all of them.

    Raises:
        DataError: The folder cannot be read as a data set at all.
    """
    root = Path(root)
    folders = _joined_folders(root)
    if not folders:
        return _check_folder(read_folder(root), workers, progress)[0]
    read = {name: read_folder(folder) for name, folder in folders.items()}
    whole = join_datasets(root, read)
    checked: list[tuple[Report, list[Finding]]] = []
    for dataset in read.values():
        before = sum(len(findings) for _, findings in checked)
        checked.append(_check_folder(dataset, workers, offset_progress(progress, before, len(whole.triplets))))
    parts = tuple(report for report, _ in checked)
    findings = [finding for _, of_folder in checked for finding in of_folder]
    known = {(fault.kind, fault.file) for part in parts for fault in part.faults}
    twice = [fault for fault in duplicates(whole.triplets, findings) if (fault.kind, fault.file) not in known]
    return Report(whole, (*twice, *shared_backgrounds(whole, findings)), parts=parts)


def _joined_folders(root: Path) -> dict[str, Path]:
    path = root / "dataset.json"
    stated = read_dataset_json(path)
    return list_joined_folders(path, stated) if "folders" in stated else {}


def _check_folder(dataset: Dataset, workers: int | None, progress: Progress | None) -> tuple[Report, list[Finding]]:
    """Examine a single folder."""
    findings = _examined(dataset, workers, progress)
    triplets, stated = dataset.triplets, read_dataset_json(dataset.root / "dataset.json")
    polarity = weigh(triplets, findings)
    unstated = {triplet.background for triplet in triplets} == {UNKNOWN}
    guesses = guess(findings, polarity, stated, ordered=unstated)
    found = named_faults(dataset) + [fault for finding in findings for fault in finding.faults]
    mixed = polarity if polarity.mixed and any(told.key == "near" for told in guesses) else None
    aliases = repeated_backgrounds(triplets, findings)
    report = Report(dataset, (), tuple(guesses), aliases, mixed)
    found += _ignored(report, findings, stated_near=dataset.spec.near if "near" in stated else None)
    found += duplicates(triplets, findings) + _repeated(dataset, aliases) + gaps(triplets) + strays(dataset)
    order = list(FAULT_KINDS)
    return replace(report, faults=tuple(sorted(found, key=lambda fault: order.index(fault.kind)))), findings


def _examined(dataset: Dataset, workers: int | None, progress: Progress | None) -> list[Finding]:
    triplets = dataset.triplets
    chunks = [(start, triplets[start : start + CHUNK]) for start in range(0, len(triplets), CHUNK)]
    workers = 1 if len(triplets) <= SMALL else workers
    findings: dict[int, list[Finding]] = {}
    done = 0
    for (start, chunk), result in parallel_map(partial(_examine, dataset.spec), chunks, workers):
        findings[start] = result
        done += len(chunk)
        if progress:
            progress(done, len(triplets))
    return [finding for start, _ in chunks for finding in findings[start]]


def _examine(spec: DatasetSpec, chunk: tuple[int, Sequence[Triplet]]) -> list[Finding]:
    return [examine(triplet, spec) for triplet in chunk[1]]


def _ignored(report: Report, findings: Sequence[Finding], stated_near: str | None) -> list[Fault]:
    """Depth that ignores the object, as far as its polarity is stated or sure."""
    folder = stated_near or report.sure.get("near")
    firm = report.mixed.firm if report.mixed else {}

    def sign(triplet: Triplet) -> int:
        if report.dataset.spec.depth_unit != "relative":
            return -1
        return {"bright": 1, "dark": -1}.get(str(triplet.near or folder or firm.get(triplet.id)), 0)

    steps = zip(report.dataset.triplets, findings, strict=True)
    told = [(str(t.depth), f.step) for t, f in steps if f.step is not None and ignored(f.step, sign(t))]
    return [Fault("no object in depth", path, f"steps by {step.slope:.3f} deviations") for path, step in told]


def _repeated(dataset: Dataset, aliases: dict[str, str]) -> list[Fault]:
    images = {triplet.background: triplet.image for triplet in reversed(dataset.triplets)}
    return [Fault("repeated background", str(images[a]), f"{a} as {b}") for a, b in aliases.items()]


def main(argv: Sequence[str] | None = None) -> int:
    """Check a data set folder from the command line, or state what dataset.json is to say.

    Args:
        argv: Arguments without the program's name. None: those of the process.

    Returns:
        Exit code: 0 no faults, 1 faults found, 2 the user's mistake.
    """
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data.check", description="Find the faults of a data set folder.")
    parser.add_argument("check", type=Path, metavar="DIR", help="data set folder")
    parser.add_argument("--fix", type=Path, metavar="OUT", help="new folder for what is whole or can be mended")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every fault and guess there")
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")
    stated = parser.add_argument_group("to be written into DIR/dataset.json before the check")
    stated.add_argument("--near", choices=("bright", "dark"), help="relative depth: are near things bright or dark?")
    stated.add_argument("--depth-unit", choices=("relative", "mm", "m"), help="unit of the depth values")
    stated.add_argument("--missing", type=int, help="depth value that means unknown")
    stated.add_argument("--group-size", type=int, help="consecutive files that share a background")
    return parser


def _run(args: argparse.Namespace) -> int:
    keys = {key: getattr(args, key) for key in FLAGS if getattr(args, key) is not None}
    folders = _joined_folders(args.check).values()
    if keys and folders:
        raise DataError(
            f"{args.check}: joins other folders; state --{FLAGS[next(iter(keys))]} of each of them by itself"
        )
    if keys:
        read_folder(args.check)  # states nothing of a folder that is none
        print(f"{write_spec(args.check, keys)}: states {json.dumps(keys)}")
    if args.fix:
        check_out((args.check, *folders), args.fix)  # before the work
    with progress_bar(f"checking {args.check}") as progress:
        report = check(args.check, workers=args.workers, progress=progress)
    print(table(report))
    if args.json:
        _write_json(args.json, report)
    if args.fix:
        with progress_bar(f"mending into {args.fix}") as progress:
            print(repair(report, args.fix, args.workers, progress))
    else:
        for part in report.folders:
            _state(part)
    return 1 if any(part.faults for part in (report, *report.parts)) else 0


def _state(report: Report) -> None:
    """Write dataset.json where there is none, as far as the guesses are sure; say what is left to the user."""
    root, sure = report.dataset.root, report.sure
    if not (root / "dataset.json").exists():
        if sure:
            try:
                print(f"{write_spec(root, sure)}: written, states {json.dumps(sure)}")
            except DataError as error:
                print(f"{error}\n  it would state {json.dumps(sure)}", file=sys.stderr)
        unsure = [
            told.key for told in report.guesses if told.key not in sure and not (told.key == "near" and report.mixed)
        ]
        if unsure:
            flags = " ".join(f"--{FLAGS[key]} ..." for key in unsure)
            print(f"  not sure, look and state it: python -m data.check {root} {flags}")
    if report.mixed:
        print(f"  a copy that states near line by line: python -m data.check {root} --fix OUT")


def _write_json(path: Path, report: Report) -> None:
    try:
        path.write_text(json.dumps(as_json(report), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another file for --json") from error
