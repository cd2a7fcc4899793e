"""Check every file of a data set folder, or of the folders that it joins."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.check import duplicates
from data.check.faults import Fault, lacks_depth_step
from data.check.inspection import Inspection, inspect_files
from data.check.report import Report
from data.dataset import FAULT_KINDS, Dataset
from data.reading.dataset_json import join_datasets, list_joined_folders, read_configured
from data.reading.folders import NO_ROLES, Roles
from data.reading.layout import read_folder
from data.runtime.parallel import parallel_map
from data.runtime.progress import Progress, no_progress, offset_progress
from data.values.infer import Encoding, describe_orientation, infer_encoding
from data.values.infer_depth import infer_depth_fields, measure_polarity

MIN_PARALLEL_TRIPLETS = 256  # below this, starting workers costs more than it saves


def check_folder(
    root: Path, *, roles: Roles = NO_ROLES, workers: int | None = None, progress: Progress = no_progress
) -> Report:
    """Inspect every triplet of a data set folder.

    For joined folders, return one report per folder plus one for cross-folder faults.
    """
    root = Path(root)
    joined = list_joined_folders(root)
    folders = joined or {"": root}
    read = {name: read_folder(folder, roles=roles) for name, folder in folders.items()}
    encodings = {name: _infer_from_sample(dataset) for name, dataset in read.items()}
    datasets = {name: encodings[name].apply(dataset) for name, dataset in read.items()}
    whole = join_datasets(root, datasets) if joined else datasets[""]
    reports: list[Report] = []
    inspections: list[Inspection] = []
    for name, dataset in datasets.items():
        of_folder = _inspect(dataset, workers, offset_progress(progress, len(inspections), len(whole.triplets)))
        reports.append(_build_report(dataset, of_folder, unclear_masks=bool(encodings[name].mask_doubt)))
        inspections += of_folder
    if not joined:
        return reports[0]
    known = {(fault.kind, fault.file) for report in reports for fault in report.faults}
    between = duplicates.find_duplicates(whole.triplets, inspections)
    between = [fault for fault in between if (fault.kind, fault.file) not in known]
    between += duplicates.find_shared_backgrounds(whole, inspections)
    return Report(whole, tuple(between), parts=tuple(reports))


def _infer_from_sample(dataset: Dataset) -> Encoding:
    """Infer the encoding of a folder, without the doubts and warnings that the full inspection will raise again."""
    return replace(infer_encoding(dataset, read_configured(dataset.root)), doubts=[], orientation_warning="")


def _inspect(dataset: Dataset, workers: int | None, progress: Progress) -> list[Inspection]:
    triplets = dataset.triplets
    workers = 1 if len(triplets) <= MIN_PARALLEL_TRIPLETS else workers
    results = parallel_map(partial(inspect_files, spec=dataset.spec), triplets, workers)
    found: dict[str, Inspection] = {}
    for done, (triplet, inspection) in enumerate(results, start=1):
        found[triplet.id] = inspection
        progress(done, len(triplets))
    return [found[triplet.id] for triplet in triplets]


def _build_report(dataset: Dataset, inspections: Sequence[Inspection], *, unclear_masks: bool) -> Report:
    """Collect the faults of a single folder and infer its dataset.json."""
    triplets, configured = dataset.triplets, read_configured(dataset.root)
    polarity = measure_polarity(triplets, [None if one.framed else one.step for one in inspections])
    values = [one.values for one in inspections if one.values and not one.values.constant]
    inferred = infer_depth_fields(values, polarity, configured, unclear_masks=unclear_masks) if values else []
    if "group_size" not in configured and {triplet.has_known_background for triplet in triplets} == {False}:
        inferred.append(duplicates.infer_group_size(triplets, inspections))
    where = next((triplet.depth.parent for triplet in triplets if triplet.depth), dataset.root)
    unclear = tuple(f"{where}: {one.doubt}" for one in inferred if one.doubt)
    turned = [t for t, one in zip(triplets, inspections, strict=True) if one.orientation_unclear]
    warnings = (*dataset.warnings, *filter(None, [describe_orientation(turned, len(triplets))]))
    dataset = replace(dataset, doubts=(*dataset.doubts, *unclear), warnings=warnings)
    mixed = polarity if polarity.mixed and any(one.key == "near" for one in inferred) else None
    aliases = duplicates.find_repeated_backgrounds(triplets, inspections)
    certain = {one.key: one.value for one in inferred if one.certain}
    near = dataset.spec.near if "near" in configured else certain.get("near")
    images = {triplet.background: triplet.image for triplet in reversed(triplets)}
    faults = [
        *(Fault(u.kind, str(u.image or u.manifest), u.problem) for u in dataset.unusable if u.kind != "missing file"),
        *(fault for inspection in inspections for fault in inspection.faults),
        *_find_ignored_foregrounds(dataset, inspections, near, mixed.certain if mixed else {}),
        *duplicates.find_duplicates(triplets, inspections),
        *(Fault("repeated background", str(images[a]), f"{a} looks like {b}") for a, b in aliases.items()),
        *duplicates.find_stray_files(dataset),
    ]
    order = list(FAULT_KINDS)
    return Report(dataset, tuple(sorted(faults, key=lambda f: order.index(f.kind))), tuple(inferred), aliases, mixed)


def _find_ignored_foregrounds(
    dataset: Dataset, inspections: Sequence[Inspection], near: object, by_triplet: Mapping[str, str | None]
) -> list[Fault]:
    """Find depth without a step at the foreground; `near` of the folder, if known, precedes `by_triplet`."""
    found = []
    for triplet, inspection in zip(dataset.triplets, inspections, strict=True):
        polarity = str(triplet.near or near or by_triplet.get(triplet.id))
        signs = {"relative": {"bright": 1, "dark": -1}.get(polarity, 0), "disparity": 1}
        sign, step = signs.get(dataset.spec.depth_unit, -1), inspection.step
        if step is not None and lacks_depth_step(step, sign):
            found.append(Fault("no object in depth", str(triplet.depth), f"step of {step.slope:.3f} std"))
    return found
