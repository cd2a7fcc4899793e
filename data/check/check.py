"""Check every file of a data set folder, or of the folders that it joins: command line of `one-look check`."""

import argparse
import json
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data.check import duplicates
from data.check.faults import Fault, is_foreground_ignored
from data.check.fix import check_target, write_fixed_copy
from data.check.inspection import Inspection, inspect_files
from data.check.report import Report, print_report
from data.dataset import FAULT_KINDS, DataError, Dataset, DatasetSpec
from data.flags import add_meaning_flags, add_role_flags, read_meaning_flags, read_role_flags, to_flag
from data.reading.dataset_json import join_datasets, list_joined_folders, read_dataset_json
from data.reading.folders import NO_ROLES, Roles
from data.reading.layout import read_folder
from data.runtime import cli
from data.runtime.files import write_atomically
from data.runtime.parallel import parallel_map
from data.runtime.progress import Progress, no_progress, offset_progress, progress_bar
from data.values.depth_encoding import InferredField, Polarity, infer_depth_fields, measure_polarity
from data.values.encoding import infer_encoding, warn_of_orientation

SMALL = 256  # triplets that one process inspects before others have started


def check_folder(
    root: Path, *, roles: Roles = NO_ROLES, workers: int | None = None, progress: Progress = no_progress
) -> Report:
    """Inspect every triplet of a data set folder; joined folders get a report each, and one of faults between them."""
    root = Path(root)
    joined = list_joined_folders(root)
    folders = joined or {"": root}
    datasets = {name: _add_encoding(read_folder(folder, roles=roles)) for name, folder in folders.items()}
    whole = join_datasets(root, datasets) if joined else datasets[""]
    reports: list[Report] = []
    inspections: list[Inspection] = []
    for dataset in datasets.values():
        of_folder = _inspect(dataset, workers, offset_progress(progress, len(inspections), len(whole.triplets)))
        reports.append(_build_report(dataset, of_folder))
        inspections += of_folder
    if not joined:
        return reports[0]
    known = {(fault.kind, fault.file) for report in reports for fault in report.faults}
    between = duplicates.find_duplicates(whole.triplets, inspections)
    between = [fault for fault in between if (fault.kind, fault.file) not in known]
    between += duplicates.find_shared_backgrounds(whole, inspections)
    return Report(whole, tuple(between), parts=tuple(reports))


def _add_encoding(dataset: Dataset) -> Dataset:
    """Add the encoding of a folder, without those doubts and warnings that the inspection of all files repeats."""
    content = read_dataset_json(dataset.root / "dataset.json")
    encoding = infer_encoding(dataset, {key: value for key, value in content.items() if value is not None})
    return replace(encoding, doubts=[], orientation_warnings=()).apply(dataset)


def _inspect(dataset: Dataset, workers: int | None, progress: Progress) -> list[Inspection]:
    triplets = dataset.triplets
    results = parallel_map(
        partial(inspect_files, spec=dataset.spec), triplets, 1 if len(triplets) <= SMALL else workers
    )
    found: dict[str, Inspection] = {}
    for done, (triplet, inspection) in enumerate(results, start=1):
        found[triplet.id] = inspection
        progress(done, len(triplets))
    return [found[triplet.id] for triplet in triplets]


def _build_report(dataset: Dataset, inspections: Sequence[Inspection]) -> Report:
    """Collect the faults of a single folder and infer its dataset.json."""
    triplets, configured = dataset.triplets, read_dataset_json(dataset.root / "dataset.json")
    polarity = measure_polarity(triplets, [None if one.framed else one.step for one in inspections])
    inferred = tuple(_infer_fields(dataset, inspections, polarity, configured))
    where = next((triplet.depth.parent for triplet in triplets if triplet.depth), dataset.root)
    unclear = tuple(f"{where}: {one.doubt}" for one in inferred if one.doubt)
    turned = [t for t, one in zip(triplets, inspections, strict=True) if one.orientation_unclear]
    warnings = (*dataset.warnings, *warn_of_orientation(turned, len(triplets)))
    dataset = replace(dataset, doubts=(*dataset.doubts, *unclear), warnings=warnings)
    mixed = polarity if polarity.mixed and any(one.key == "near" for one in inferred) else None
    aliases = duplicates.find_repeated_backgrounds(triplets, inspections)
    report = Report(dataset, (), inferred, aliases, mixed)
    near = dataset.spec.near if "near" in configured else report.certain.get("near")
    images = {triplet.background: triplet.image for triplet in reversed(triplets)}
    faults = [
        *(Fault(u.kind, str(u.image or u.manifest), u.problem) for u in dataset.unusable if u.kind != "missing file"),
        *(fault for inspection in inspections for fault in inspection.faults),
        *_find_ignored_foregrounds(dataset, inspections, near, mixed.certain if mixed else {}),
        *duplicates.find_duplicates(triplets, inspections),
        *(Fault("repeated background", str(images[a]), f"{a} looks like {b}") for a, b in aliases.items()),
        *duplicates.find_gaps(triplets),
        *duplicates.find_stray_files(dataset),
    ]
    order = list(FAULT_KINDS)
    return Report(dataset, tuple(sorted(faults, key=lambda f: order.index(f.kind))), inferred, aliases, mixed)


def _infer_fields(
    dataset: Dataset, inspections: Sequence[Inspection], polarity: Polarity, configured: Mapping[str, Any]
) -> list[InferredField]:
    """Infer the fields that are not configured; the group size only if no names give the backgrounds."""
    values = [inspection.values for inspection in inspections if inspection.values and inspection.values.maximum]
    fields = infer_depth_fields(values, polarity, configured, unclear_masks=bool(dataset.doubts)) if values else []
    if "group_size" not in configured and {t.background for t in dataset.triplets} == {duplicates.UNKNOWN}:
        fields += duplicates.infer_group_size(dataset.triplets, inspections)
    return fields


def _find_ignored_foregrounds(
    dataset: Dataset, inspections: Sequence[Inspection], near: object, near_of: Mapping[str, str | None]
) -> list[Fault]:
    """Find depth without a step at the foreground; `near` is the folder's polarity, `near_of` has that of triplets."""
    found = []
    for triplet, inspection in zip(dataset.triplets, inspections, strict=True):
        polarity = str(triplet.near or near or near_of.get(triplet.id))
        signs = {"relative": {"bright": 1, "dark": -1}.get(polarity, 0), "disparity": 1}
        sign = signs.get(dataset.spec.depth_unit, -1)
        step = inspection.step
        if step is not None and is_foreground_ignored(step, sign):
            found.append(Fault("no object in depth", str(triplet.depth), f"step of {step.slope:.3f} std"))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run `one-look check` and return its exit code: 0 no faults, 1 faults found, 2 invalid input."""
    args = build_parser().parse_args(argv)
    return cli.run(lambda: _run(args), DataError, OSError)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = cli.Parser("one-look check", "Find the faults of a data set folder.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="data set folder")
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write the sound and the fixable triplets to OUT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every fault and inferred field to FILE")
    parser.add_argument("--write", action="store_true", help="write the certain fields to DIR/dataset.json")
    parser.add_argument("--workers", type=int, help="number of processes (default: one for each core)")
    add_role_flags(parser)
    add_meaning_flags(parser.add_argument_group("fields to write to DIR/dataset.json before the check"))
    return parser


def _run(args: argparse.Namespace) -> int:
    fields = read_meaning_flags(args)
    joined, roles = list_joined_folders(args.folder).values(), read_role_flags(args)
    if roles and joined:
        raise DataError(f"{args.folder}: joins other folders; check them one by one to name sub-folders")
    if fields and joined:
        raise DataError(f"{args.folder}: joins other folders; give {to_flag(next(iter(fields)))} for each of them")
    if fields:
        read_folder(args.folder, roles=roles)  # fails if the folder is not a data set, before anything is written
        print(f"{write_dataset_json(args.folder, fields)}: set {json.dumps(fields)}")
    _check_outputs(args, (args.folder, *joined))
    with progress_bar(f"checking {args.folder}") as progress:
        report = check_folder(args.folder, roles=roles, workers=args.workers, progress=progress)
    print_report(report)
    if args.json:
        _write_json(args.json, json.dumps(report.to_dict(), indent=1) + "\n")
    if args.fix:
        with progress_bar(f"writing {args.fix}") as progress:
            print(write_fixed_copy(report, args.fix, args.workers, progress))
    else:
        for part in report.folders:
            _configure(part, write=args.write)
    return 1 if any(part.faults or part.dataset.doubts for part in (report, *report.parts)) else 0


def _check_outputs(args: argparse.Namespace, folders: Sequence[Path]) -> None:
    """Raise DataError, before the work, if the copy or the file that the command writes cannot be written."""
    if args.fix:
        check_target(folders, args.fix)
    if args.json:
        _write_json(args.json, "")


def _configure(report: Report, *, write: bool) -> None:
    """Print the certain fields, or write them to dataset.json, and name the options for the others."""
    root, certain = report.dataset.root, report.certain
    if certain and not write:
        print(f"  certain: {json.dumps(certain)}; --write writes it to {root / 'dataset.json'}")
    elif certain:
        try:
            print(f"{write_dataset_json(root, certain)}: written, {json.dumps(certain)}")
        except DataError as error:
            print(f"{error}\n  it would hold {json.dumps(certain)}", file=sys.stderr)
    unknown = [one.key for one in report.inferred if one.key not in certain and not one.doubt]
    if flags := " ".join(f"{to_flag(key)} ..." for key in unknown):
        print(f"  uncertain, look at the data and run: one-look check {root} {flags}")
    if report.mixed:
        print(f"  for a copy with near in every line of manifest.csv: one-look check {root} --fix OUT")


def write_dataset_json(root: Path, fields: Mapping[str, Any]) -> Path:
    """Set fields in dataset.json, keep its other content, and return its path."""
    path = root / "dataset.json"
    if not root.stat().st_mode & stat.S_IWUSR:  # the root user could write, but respects the mode
        raise DataError(f"{path}: not written, the folder is read-only; copy it, or allow writing")
    try:
        content = read_dataset_json(path)
        merged = {**content, **fields}
        if content.get("mask_values") and "mask_values" in fields:  # its keys are flags of their own
            merged["mask_values"] = {**content["mask_values"], **fields["mask_values"]}
        DatasetSpec.from_dict(merged)
        text = json.dumps(merged, indent=2) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); copy the data to a writable folder") from error
    return path


def _write_json(path: Path, text: str) -> None:
    """Write a file; without text, only try it and leave what it has."""
    try:
        with path.open("w" if text else "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another file for --json") from error
