"""Copy a data set folder without its faults: fix what is safe to fix, and list unfixable files in quarantine.csv.

The source is only read. Fixed triplets are inspected again and quarantined if a fault remains.
"""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from data.check import faults
from data.check.faults import Fault
from data.check.inspection import Arrays, Inspection, inspect_arrays, read_arrays
from data.check.report import Report
from data.dataset import ROLES, DataError, DatasetSpec, MaskValues, Triplet
from data.reading.dataset_json import read_configured
from data.reading.matching import normalise_unicode
from data.runtime.parallel import parallel_map
from data.runtime.progress import Progress, no_progress, offset_progress
from data.values.masks import complete_values, reduce_channels, scale_mask
from data.values.triplet import is_stretched
from data.writing import Row, StagingDir, check_free, write_table

FIXABLE = frozenset({"size", "not binary", "channels", "repeated background"})
MIN_PARALLEL_TRIPLETS = 64  # below this, starting workers costs more than it saves
MAX_LINES = 10  # lines of output on renamed files
EXACT = {"uint8": ".png", "uint16": ".png", "float32": ".tif"}  # suffixes by pixel type; else ANY_TYPE
ANY_TYPE = ".npy"
REWRITTEN = (*dict.fromkeys(EXACT.values()), ANY_TYPE)

Job = tuple[Triplet, tuple[Fault, ...]]


@dataclass(frozen=True)
class Source:
    """A file that is copied, or rewritten for one triplet."""

    path: Path
    triplet: str = ""  # the id of the triplet for whose image the file is rewritten; "" if it is copied


@dataclass(frozen=True)
class CopyNames:
    """The names of the files of a copy."""

    chosen: dict[Source, PurePosixPath]  # the name of a rewritten source lacks its suffix
    renamed: dict[Source, Source]  # source with a changed name in the copy -> the source that took its name

    def describe_renamed(self) -> str:
        """Return one line for each source whose name is changed in the copy, at most MAX_LINES."""
        lines = [
            f"\n  {source.path} is {self.chosen[source]} in the copy: {other.path} has its name"
            for source, other in list(self.renamed.items())[:MAX_LINES]
        ]
        more = len(self.renamed) - len(lines)
        return "".join(lines) + (f"\n  {more:,} more are renamed, see manifest.csv" if more else "")


def write_fixed_copy(report: Report, out: Path, workers: int | None = None, progress: Progress = no_progress) -> str:
    """Write the copy to a new folder, which joins the copies of joined folders; return a line for each folder."""
    check_target([part.dataset.root for part in (report, *report.parts)], out)
    for part in report.folders:
        if part.unreadable:
            raise DataError(f"{part.unreadable}; nothing was written to {out}")
    names = [part.dataset.root.name for part in report.parts]
    if len({normalise_unicode(name).casefold() for name in names}) < len(names):
        names = [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    staging = StagingDir(out)
    summary: list[str] = []
    usable: list[str] = []
    done, total = 0, len(report.dataset.triplets)
    try:
        for name, part in zip(names or [""], report.folders, strict=True):
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
    """Raise DataError if `out` is not a new or empty folder outside of the sources."""
    check_free(out)
    for root in roots:
        if out.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{out}: lies within {root}, which must not change; choose a folder outside it")


def fix_arrays(arrays: Arrays, values: MaskValues | None = None) -> Arrays:
    """Resize mask and depth to the image's size, unless their aspect ratio differs, and make the mask binary."""
    if "image" not in arrays:
        return arrays
    image, fixed = arrays["image"], dict(arrays)
    for role in {"mask", "depth"} & arrays.keys():
        if faults.describe_label_channels(arrays[role]):
            continue
        pixels = reduce_channels(arrays[role])
        fixed[role] = _fix_mask(pixels, image, values) if role == "mask" else _resize(pixels, image)
    return fixed


def _fix_mask(pixels: np.ndarray, image: np.ndarray, values: MaskValues | None) -> np.ndarray:
    """Return a binary mask of the image's size, in the values of the masks that are copied."""
    values = complete_values(pixels, values)
    inside, known = (_resize(plane.astype(np.float32), image, soft=True) > 0.5 for plane in scale_mask(pixels, values))
    full = (*values.foreground, values.full)[0]
    empty = next(v for v in (values.empty, *range(255, 0, -1)) if v not in (full, *values.foreground, *values.ignored))
    return np.where(known, np.where(inside, full, empty), (*values.ignored, np.nan)[0]).astype(pixels.dtype)


def _copy_folder(report: Report, folder: Path, workers: int | None, progress: Progress) -> tuple[int, str]:
    """Copy a single folder; return the number of triplets kept and a summary."""
    dataset, faulty = report.dataset, report.faulty
    near = report.mixed.near if report.mixed else {}
    for triplet in dataset.triplets:
        if near.get(triplet.id, "configured") is None:
            fault = Fault("polarity", str(triplet.depth), "neither its foreground nor its name shows which")
            faulty.setdefault(triplet.id, []).append(fault)
    jobs: list[Job] = [(triplet, tuple(faulty.get(triplet.id, ()))) for triplet in dataset.triplets]
    names = choose_names(dataset.root, (source for job in jobs for source in _list_sources(job).values()))
    store = partial(_copy_triplet, folder, names.chosen, dataset.spec)
    kept: dict[str, Row] = {}
    copied = parallel_map(store, jobs, 1 if len(jobs) <= MIN_PARALLEL_TRIPLETS else workers)
    for done, (job, row) in enumerate(copied, start=1):
        if row is not None:
            kept[job[0].id] = row
        progress(done, len(jobs))
    triplets = [replace(t, near=t.near or near.get(t.id)) for t in dataset.triplets if t.id in kept]
    _write_manifest(folder, triplets, kept, report.aliases)
    left_out = [(triplet.id, found) for triplet, found in jobs if triplet.id not in kept]
    if left_out:
        rows = [{"id": id_, **asdict(fault)} for id_, found in left_out for fault in found]
        write_table(folder / "quarantine.csv", ["id", "kind", "file", "detail"], rows)
    if fields := read_configured(dataset.root) | report.certain:
        _write_json(folder / "dataset.json", fields)
    fixed = sum(triplet.id in kept and bool(found) for triplet, found in jobs)
    note = f", {len(left_out)} left out, see quarantine.csv" if left_out else ""
    return len(kept), f"{len(kept)} triplets, {fixed} of them fixed{note}{names.describe_renamed()}"


def _list_sources(job: Job) -> dict[str, Source]:
    """Return the files of a triplet by role, to be copied or rewritten; an empty result if it cannot be fixed."""
    triplet, found = job
    kinds = {fault.kind for fault in found}
    if not kinds <= FIXABLE:
        return {}
    rewritten_for = triplet.id if kinds - {"repeated background"} else ""
    return {role: Source(path, rewritten_for) for role, path in triplet.files.items()}


def _copy_triplet(folder: Path, names: Mapping[Source, PurePosixPath], spec: DatasetSpec, job: Job) -> Row | None:
    """Copy or fix a triplet; return its file names, None if it cannot be fixed."""
    triplet, sources, arrays = job[0], _list_sources(job), Arrays()
    if any(source.triplet for source in sources.values()):
        arrays = fix_arrays(read_arrays(triplet)[0], spec.mask_values)
        if inspect_arrays(triplet, arrays, spec, Inspection()).faults:
            return None
    files = {role: _write_file(folder, names[source], source, role, arrays) for role, source in sources.items()}
    return files or None


def _write_file(folder: Path, name: PurePosixPath, source: Source, role: str, arrays: Arrays) -> str:
    """Copy a file, or write its fixed pixels without loss, see EXACT; return its new name."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if not source.triplet:
        shutil.copyfile(source.path, folder / name)
        return str(name)
    pixels = arrays[role]
    suffix = EXACT.get(pixels.dtype.name, ANY_TYPE)
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if role == "image" else pixels
    name = name.with_name(name.name + suffix)
    if suffix == ANY_TYPE:
        np.save(folder / name, pixels)
    else:
        (folder / name).write_bytes(cv2.imencode(suffix, stored)[1].tobytes())
    return str(name)


def _resize(pixels: np.ndarray, image: np.ndarray, *, soft: bool = False) -> np.ndarray:
    """Resize a label to the image's size unless the aspect ratios differ; average its values only if `soft`."""
    (height, width), (rows, columns) = pixels.shape[:2], image.shape[:2]
    if (height, width) == (rows, columns) or is_stretched((height, width), (rows, columns)):
        return pixels
    if soft:
        return np.asarray(cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR))
    return pixels[np.ix_(np.arange(rows) * height // rows, np.arange(columns) * width // columns)]


def _write_manifest(
    folder: Path, triplets: Sequence[Triplet], kept: Mapping[str, Row], aliases: Mapping[str, str]
) -> None:
    """Write file names, known groups, split and polarity."""
    columns = [*ROLES, *(["background", "foreground"] if any(t.has_known_background for t in triplets) else [])]
    columns += [name for name in ("split", "near") if any(getattr(triplet, name) for triplet in triplets)]
    rows = []
    for triplet in triplets:
        groups = {"background": aliases.get(triplet.background, triplet.background), "foreground": triplet.foreground}
        rows.append(kept[triplet.id] | groups | {"split": triplet.split or "", "near": triplet.near or ""})
    write_table(folder / "manifest.csv", columns, rows)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def choose_names(root: Path, sources: Iterable[Source]) -> CopyNames:
    """Choose the path of each source in a copy of `root`: its path below that folder, numbered if the name is taken."""
    names, taken = CopyNames({}, {}), dict[str, Source]()
    numbers: dict[str, count[int]] = defaultdict(lambda: count(2))
    for source in sorted(dict.fromkeys(sources), key=lambda source: source.triplet != ""):  # copied files first
        parts = Path(os.path.relpath(source.path, root)).parts
        own = PurePosixPath(*(part for part in parts if part != ".."))  # inside the copy
        name, suffixes = own.with_suffix(""), REWRITTEN if source.triplet else (own.suffix,)
        while clash := next((key for key in _list_keys(name, suffixes) if key in taken), ""):
            names.renamed.setdefault(source, taken[clash])
            name = own.with_name(f"{own.stem}_{next(numbers[clash])}")
        taken |= dict.fromkeys(_list_keys(name, suffixes), source)
        names.chosen[source] = name if source.triplet else name.with_name(name.name + own.suffix)
    return names


def _list_keys(name: PurePosixPath, suffixes: Iterable[str]) -> list[str]:
    """Return keys that are equal for names that some file systems do not distinguish."""
    return [normalise_unicode(normalise_unicode(f"{name}{suffix}").casefold()) for suffix in suffixes]
