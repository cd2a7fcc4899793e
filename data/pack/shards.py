"""Write and locate the shards of a pack: records of a few samples each, decoded by threads."""

import contextlib
import itertools
import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from jaxtyping import Float64

from data.dataset import DataError, DatasetSpec, Triplet
from data.pack.stats import SUMS, compute_sums
from data.runtime.files import sync, write_atomically
from data.runtime.progress import Progress
from data.values.triplet import decode_triplet

FIRST_SHARD = 128  # samples; small, so that training can start early and a short pack keeps all threads busy
LARGEST_SHARD = 2048
STEP = 32  # samples between two updates of the progress


@lru_cache
def build_record_type(px: int, *, ignored: bool = False) -> np.dtype:
    """Return the record of one packed sample; with `ignored`, it also marks which pixels of the mask are known."""
    flag = ("mask_known", "<u2")  # 0 or 1; two bytes, so that the depth of the next sample stays aligned
    fields = [("image", "u1", (px, px, 3)), ("mask", "u1", (px, px)), ("depth", "<u2", (px, px)), flag]
    return np.dtype([*fields, ("mask_valid", "u1", (px, px))] if ignored else fields)


def has_ignored_values(specs: Iterable[DatasetSpec]) -> bool:
    """Return True if masks may have pixels that are ignored."""
    return any(spec.mask_values is not None and spec.mask_values.ignored for spec in specs)


def list_shard_bounds(total: int) -> list[tuple[int, int]]:
    """Return (start, stop) of each shard: two shards of each size, doubling up to the largest."""
    bounds: list[tuple[int, int]] = []
    start = 0
    while start < total:
        size = min(FIRST_SHARD * 2 ** (len(bounds) // 2), LARGEST_SHARD)
        bounds.append((start, min(start + size, total)))
        start += size
    return bounds


def build_shard_path(folder: Path, start: int, suffix: str = ".npy") -> Path:
    """Return the path of a file of the shard that starts at a position in nested order.

    Suffixes are ".npy" (records, written last), ".sums.npy" (sums of each sample), ".faults.json" (unusable triplets as
    `{"row": [kind, message]}`, if there are any) and ".check.json" (checksums of the first two).
    """
    return folder / f"{start:07d}{suffix}"


def read_faults(folder: Path) -> dict[int, tuple[str, str]]:
    """Return kind and message of the triplets of a pack found unusable so far, by position in nested order."""
    found: dict[int, tuple[str, str]] = {}
    for path in sorted(folder.glob("*.faults.json")):
        start = int(path.name.partition(".")[0])
        faults = json.loads(path.read_text(encoding="utf-8"))
        found |= {start + int(row): (kind, message) for row, (kind, message) in faults.items()}
    return found


@dataclass(frozen=True)
class PackJob:
    """Decoding of one pack, with the arguments of `pack_split`."""

    folder: Path
    triplets: Sequence[Triplet]  # the whole split in nested order
    specs: Mapping[str, DatasetSpec]  # by id of the triplet
    px: int
    deadline: float | None
    workers: int
    progress: Progress


def write_shards(job: PackJob, wanted: int) -> int:
    """Write the missing shards of the first `wanted` usable samples; return how many are ready without a gap."""
    upto = wanted  # positions in nested order; more than `wanted` if some cannot be used
    while True:
        ready = _write_prefix(job, upto)
        usable = ready - sum(position < ready for position in read_faults(job.folder))
        if usable >= wanted or ready < upto or ready == len(job.triplets):
            return usable
        upto = ready + wanted - usable


def _write_prefix(job: PackJob, wanted: int) -> int:
    """Write the shards of the first `wanted` positions; return how many positions are ready without a gap."""
    bounds = [bound for bound in list_shard_bounds(len(job.triplets)) if bound[0] < wanted]
    missing = [bound for bound in bounds if not is_intact(job.folder, bound[0])]
    if missing:
        _decode_all(job, missing, _make_counter(job, missing, bounds[-1][1], wanted))
    complete = itertools.takewhile(lambda bound: build_shard_path(job.folder, bound[0]).exists(), bounds)
    return max((stop for _, stop in complete), default=0)


def is_intact(folder: Path, start: int) -> bool:
    """Return whether a shard exists and is unchanged; if it is damaged, report it on stderr and delete it.

    The checksum is computed only if the file's time or the boot of the machine changed: a large pack takes minutes.
    """
    path, check = build_shard_path(folder, start), build_shard_path(folder, start, ".check.json")
    if not path.exists():
        return False
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        recorded, now = json.loads(check.read_text(encoding="utf-8")), _describe_state(path.stat())
        if recorded["state"] == now:
            return True
        sums = build_shard_path(folder, start, ".sums.npy")
        if recorded["state"][0] == now[0] and recorded["crc32"] == [_compute_crc32(path), _compute_crc32(sums)]:
            with contextlib.suppress(OSError):  # a cache that cannot be written to is checked each time
                _write_check(check, recorded["crc32"], now)
            return True
    print(f"{path}: damaged; packed again", file=sys.stderr)
    path.unlink()
    return False


def _describe_state(stat: os.stat_result) -> list[int | str]:
    """Return size and time of a file, and the id of this boot of the machine, on Linux."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return [stat.st_size, stat.st_mtime_ns, boot.read_text().strip() if boot.exists() else time.time_ns()]


def _compute_crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _write_check(path: Path, crc32: list[int], state: list[int | str]) -> None:
    content = json.dumps({"crc32": crc32, "state": state}).encode()
    write_atomically(path, lambda file: file.write(content), durable=True)


def _make_counter(job: PackJob, missing: Sequence[tuple[int, int]], total: int, wanted: int) -> Callable[[], None]:
    """Return a function that counts a decoded sample, in any thread, and reports the progress every STEP samples."""
    lock, counts = threading.Lock(), itertools.count(total - sum(stop - start for start, stop in missing) + 1)

    def count() -> None:
        with lock:
            done = next(counts)
            if done % STEP == 0 or done == total:
                job.progress(min(done, wanted), wanted)

    return count


def _decode_all(job: PackJob, missing: Sequence[tuple[int, int]], count: Callable[[], None]) -> None:
    cv2.setNumThreads(1)  # the pool below uses all cores
    failed = threading.Event()

    def halted(start: int) -> bool:
        late = job.deadline is not None and start > 0 and time.monotonic() > job.deadline
        return late or failed.is_set()

    with ThreadPoolExecutor(max(1, job.workers), thread_name_prefix="pack") as pool:
        futures = [pool.submit(_write_shard, job, bound, halted, count) for bound in missing]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            failed.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _write_shard(
    job: PackJob, bound: tuple[int, int], halted: Callable[[int], bool], count: Callable[[], None]
) -> None:
    """Decode a shard; its records are renamed last. A triplet that cannot be used is a fault and an empty record."""
    start, stop = bound
    sums = np.zeros((stop - start, SUMS))
    faults: dict[int, tuple[str, str]] = {}
    record = np.zeros((), build_record_type(job.px, ignored=has_ignored_values(job.specs.values())))

    def write(file: BinaryIO) -> None:
        descr = np.lib.format.dtype_to_descr(record.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (stop - start,)}
        np.lib.format.write_array_header_1_0(file, header)
        for row, triplet in enumerate(job.triplets[start:stop]):
            if halted(start):
                raise _HaltedError
            try:
                sums[row] = _decode_into(record, triplet, job)
                file.write(record.tobytes())
            except DataError as error:
                if not error.kind:  # the disk is at fault, not the triplet: a later attempt may succeed
                    raise
                faults[row] = (error.kind, str(error))
                file.write(bytes(record.nbytes))
            count()
        sums_path = build_shard_path(job.folder, start, ".sums.npy")
        write_atomically(sums_path, lambda beside: np.save(beside, sums), durable=True)
        path, content = build_shard_path(job.folder, start, ".faults.json"), json.dumps(faults).encode()
        if faults:
            write_atomically(path, lambda beside: beside.write(content), durable=True)
        else:
            path.unlink(missing_ok=True)  # left by a damaged shard
        sync(file)
        check, state = build_shard_path(job.folder, start, ".check.json"), _describe_state(os.fstat(file.fileno()))
        _write_check(check, [_compute_crc32(Path(file.name)), _compute_crc32(sums_path)], state)

    with contextlib.suppress(_HaltedError):
        write_atomically(build_shard_path(job.folder, start), write)


def _decode_into(record: np.ndarray, triplet: Triplet, job: PackJob) -> Float64[np.ndarray, "12"]:
    """Fill a record and return its sums for the statistics."""
    image, mask, depth, mask_valid = decode_triplet(triplet, job.specs[triplet.id], job.px)
    record["image"], record["mask"], record["depth"] = image, mask, depth
    record["mask_known"] = mask_valid.any()
    if "mask_valid" in (record.dtype.names or ()):
        record["mask_valid"] = mask_valid
    return compute_sums(image, mask, depth, mask_known=float(mask_valid.mean()))


class _HaltedError(Exception):
    """The deadline has passed or another shard failed."""
