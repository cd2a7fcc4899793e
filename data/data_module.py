"""What each stage trains on: the folder read, split by background and packed, as much as the clock allows.

Triplets that cannot be used are left out and counted, by the search as by `python -m data.check`.
"""

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data.dataset import FAULT_KINDS, DataError
from data.pack.pack import Pack, pack_split
from data.pack.stats import Stats
from data.reading.dataset_json import join_folders
from data.reading.decode import find_common_scale
from data.reading.depth import DepthScale
from data.reading.layout import read_dataset
from data.reading.splits import SPLITS, take_subset
from data.runtime.files import cache_dir
from data.runtime.progress import ShowProgress, progress_bar

VAL_LEAST, VAL_MOST = 96, 2000
MOST_BAD = 0.1  # of the triplets looked at: with more of them something is wrong with all
NAMED = 20  # of the triplets left out
VAL_SHARE = 0.5  # of the training images of the stage: measuring must not cost more than training


@dataclass(frozen=True, kw_only=True)
class StageData:
    """What a trial sees: packed arrays and what is known of them.

    Attributes:
        train: Training samples in nested order.
        val: Validation samples, of other backgrounds.
        stats: Mean and deviation of the data set; normalises the images.
        sigma: Standard deviation of the validation depth, the yardstick of the score.
    """

    train: Pack
    val: Pack
    stats: Stats
    sigma: float


class DataModule:
    """A data set ready to be handed out stage by stage.

    Attributes:
        first: What the first stage was given; its statistics and sigma hold for the whole run.
        show: What shows how far reading and packing have come.
        allow_bad: Whether a run may begin with more than a tenth of the triplets left out.

    Args:
        root: Data set folder.
        seed: Which backgrounds are held out.
        split: "background", or "random" as the original study split, which leaks.
        allow_bad: As the attribute.

    Raises:
        DataError: The folder cannot be used; the message says why.
    """

    def __init__(self, root: Path, *, seed: int, split: str = "background", allow_bad: bool = False) -> None:
        self.first: StageData | None = None
        self.allow_bad = allow_bad
        self._looked_at: Counter[str] = Counter()
        self._faults: dict[str, tuple[str, str]] = {}
        self.show: ShowProgress = progress_bar
        with self.show(f"reading {root}"):
            self.dataset = read_dataset(root)
        self._looked_at["names"] = len(self.dataset.unusable)
        self._faults |= {one.message: (one.kind, one.message) for one in self.dataset.unusable}
        self.split, self.splits = split, SPLITS[split](self.dataset, seed=seed)

    def check_same(self, fingerprint: str) -> None:
        """Raise DataError unless the data are those that a run began with."""
        if self.dataset.fingerprint != fingerprint:
            raise DataError(f"{self.dataset.root}: has changed since the run began; start a new run")

    def stage_data(
        self, *, fraction: float, px: int, most: int | None = None, deadline: float | None = None
    ) -> StageData:
        """Return training and validation packs of a stage; statistics and sigma are those of the first stage asked for.

        Args:
            fraction: Part of the training images, in (0, 1].
            px: Side of the square images in pixels.
            most: Training images at the most, however many the fraction gives.
            deadline: Seconds since the epoch after which no further image is packed; some always are.
        """
        train = self.pack("train", px, count=self.stage_sizes(fraction, most)[0], deadline=deadline)
        val = self.pack("val", px, count=self.stage_sizes(fraction, len(train))[1], deadline=deadline)
        return self._measured(train, val)

    def stage_sizes(self, fraction: float, most: int | None = None) -> tuple[int, int]:
        """Return the numbers of training and validation images of a stage, with at most `most` training images."""
        train = len(take_subset(self.splits.train, fraction))
        train = train if most is None else min(train, most)
        return train, min(max(VAL_LEAST, int(VAL_SHARE * train)), VAL_MOST, len(self.splits.val))

    def recorded_data(self, px: int, train_images: int, val_images: int) -> StageData:
        """Return packs of sizes that are on record, as `stage_data` returned them to an earlier run."""
        return self._measured(self.pack("train", px, count=train_images), self.pack("val", px, count=val_images))

    def _measured(self, train: Pack, val: Pack) -> StageData:
        if self.first is None:
            self.first = StageData(train=train, val=val, stats=train.stats, sigma=val.stats.depth_std or 1.0)
        return StageData(train=train, val=val, stats=self.first.stats, sigma=self.first.sigma)

    def pack(self, split: str, px: int, *, count: int | None = None, deadline: float | None = None) -> Pack:
        """Return the first `count` samples of a split at `px`, packed now where they are not yet."""
        until = None if deadline is None else time.monotonic() + max(deadline - time.time(), 0.0)
        with self.show(f"packing {split} at {px} px") as progress:
            pack = pack_split(
                self.dataset,
                getattr(self.splits, split),
                px,
                cache=cache_dir(),
                count=count,
                deadline=until,
                workers=os.cpu_count() or 1,
                progress=progress,
            )
        self.count_left_out(split, pack)
        return pack

    def count_left_out(self, split: str, pack: Pack) -> None:
        """Take note of what could not be used of a split."""
        self._looked_at[split] = max(self._looked_at[split], pack.decoded)  # as many at any size, or fewer
        self._faults |= pack.faults

    def prepare_data(self, px: int, *, deadline: float | None = None) -> None:
        """Decode every triplet at `px`, as far as the clock allows: what is bad is found before anything starts.

        Raises:
            DataError: More than a tenth of the triplets cannot be used, and nobody said that this is allowed.
        """
        for split, size in self.sizes().items():
            if size:
                self.pack(split, px, deadline=deadline)
        self.check_left_out()

    def check_left_out(self) -> None:
        """Refuse data of which too much is left out.

        Raises:
            DataError: More than a tenth of what was looked at cannot be used, and nobody said that this is allowed.
        """
        if len(self._faults) > MOST_BAD * self._looked_at.total() and not self.allow_bad:
            message = f"{self.dataset.root}: {self.what_was_left_out()}; see python -m data.check, or search"
            raise DataError(f"{message} on the others with --allow-bad")

    def left_out(self) -> dict[str, Any]:
        """Return what was left out of what was looked at, as run.json has it: numbers, reasons, the first of them."""
        reasons = Counter(FAULT_KINDS[kind] for kind, _ in self._faults.values())
        named = [message for _, message in self._faults.values()][:NAMED]
        return {"of": self._looked_at.total(), "triplets": len(self._faults), "reasons": dict(reasons), "first": named}

    def what_was_left_out(self) -> str:
        """Return the same as a sentence; "" where nothing was."""
        told = self.left_out()
        if not told["triplets"]:
            return ""
        reasons = ", ".join(f"{words}: {count}" for words, count in told["reasons"].items())
        share = f"{told['triplets']:,} of {told['of']:,} triplets"
        return f"{share} cannot be used ({reasons}); the first: {told['first'][0]}"

    @cached_property
    def scale(self) -> DepthScale | None:
        """What the depth means in metres, if it is on one scale."""
        return find_common_scale(self.dataset)

    def sizes(self) -> dict[str, int]:
        """Return the number of triplets of each split."""
        return {name: len(getattr(self.splits, name)) for name in ("train", "val", "test")}

    def facts(self) -> dict[str, Any]:
        """Return what run.json says of the data, from which `load_data_module` finds them again."""
        dataset = self.dataset
        joined = {"folders": [str(part.root.resolve()) for part in dataset.parts]} if dataset.parts else {}
        told = {"folder": str(dataset.root.resolve()), "fingerprint": dataset.fingerprint, "split": self.split}
        return told | joined | self.sizes() | {"left_out": self.left_out()}


def load_data_module(notes: Mapping[str, Any]) -> DataModule:
    """Return the data of a run, as its run.json names them; a join that is gone from the cache is made anew.

    Args:
        notes: Content of run.json, of which `data` and `seed` are read.

    Raises:
        DataError: They are not named, cannot be read, or are not what they were.
    """
    about = notes.get("data", {})
    if "seed" not in notes or not {"folder", "fingerprint", "split"} <= about.keys():
        raise DataError("run.json does not say what the run was trained on; name the folder of a run that has begun")
    root, folders = Path(about["folder"]), [Path(folder) for folder in about.get("folders", ())]
    if folders and not (root / "dataset.json").exists():
        root = join_folders(folders, cache_dir())
    supply = DataModule(root, seed=notes["seed"], split=about["split"], allow_bad=True)  # a run that has begun goes on
    supply.check_same(about["fingerprint"])
    return supply
