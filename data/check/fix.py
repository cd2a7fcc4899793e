"""A copy of a data set folder without its faults: what can be mended safely is, the rest is named in quarantine.csv.

The source is only read. A mended triplet is examined again: what is still at fault is quarantined.
"""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from data.check import faults
from data.check.examine import Pictures, judge, read
from data.check.faults import Fault
from data.check.report import Report
from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.reading.dataset_json import read_dataset_json
from data.runtime.parallel import parallel_map
from data.runtime.progress import Progress, offset_progress
from data.writing.staging import Row, StagingDir
from data.writing.writer import check_free

MENDED = frozenset({"size", "not binary", "channels", "repeated background"})
SAME_SHAPE = 0.02  # by which the ratios of the sides may differ for a resize to be safe
ROLES = ("image", "mask", "depth")
SMALL = 64  # triplets that one process has done before others have started


@dataclass(frozen=True)
class _Job:
    triplet: Triplet
    faults: tuple[Fault, ...]


def repair(report: Report, out: Path, workers: int | None = None, progress: Progress | None = None) -> str:
    """Write the copy; of joined folders a folder that joins their copies.

    Args:
        report: Of the check.
        out: New folder.
        workers: Processes; the number of cores if None.
        progress: Told how many triplets of a folder are done.

    Returns:
        What was done, in words.

    Raises:
        DataError: `out` is in use or cannot be made.
    """
    check_out([part.dataset.root for part in (report, *report.parts)], out)
    draft = StagingDir(out)
    try:
        if report.parts:
            said = _copy_joined(report, draft.folder, workers, progress)
        else:
            said = {"": _copy(report, draft.folder, workers, progress)[1]}
        draft.publish()
    finally:
        draft.close()
    return "\n".join(f"{out / name}: {words}" for name, words in said.items())


def check_out(roots: Iterable[Path], out: Path) -> None:
    """Refuse a folder that is in use, or lies within a source.

    Raises:
        DataError: It is one of these.
    """
    check_free(out)
    for root in roots:
        if out.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{out}: lies within {root}, which is never touched; choose a folder beside it")


def mend(pictures: Pictures) -> Pictures:
    """Bring mask and depth to the image's size, the mask to 0 and 255, the image to three colours.

    What must not be stretched (sides of another ratio) stays as it is, and at fault.
    """
    image, mask, depth = pictures.image, pictures.mask, pictures.depth
    if image is None:
        return pictures
    if mask is not None and not faults.truth_channels(mask):
        share = _resized(faults.share_of_mask(faults.single(mask)), image, cv2.INTER_LINEAR)
        mask = (share > 0.5).astype(np.uint8) * np.uint8(255)
    if depth is not None and not faults.truth_channels(depth):
        depth = _resized(faults.single(depth), image, cv2.INTER_NEAREST)  # averages of missing values mean nothing
    return Pictures(image=image, mask=mask, depth=depth, mode="RGB")


def _copy_joined(report: Report, folder: Path, workers: int | None, progress: Progress | None) -> dict[str, str]:
    """A sub-folder for each, and a dataset.json that joins those in which anything is left; what was done by name."""
    said: dict[str, str] = {}
    left: list[str] = []
    before, total = 0, len(report.dataset.triplets)
    names = [part.dataset.root.name for part in report.parts]
    alone = len(set(names)) == len(names)
    for place, part in enumerate(report.parts, start=1):
        name = names[place - 1] if alone else f"{place}_{names[place - 1]}"
        (folder / name).mkdir()
        files = {str(triplet.image) for triplet in part.dataset.triplets}
        over = tuple(fault for fault in report.faults if fault.file in files)
        whole = replace(part, faults=part.faults + over)
        kept, said[name] = _copy(whole, folder / name, workers, offset_progress(progress, before, total))
        before += len(files)
        left += [name] if kept else []
    (folder / "dataset.json").write_text(json.dumps({"folders": left}, indent=2) + "\n", encoding="utf-8")
    return said


def _copy(report: Report, folder: Path, workers: int | None, progress: Progress | None) -> tuple[int, str]:
    """Fill a folder with a copy of a single one; how many triplets were kept, and words."""
    dataset, bad = report.dataset, report.bad
    near = report.mixed.near if report.mixed else {}
    for triplet in dataset.triplets:
        if near.get(triplet.id, "stated") is None:
            fault = Fault("polarity", str(triplet.depth), "neither its object nor its name tells which")
            bad.setdefault(triplet.id, []).append(fault)
    jobs = [_Job(triplet, tuple(bad.get(triplet.id, ()))) for triplet in dataset.triplets]
    kept, quarantined, mended = _written(dataset, jobs, folder, workers, progress)
    triplets = [replace(t, near=t.near or near.get(t.id)) for t in dataset.triplets if t.id in kept]
    _write_manifest(folder, triplets, kept, report.aliases)
    _write_quarantine(folder, dataset, quarantined)
    _write_spec(folder, dataset, report.sure)
    reasons = f", {len(quarantined)} left out, see quarantine.csv" if quarantined else ""
    return len(kept), f"{len(kept)} triplets, {mended} of them mended{reasons}"


def _written(
    dataset: Dataset, jobs: Sequence[_Job], folder: Path, workers: int | None, progress: Progress | None
) -> tuple[dict[str, Row], dict[str, tuple[Fault, ...]], int]:
    """Names of the files of what was kept, faults of what was not, and how many were mended."""
    kept: dict[str, Row] = {}
    quarantined: dict[str, tuple[Fault, ...]] = {}
    mended = 0
    work = partial(_store, folder, dataset.root, dataset.spec)
    for done, (job, row) in enumerate(parallel_map(work, jobs, 1 if len(jobs) <= SMALL else workers), start=1):
        if row is None:
            quarantined[job.triplet.id] = job.faults
        else:
            kept[job.triplet.id] = row
            mended += bool(job.faults)
        if progress:
            progress(done, len(jobs))
    return kept, quarantined, mended


def _store(folder: Path, root: Path, spec: DatasetSpec, job: _Job) -> Row | None:
    """Copy or mend a triplet; None where it cannot be mended."""
    kinds = {fault.kind for fault in job.faults}
    if not kinds <= MENDED:
        return None
    triplet = job.triplet
    if not kinds - {"repeated background"}:
        return {role: _copied(folder, root, path) for role, path in _paths(triplet).items()}
    pictures = mend(read(triplet)[0])
    if judge(triplet, pictures, spec).faults:
        return None
    return {role: _encoded(folder, root, path, role, getattr(pictures, role)) for role, path in _paths(triplet).items()}


def _paths(triplet: Triplet) -> dict[str, Path]:
    found = {"image": triplet.image, "mask": triplet.mask, "depth": triplet.depth}
    return {role: path for role, path in found.items() if path}


def _copied(folder: Path, root: Path, path: Path) -> str:
    name = _inside(root, path)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / name)
    return name.as_posix()


def _encoded(folder: Path, root: Path, path: Path, role: str, pixels: np.ndarray) -> str:
    """Store a picture without loss; floats as TIFF."""
    suffix = ".tif" if pixels.dtype.kind == "f" else ".png"
    name = _inside(root, path)
    taken = path.suffix != suffix and path.with_suffix(suffix).exists()  # another triplet's
    name = name.with_name(name.name + suffix) if taken else name.with_suffix(suffix)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if role == "image" else pixels
    (folder / name).write_bytes(cv2.imencode(suffix, stored)[1].tobytes())
    return name.as_posix()


def _inside(root: Path, path: Path) -> Path:
    """Path of a file relative to its folder; a manifest may name files beside it, the copy holds them within."""
    return Path(*(part for part in Path(os.path.relpath(path, root)).parts if part != ".."))


def _resized(pixels: np.ndarray, image: np.ndarray, how: int) -> np.ndarray:
    (height, width), (rows, columns) = pixels.shape[:2], image.shape[:2]
    if (height, width) == (rows, columns) or abs(width * rows / (height * columns) - 1) > SAME_SHAPE:
        return pixels
    return np.asarray(cv2.resize(pixels, (columns, rows), interpolation=how))


def _write_manifest(
    folder: Path, triplets: Sequence[Triplet], kept: Mapping[str, Row], aliases: Mapping[str, str]
) -> None:
    """Names of the files, the groups they were in and what is stated of each; groups that are not known stay so."""
    columns = [*ROLES, *(["background", "foreground"] if any(t.background != "unknown" for t in triplets) else [])]
    columns += [name for name in ("split", "near") if any(getattr(triplet, name) for triplet in triplets)]
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        rows.writeheader()
        for triplet in triplets:
            background = aliases.get(triplet.background, triplet.background)
            groups = {"background": background, "foreground": triplet.foreground}
            stated = {"split": triplet.split or "", "near": triplet.near or ""}
            rows.writerow(kept[triplet.id] | groups | stated)


def _write_quarantine(folder: Path, dataset: Dataset, quarantined: Mapping[str, Sequence[Fault]]) -> None:
    if not quarantined:
        return
    with (folder / "quarantine.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, ["id", "kind", "file", "detail"])
        rows.writeheader()
        for triplet in dataset.triplets:
            rows.writerows({"id": triplet.id, **asdict(fault)} for fault in quarantined.get(triplet.id, ()))


def _write_spec(folder: Path, dataset: Dataset, sure: Mapping[str, str | int]) -> None:
    """What the source states, and what is sure beyond it."""
    stated = {**read_dataset_json(dataset.root / "dataset.json"), **sure}
    if stated:
        (folder / "dataset.json").write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")
