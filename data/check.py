"""Look into every file of a data set folder: a table of its faults, and what dataset.json should state.

The command line of `python -m data.layout`.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.examine import Finding, examine
from data.faults import FOLDER_KINDS, KINDS, Fault, ignored
from data.folders import UNKNOWN, duplicates, find_triplets, gaps, repeated_backgrounds, strays
from data.guess import Guess, guess, near_sign, write_spec
from data.parallel import in_parallel
from data.progress import Progress, progress_bar
from data.repair import check_out, repair
from data.stated import stated_in

CHUNK = 16  # triplets to a job
SMALL = 256  # triplets that one process has done before others have started
SHOWN = 3  # files of a kind that the table names
FLAGS = {"near": "near", "depth_unit": "depth-unit", "missing": "missing", "group_size": "group-size"}


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        dataset: The folder as read.
        faults: All of them, in the order of KINDS.
        guesses: What dataset.json could state.
        aliases: Backgrounds that repeat others: name -> the other's name.
    """

    dataset: Dataset
    faults: tuple[Fault, ...]
    guesses: tuple[Guess, ...]
    aliases: dict[str, str]

    @property
    def bad(self) -> dict[str, list[Fault]]:
        """Faults of each triplet that has any, by the triplet's id."""
        owner = {str(path): t.id for t in self.dataset.triplets for path in (t.image, t.mask, t.depth) if path}
        found: dict[str, list[Fault]] = {}
        for fault in self.faults:
            if fault.kind not in FOLDER_KINDS:
                found.setdefault(owner[fault.file], []).append(fault)
        return found


def check(root: Path, *, workers: int | None = None, progress: Progress | None = None) -> Report:
    """Examine every triplet of a folder.

    Args:
        root: The data set folder.
        workers: Processes; the number of cores if None.
        progress: Told how many triplets are done.

    Returns:
        What was found.

    Raises:
        DataError: The folder cannot be read as a data set at all.
    """
    stated = stated_in(Path(root) / "dataset.json")
    if "folders" in stated:
        raise DataError(f"{root}: joins other folders; check each of them")
    dataset, found = find_triplets(root)
    findings = _examined(dataset, workers, progress)
    unstated = {triplet.background for triplet in dataset.triplets} == {UNKNOWN}
    guesses = guess(findings, stated, ordered=unstated)
    found += [fault for finding in findings for fault in finding.faults]
    found += _ignored(dataset, findings, near_sign(dataset.spec, stated, guesses))
    found += duplicates(dataset.triplets, findings)
    aliases = repeated_backgrounds(dataset.triplets, findings)
    found += _repeated(dataset, aliases)
    found += gaps(dataset.triplets) + strays(dataset)
    order = list(KINDS)
    found.sort(key=lambda fault: order.index(fault.kind))
    return Report(dataset, tuple(found), tuple(guesses), aliases)


def _examined(dataset: Dataset, workers: int | None, progress: Progress | None) -> list[Finding]:
    triplets = dataset.triplets
    chunks = [(start, triplets[start : start + CHUNK]) for start in range(0, len(triplets), CHUNK)]
    workers = 1 if len(triplets) <= SMALL else workers
    findings: dict[int, list[Finding]] = {}
    done = 0
    for (start, chunk), result in in_parallel(partial(_examine, dataset.spec), chunks, workers):
        findings[start] = result
        done += len(chunk)
        if progress:
            progress(done, len(triplets))
    return [finding for start, _ in chunks for finding in findings[start]]


def _examine(spec: DatasetSpec, chunk: tuple[int, Sequence[Triplet]]) -> list[Finding]:
    return [examine(triplet, spec) for triplet in chunk[1]]


def _ignored(dataset: Dataset, findings: Sequence[Finding], sign: int) -> list[Fault]:
    steps = zip(dataset.triplets, findings, strict=True)
    told = [(str(t.depth), f.step) for t, f in steps if f.step is not None and ignored(f.step, sign)]
    return [Fault("no object in depth", path, f"steps by {step.slope:.3f} deviations") for path, step in told]


def _repeated(dataset: Dataset, aliases: dict[str, str]) -> list[Fault]:
    images = {triplet.background: triplet.image for triplet in reversed(dataset.triplets)}
    return [Fault("repeated background", str(images[a]), f"{a} as {b}") for a, b in aliases.items()]


def table(report: Report) -> str:
    """Faults by kind with counts and the first files, then the guesses; plain text."""
    root, total = report.dataset.root, len(report.dataset.triplets)
    lines = [f"{root}: {total} triplets, {len(report.bad)} with faults"]
    counts = Counter(fault.kind for fault in report.faults)
    for kind, words in KINDS.items():
        if not counts[kind]:
            continue
        lines.append(f"  {counts[kind]:>7}  {kind:<20}  {words}")
        of_kind = [fault for fault in report.faults if fault.kind == kind]
        for fault in of_kind[:SHOWN]:
            detail = f": {fault.detail}" if fault.detail else ""
            lines.append(f"{'':>11}{os.path.relpath(fault.file, root)}{detail}")
        if len(of_kind) > SHOWN:
            lines.append(f"{'':>11}and {len(of_kind) - SHOWN} more")
    for told in report.guesses:
        value = "cannot be told" if told.value is None else f"{told.value}, {'sure' if told.sure else 'not sure'}"
        lines.append(f"  {told.key}: {value} ({told.why})")
    return "\n".join(lines)


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
    parser = argparse.ArgumentParser(prog="python -m data.layout", description="Find the faults of a data set folder.")
    parser.add_argument("--check", type=Path, required=True, metavar="DIR", help="data set folder")
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
    if keys:
        find_triplets(args.check)  # states nothing of a folder that is none
        print(f"{write_spec(args.check, keys)}: states {json.dumps(keys)}")
    if args.fix:
        check_out(args.check, args.fix)  # before the work
    with progress_bar(f"checking {args.check}") as progress:
        report = check(args.check, workers=args.workers, progress=progress)
    print(table(report))
    if args.json:
        _write_json(args.json, report)
    sure = {told.key: told.value for told in report.guesses if told.sure and told.value is not None}
    if args.fix:
        with progress_bar(f"mending into {args.fix}") as progress:
            print(repair(report.dataset, report.bad, report.aliases, sure, args.fix, args.workers, progress))
    elif not (args.check / "dataset.json").exists():
        _state(args.check, sure, report)
    return 1 if report.faults else 0


def _state(root: Path, sure: dict[str, str | int], report: Report) -> None:
    """Write dataset.json where there is none, as far as the guesses are sure; say what is left to the user."""
    unsure = [told.key for told in report.guesses if told.key not in sure]
    if sure:
        try:
            print(f"{write_spec(root, sure)}: written, states {json.dumps(sure)}")
        except DataError as error:
            print(f"{error}\n  it would state {json.dumps(sure)}", file=sys.stderr)
    if unsure:
        flags = " ".join(f"--{FLAGS[key]} ..." for key in unsure)
        print(f"  not sure, look and state it: python -m data.layout --check {root} {flags}")


def _write_json(path: Path, report: Report) -> None:
    told = {
        "folder": str(report.dataset.root),
        "triplets": len(report.dataset.triplets),
        "bad": len(report.bad),
        "faults": [asdict(fault) for fault in report.faults],
        "guesses": [asdict(guess) for guess in report.guesses],
    }
    try:
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another file for --json") from error
