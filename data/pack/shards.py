"""The files of a pack: records of a few samples each, decoded by threads, written whole or not at all."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from jaxtyping import Float64

from data.dataset import DataError, DatasetSpec, Triplet
from data.pack.stats import SUMS, sample_sums
from data.reading.decode import decode_triplet
from data.runtime.files import write_atomically
from data.runtime.progress import Progress

FIRST_SHARD = 128  # samples; small, so that something is ready at once and a short pack keeps all threads busy
LARGEST_SHARD = 2048
STEP = 32  # samples between two looks at the progress bar


@lru_cache
def record_type(px: int) -> np.dtype:
    """Layout of one packed sample; `np.load` of a shard shows its fields."""
    flag = ("mask_known", "<u2")  # 0 or 1; two bytes, so that the depth of the next sample stays aligned
    return np.dtype([("image", "u1", (px, px, 3)), ("mask", "u1", (px, px)), ("depth", "<u2", (px, px)), flag])


def shard_bounds(total: int) -> list[tuple[int, int]]:
    """First and past-the-last sample of each shard: two of each size, doubling up to the largest."""
    bounds: list[tuple[int, int]] = []
    start = 0
    while start < total:
        size = min(FIRST_SHARD * 2 ** (len(bounds) // 2), LARGEST_SHARD)
        bounds.append((start, min(start + size, total)))
        start += size
    return bounds


def shard_path(folder: Path, start: int) -> Path:
    """Records of the shard whose first sample is `start`; where it exists, the shard is complete."""
    return folder / f"{start:07d}.npy"


def sums_path(folder: Path, start: int) -> Path:
    """What the statistics add up, sample by sample."""
    return folder / f"{start:07d}.sums.npy"


def faults_path(folder: Path, start: int) -> Path:
    """Triplets of the shard that cannot be used, `{"row": [kind, message]}`; no such file where all can."""
    return folder / f"{start:07d}.faults.json"


def read_faults(folder: Path) -> dict[int, tuple[str, str]]:
    """Kind and message of every triplet of a pack that was found unusable so far, by its place in nested order."""
    found: dict[int, tuple[str, str]] = {}
    for path in sorted(folder.glob("*.faults.json")):
        start = int(path.name.partition(".")[0])
        told = json.loads(path.read_text(encoding="utf-8"))
        found |= {start + int(row): (kind, message) for row, (kind, message) in told.items()}
    return found


@dataclass(frozen=True)
class PackJob:
    """What the shards of one pack are made of and where they go.

    Attributes:
        folder: Exists already.
        triplets: The whole split in nested order.
        specs: Meaning of the depth values of each triplet, by its id.
        px: Side in pixels.
    """

    folder: Path
    triplets: Sequence[Triplet]
    specs: Mapping[str, DatasetSpec]
    px: int


def fill(job: PackJob, wanted: int, *, deadline: float | None, workers: int, progress: Progress | None) -> int:
    """Make those shards that are not there yet and that the first `wanted` usable samples are in.

    Args:
        job: The pack.
        wanted: Usable samples to have, from the first.
        deadline: `time.monotonic()` after which decoding stops, except in the first shard.
        workers: Threads.
        progress: Called with (triplets decoded, triplets to decode), from one thread at a time.

    Returns:
        Usable samples ready from the first without a gap; may pass `wanted` by part of a shard.

    Raises:
        DataError: A file that the system does not let be read.
        OSError: The folder cannot be written to.
    """
    upto = wanted  # places in nested order; more where some cannot be used
    while True:
        ready = _fill_places(job, upto, deadline=deadline, workers=workers, progress=progress)
        usable = ready - sum(place < ready for place in read_faults(job.folder))
        if usable >= wanted or ready < upto or ready == len(job.triplets):
            return usable
        upto = ready + wanted - usable


def _fill_places(job: PackJob, wanted: int, *, deadline: float | None, workers: int, progress: Progress | None) -> int:
    """Make the shards of the first `wanted` places; how many places are ready without a gap."""
    bounds = [bound for bound in shard_bounds(len(job.triplets)) if bound[0] < wanted]
    missing = [bound for bound in bounds if not shard_path(job.folder, bound[0]).exists()]
    if missing:
        there = bounds[-1][1] - sum(stop - start for start, stop in missing)
        _decode_all(job, missing, deadline, workers, _Counter(there, bounds[-1][1], wanted, progress))
    ready = 0
    for start, stop in bounds:
        if not shard_path(job.folder, start).exists():
            break
        ready = stop
    return ready


def _decode_all(
    job: PackJob,
    missing: Sequence[tuple[int, int]],
    deadline: float | None,
    workers: int,
    counter: "_Counter",
) -> None:
    cv2.setNumThreads(1)  # the threads below are the parallelism
    failed = threading.Event()

    def halted(start: int) -> bool:
        late = deadline is not None and start > 0 and time.monotonic() > deadline
        return late or failed.is_set()

    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="pack") as pool:
        futures = [pool.submit(_write_shard, job, bound, halted, counter) for bound in missing]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            failed.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _write_shard(job: PackJob, bound: tuple[int, int], halted: Callable[[int], bool], counter: "_Counter") -> None:
    """Decode a shard, sums and faults first, so that the records' name appears when all is there.

    A triplet that cannot be used keeps its place, empty: whoever reads the shard knows from its faults to pass it over.
    """
    start, stop = bound
    sums = np.zeros((stop - start, SUMS))
    faults: dict[int, tuple[str, str]] = {}
    record = np.zeros((), record_type(job.px))

    def write(file: BinaryIO) -> None:
        _write_header(file, record.dtype, stop - start)
        for row, triplet in enumerate(job.triplets[start:stop]):
            if halted(start):
                raise _HaltedError
            try:
                sums[row] = _decode_into(record, triplet, job)
                file.write(record.tobytes())
            except DataError as error:
                if not error.kind:  # the disk's fault, not the triplet's: it may be mended without a trace
                    raise
                faults[row] = (error.kind, str(error))
                file.write(bytes(record.nbytes))
            counter.add_one()
        write_atomically(sums_path(job.folder, start), lambda beside: np.save(beside, sums))
        if faults:
            write_atomically(faults_path(job.folder, start), lambda beside: beside.write(json.dumps(faults).encode()))

    with contextlib.suppress(_HaltedError):
        write_atomically(shard_path(job.folder, start), write)


def _decode_into(record: np.ndarray, triplet: Triplet, job: PackJob) -> Float64[np.ndarray, "12"]:
    """Fill a record; what the statistics add up of it."""
    image, mask, depth = decode_triplet(triplet, job.specs[triplet.id], job.px)
    record["image"], record["mask"], record["depth"] = image, mask, depth
    record["mask_known"] = triplet.mask is not None
    return sample_sums(image, mask, depth, mask_known=triplet.mask is not None)


def _write_header(file: BinaryIO, dtype: np.dtype, length: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)


class _HaltedError(Exception):
    """Out of time, or another shard failed."""


class _Counter:
    """Counts decoded samples over all threads and tells `progress` now and then."""

    def __init__(self, there: int, total: int, wanted: int, progress: Progress | None) -> None:
        self._count, self._total, self._wanted, self._progress = there, total, wanted, progress
        self._lock = threading.Lock()

    def add_one(self) -> None:
        with self._lock:
            self._count += 1
            if self._progress and (self._count % STEP == 0 or self._count == self._total):
                self._progress(min(self._count, self._wanted), self._wanted)
