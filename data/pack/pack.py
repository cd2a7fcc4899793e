"""Pack a split: decode its triplets once per size into files that every process maps into memory.

A pack is a folder of shards in nested order, so that a pack of the first n samples can be extended later.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt16

from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.pack.shards import (
    PackJob,
    build_record_type,
    build_shard_path,
    has_ignored_values,
    is_intact,
    list_shard_bounds,
    read_faults,
    write_shards,
)
from data.pack.stats import Stats, compute_stats
from data.runtime.files import explain_write_errors, find_cache_folder, write_atomically
from data.runtime.progress import Progress, no_progress
from data.runtime.storage import StorageError, fetch_cached, join, publish_cached
from data.values.triplet import resolve_specs

PACKS = "packs"  # folder of the cache
FORMAT = "4"  # raised whenever the same files would give other arrays


@dataclass(frozen=True)
class RawBatch:
    """Samples as packed."""

    image: UInt8[np.ndarray, "b px px 3"]  # RGB
    mask: UInt8[np.ndarray, "b px px"]  # 0..255; 0 where unknown
    depth: UInt16[np.ndarray, "b px px"]  # codes: 0 = unknown, 1 (far) to 65535 (near)
    mask_known: Bool[np.ndarray, " b"]  # True for samples with a mask
    mask_valid: Bool[np.ndarray, "b px px"] | None = None  # True for known pixels; None if no mask has unknown pixels

    def __len__(self) -> int:
        return len(self.image)


class Pack:
    """Read-only samples of a split at one size, in nested order; processes of one machine share the mapped files.

    `skipped` are the positions of triplets that cannot be used, None to read them from the folder. They are pickled,
    because another machine may not see them on a network disk yet; that machine fetches missing files from the URI
    `source`.
    """

    def __init__(
        self, folder: Path, count: int, skipped: Sequence[int] | None = None, source: str | None = None
    ) -> None:
        self.folder, self.count, self.source = folder, count, source
        self.skipped = tuple(sorted(read_faults(folder)) if skipped is None else skipped)
        content = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        self.px: int = content["px"]
        self._record = build_record_type(self.px, ignored=content["ignored"])
        self._bounds = list_shard_bounds(content["total"])
        self._stops = np.array([stop for _, stop in self._bounds])
        self._usable = np.delete(np.arange(content["total"]), list(self.skipped))
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.count

    @property
    def record_bytes(self) -> int:
        """Bytes of one sample."""
        return self._record.itemsize

    def __reduce__(self) -> tuple[Callable[..., "Pack"], tuple[Any, ...]]:
        if self.source is None:
            return Pack, (self.folder, self.count, self.skipped)
        return _fetch_pack, (self.folder.name, self._list_shards(), self.count, self.skipped, self.source)

    def publish(self, storage: str, progress: Progress = no_progress) -> "Pack":
        """Upload to a storage the files that it lacks, and return a pack that other machines fetch from there."""
        publish_cached(storage, _list_names(self.folder.name, self._list_shards()), progress)
        return Pack(self.folder, self.count, self.skipped, storage)

    def prefix(self, count: int) -> "Pack":
        """Return a pack of the first `count` samples; raise ValueError if `count` is not within 1..len(self)."""
        if not 1 <= count <= self.count:
            raise ValueError(f"count is {count}; this pack holds 1 to {self.count}")
        return Pack(self.folder, count, self.skipped, self.source)

    @property
    def ids(self) -> tuple[str, ...]:
        """Sample ids in nested order."""
        ids = self._read_ids()
        return tuple(ids[position] for position in self._usable[: self.count])

    @cached_property
    def stats(self) -> Stats:
        """Statistics over exactly the samples of this pack."""
        paths = [build_shard_path(self.folder, start, ".sums.npy") for start in self._list_shards()]
        return compute_stats(np.concatenate([np.load(path) for path in paths])[self._usable[: self.count]])

    @property
    def faults(self) -> dict[str, tuple[str, str]]:
        """Kind and message of the decoded triplets that cannot be used, by id."""
        found = read_faults(self.folder)
        ids = self._read_ids() if found else ()
        return {ids[position]: fault for position, fault in found.items()}

    @property
    def decoded(self) -> int:
        """Number of triplets decoded so far, including those that cannot be used."""
        return sum(stop - start for start, stop in self._bounds if build_shard_path(self.folder, start).exists())

    def gather(self, indices: Int[np.ndarray, " b"]) -> RawBatch:
        """Copy samples at positions in nested order; raise IndexError for a position outside the pack."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.count:
            raise IndexError(f"positions {indices.min()}..{indices.max()} outside a pack of {self.count}")
        positions = self._usable[indices]
        shards = np.searchsorted(self._stops, positions, side="right")
        records = np.empty(len(indices), self._record)
        for shard in np.unique(shards):
            chosen = shards == shard
            records[chosen] = self._map(int(shard))[positions[chosen] - self._bounds[shard][0]]
        valid = records["mask_valid"] != 0 if "mask_valid" in (self._record.names or ()) else None
        return RawBatch(records["image"], records["mask"], records["depth"], records["mask_known"] != 0, valid)

    def _list_shards(self) -> list[int]:
        """Return the positions at which the shards of this pack start."""
        return [start for start, _ in self._bounds if start <= self._usable[self.count - 1]]

    def _read_ids(self) -> Sequence[str]:
        """Return the ids of all triplets in nested order, including those that cannot be used."""
        ids: list[str] = json.loads((self.folder / "ids.json").read_text(encoding="utf-8"))
        return ids

    def _map(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            path = build_shard_path(self.folder, self._bounds[shard][0])
            self._maps[shard] = np.asarray(np.load(path, mmap_mode="r"))
        return self._maps[shard]


def _list_names(name: str, shards: Sequence[int]) -> list[str]:
    """Return the files of a pack, without the faults, as they are named in the cache."""
    suffixes = (".check.json", ".sums.npy", ".npy")
    files = [build_shard_path(Path(), start, suffix).name for start in shards for suffix in suffixes]
    return [f"{PACKS}/{name}/{file}" for file in ("pack.json", "ids.json", *files)]


def _fetch_pack(name: str, shards: Sequence[int], count: int, skipped: Sequence[int], source: str) -> Pack:
    """Return a pack in this machine's cache; files that are missing there are downloaded and checked."""
    folder = find_cache_folder() / PACKS / name
    if fetch_cached(source, _list_names(name, shards)):
        damaged = [start for start in shards if not is_intact(folder, start)]
        if damaged:
            raise StorageError(f"{join(source, PACKS, name)}: {len(damaged)} shards are damaged; delete that folder")
    return Pack(folder, count, skipped, source)


def pack_split(
    dataset: Dataset,
    triplets: Sequence[Triplet],
    px: int,
    *,
    cache: Path,
    count: int | None = None,
    deadline: float | None = None,
    workers: int = 1,
    progress: Progress = no_progress,
) -> Pack:
    """Decode a split, or its first `count` samples, into a pack; shards that exist already are not decoded again.

    `triplets` are the whole split in nested order, even if `count` is smaller. Decoding stops at the `deadline`, a
    value of time.monotonic(), but never before the first shard; the pack then has fewer samples.
    """
    if not triplets:
        raise DataError(f"{dataset.root}: no triplets to pack; check the split column of manifest.csv")
    wanted = len(triplets) if count is None else min(count, len(triplets))
    specs = resolve_specs(dataset)
    digest = hashlib.blake2b(f"{FORMAT} {dataset.fingerprint} {specs}".encode(), digest_size=12)
    digest.update("\n".join(triplet.id for triplet in triplets).encode())
    folder = cache / PACKS / f"{digest.hexdigest()}-{px}px"  # everything that the arrays depend on
    spec_of = {t.id: spec for part, spec in zip(dataset.folders, specs, strict=True) for t in part.triplets}
    job = PackJob(folder, triplets, spec_of, px, deadline, workers, progress)
    with explain_write_errors(folder, "free some space or set ONE_LOOK_CACHE"):
        _write_description(job, specs)
        ready = write_shards(job, wanted)
    if not ready:
        decoded, first = Pack(folder, 0).decoded, next(iter(read_faults(folder).values()))[1]
        raise DataError(f"none of the {decoded} triplets decoded can be used; the first: {first}")
    return Pack(folder, min(wanted, ready))


def _write_description(job: PackJob, specs: Sequence[DatasetSpec]) -> None:
    """Write the ids and the description that `Pack` reads, unless they exist."""
    path = job.folder / "pack.json"
    if path.exists():
        return
    job.folder.mkdir(parents=True, exist_ok=True)
    ids = json.dumps([triplet.id for triplet in job.triplets])
    content = {"px": job.px, "total": len(job.triplets), "ignored": has_ignored_values(specs)}
    description = json.dumps(content | {"specs": [*map(asdict, specs)]}, indent=1)
    write_atomically(job.folder / "ids.json", lambda file: file.write(ids.encode()), durable=True)
    write_atomically(path, lambda file: file.write(description.encode()), durable=True)
