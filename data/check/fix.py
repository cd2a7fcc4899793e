"""Copy a data set folder without its faults: fix what is safe to fix, list the rest in quarantine.csv.

The source is only read. Fixed triplets are inspected again and quarantined if a fault remains.
"""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from data.check import faults
from data.check.examine import ROLES, Arrays, inspect_arrays, read_arrays
from data.check.faults import Fault
from data.check.report import Report
from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.reading.dataset_json import read_dataset_json
from data.runtime.parallel import parallel_map
from data.runtime.progress import Progress, offset_progress
from data.writing.staging import Row, StagingDir
from data.writing.writer import check_free

FIXABLE = frozenset({"size", "not binary", "channels", "repeated background"})
MAX_STRETCH = 0.02  # by which the aspect ratios may differ for a resize to be safe
SMALL = 64  # triplets that one process copies before others have started

Job = tuple[Triplet, tuple[Fault, ...]]


def write_fixed_copy(report: Report, out: Path, workers: int | None = None, progress: Progress | None = None) -> str:
    """Write the copy; for joined folders a folder that joins their copies.

    Args:
        report: Report of the check.
        out: New folder.
        workers: Number of processes; one for each core if None.
        progress: Called with (triplets done, triplets in total).

    Returns:
        A line for each folder with what was done.

    Raises:
        DataError: `out` is in use or cannot be made.
    """
    check_target([part.dataset.root for part in (report, *report.parts)], out)
    names = _name_copies(report)
    staging = StagingDir(out)
    summary: list[str] = []
    usable: list[str] = []
    done, total = 0, len(report.dataset.triplets)
    try:
        for name, part in zip(names, report.folders, strict=True):
            (staging.folder / name).mkdir(exist_ok=True)
            files = {str(triplet.image) for triplet in part.dataset.triplets}
            between = tuple(fault for fault in report.faults if report.parts and fault.file in files)
            whole = replace(part, faults=part.faults + between)
            kept, words = _copy_folder(whole, staging.folder / name, workers, offset_progress(progress, done, total))
            done += len(part.dataset.triplets)
            usable += [name] if kept else []
            summary.append(f"{out / name}: {words}")
        if report.parts:
            _write_json(staging.folder / "dataset.json", {"folders": usable})
        staging.publish()
    finally:
        staging.close()
    return "\n".join(summary)


def check_target(roots: Iterable[Path], out: Path) -> None:
    """Check that `out` can be made.

    Raises:
        DataError: It is in use, or lies inside one of the sources `roots`.
    """
    check_free(out)
    for root in roots:
        if out.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{out}: lies within {root}, which must not change; choose a folder beside it")


def fix_arrays(arrays: Arrays) -> Arrays:
    """Resize mask and depth to the image's size and make the mask binary (0 and 255).

    Arrays of another aspect ratio keep their size, and with it their fault.
    """
    if "image" not in arrays:
        return arrays
    image, fixed = arrays["image"], dict(arrays)
    for role in {"mask", "depth"} & arrays.keys():
        if faults.describe_label_channels(arrays[role]):
            continue
        pixels = faults.take_first_channel(arrays[role])
        if role == "mask":
            mask = _resize(faults.scale_mask(pixels), image, cv2.INTER_LINEAR)
            fixed[role] = (mask > 0.5).astype(np.uint8) * np.uint8(255)
        else:
            fixed[role] = _resize(pixels, image, cv2.INTER_NEAREST)  # averages with missing values are meaningless
    return fixed


def _name_copies(report: Report) -> list[str]:
    """Name the sub-folders of the copy: the joined folders' names, numbered if two are equal; "" for a single one."""
    names = [part.dataset.root.name for part in report.parts]
    if len(set(names)) < len(names):
        names = [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    return names or [""]


def _copy_folder(report: Report, folder: Path, workers: int | None, progress: Progress | None) -> tuple[int, str]:
    """Copy a single folder; return the number of triplets kept and a summary."""
    dataset, faulty = report.dataset, report.faulty
    near = report.mixed.near if report.mixed else {}
    for triplet in dataset.triplets:
        if near.get(triplet.id, "stated") is None:
            fault = Fault("polarity", str(triplet.depth), "neither its foreground nor its name shows which")
            faulty.setdefault(triplet.id, []).append(fault)
    kept: dict[str, Row] = {}
    quarantined: list[Job] = []
    fixed = 0
    jobs: list[Job] = [(triplet, tuple(faulty.get(triplet.id, ()))) for triplet in dataset.triplets]
    store = partial(_store, folder, dataset.root, dataset.spec)
    for done, (job, row) in enumerate(parallel_map(store, jobs, 1 if len(jobs) <= SMALL else workers), start=1):
        if row is None:
            quarantined.append(job)
        else:
            kept[job[0].id] = row
            fixed += bool(job[1])
        if progress:
            progress(done, len(jobs))
    triplets = [replace(t, near=t.near or near.get(t.id)) for t in dataset.triplets if t.id in kept]
    _write_manifest(folder, triplets, kept, report.aliases)
    _write_quarantine(folder, dataset, quarantined)
    if fields := read_dataset_json(dataset.root / "dataset.json") | report.certain:
        _write_json(folder / "dataset.json", fields)
    left_out = f", {len(quarantined)} left out, see quarantine.csv" if quarantined else ""
    return len(kept), f"{len(kept)} triplets, {fixed} of them fixed{left_out}"


def _store(folder: Path, root: Path, spec: DatasetSpec, job: Job) -> Row | None:
    """Copy or fix a triplet; return its file names, None if it cannot be fixed."""
    triplet, found = job
    kinds = {fault.kind for fault in found}
    paths: dict[str, Path] = {role: path for role in ROLES if (path := getattr(triplet, role))}
    if not kinds <= FIXABLE:
        return None
    if not kinds - {"repeated background"}:
        return {role: _copy_file(folder, root, path) for role, path in paths.items()}
    arrays = fix_arrays(read_arrays(triplet)[0])
    if inspect_arrays(triplet, arrays, spec).faults:
        return None
    return {role: _encode_file(folder, root, path, role, arrays[role]) for role, path in paths.items()}


def _copy_file(folder: Path, root: Path, path: Path) -> str:
    name = _get_name(root, path)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / name)
    return name.as_posix()


def _encode_file(folder: Path, root: Path, path: Path, role: str, pixels: np.ndarray) -> str:
    """Write an array without loss: floats as TIFF, integers as PNG."""
    suffix = ".tif" if pixels.dtype.kind == "f" else ".png"
    name = _get_name(root, path)
    taken = path.suffix != suffix and path.with_suffix(suffix).exists()  # by another triplet
    name = name.with_name(name.name + suffix) if taken else name.with_suffix(suffix)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if role == "image" else pixels
    (folder / name).write_bytes(cv2.imencode(suffix, stored)[1].tobytes())
    return name.as_posix()


def _get_name(root: Path, path: Path) -> Path:
    """Return the path relative to the root, without the ".." of files that a manifest names beside it."""
    return Path(*(part for part in Path(os.path.relpath(path, root)).parts if part != ".."))


def _resize(pixels: np.ndarray, image: np.ndarray, interpolation: int) -> np.ndarray:
    (height, width), (rows, columns) = pixels.shape[:2], image.shape[:2]
    if (height, width) == (rows, columns) or abs(width * rows / (height * columns) - 1) > MAX_STRETCH:
        return pixels
    return np.asarray(cv2.resize(pixels, (columns, rows), interpolation=interpolation))


def _write_manifest(
    folder: Path, triplets: Sequence[Triplet], kept: Mapping[str, Row], aliases: Mapping[str, str]
) -> None:
    """Write file names, known groups, split and polarity."""
    columns = [*ROLES, *(["background", "foreground"] if any(t.background != "unknown" for t in triplets) else [])]
    columns += [name for name in ("split", "near") if any(getattr(triplet, name) for triplet in triplets)]
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        rows.writeheader()
        for triplet in triplets:
            background = aliases.get(triplet.background, triplet.background)
            groups = {"background": background, "foreground": triplet.foreground}
            rows.writerow(kept[triplet.id] | groups | {"split": triplet.split or "", "near": triplet.near or ""})


def _write_quarantine(folder: Path, dataset: Dataset, quarantined: Sequence[Job]) -> None:
    if not quarantined:
        return
    found = {triplet.id: faults for triplet, faults in quarantined}
    with (folder / "quarantine.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, ["id", "kind", "file", "detail"])
        rows.writeheader()
        for triplet in dataset.triplets:
            rows.writerows({"id": triplet.id, **asdict(fault)} for fault in found.get(triplet.id, ()))


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
