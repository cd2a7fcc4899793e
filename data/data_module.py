"""Provide the data of each stage: read a folder, split it by background, pack as much as the time allows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from data.dataset import FAULT_KINDS, DataError, Dataset, DatasetSpec
from data.pack.pack import Pack, pack_split
from data.pack.stats import Stats
from data.reading.dataset_json import join_folders
from data.reading.folders import NO_ROLES, resolve_roles
from data.reading.layout import read_dataset
from data.reading.split_warnings import list_split_warnings
from data.reading.splits import SPLITS, has_split_column
from data.runtime.files import find_cache_folder
from data.runtime.process import count_cores
from data.runtime.progress import Progress, ShowProgress, progress_bar
from data.values.depth import DepthScale
from data.values.triplet import find_common_scale
from models.score import DEFAULT_WEIGHTS, Score, find_tasks

MIN_TRAIN = 160  # least number of images of a stage, if there are that many: five batches of 32
MIN_VAL, MAX_VAL = 96, 2000
VAL_SHARE = 0.5  # share of the stage's training images: validation must not take longer than training
MAX_LEFT_OUT = 0.1  # share of the decoded triplets above which the whole data set is suspect
MAX_NAMED = 20  # messages of left-out triplets in run.json


@dataclass(frozen=True, kw_only=True)
class StageData:
    """Training and validation samples of one stage."""

    train: Pack
    val: Pack
    stats: Stats  # mean and std of the first stage's training data; they normalise the images
    score: Score  # ranks the trials; its sigma is the std of the first stage's validation depth

    def publish(self, storage: str, progress: Progress) -> "StageData":
        """Upload to a storage the files that it lacks, and return data that other machines fetch from there."""
        return replace(self, train=self.train.publish(storage, progress), val=self.val.publish(storage, progress))


class LeftOut:
    """The triplets of a data set that cannot be used, out of those decoded so far."""

    def __init__(self, dataset: Dataset) -> None:
        self._decoded = Counter(names=len(dataset.unusable))
        self._faults = {one.message: (one.kind, one.message) for one in dataset.unusable}
        self._by_name, self._usable = len(self._faults), len(dataset.triplets)

    def add(self, split: str, pack: Pack) -> None:
        """Count the triplets of a pack; a smaller pack of the same split adds none."""
        self._decoded[split] = max(self._decoded[split], pack.decoded)
        self._faults |= pack.faults

    def to_dict(self) -> dict[str, Any]:
        """Return counts, reasons and the first messages, as stored in run.json."""
        reasons = Counter(FAULT_KINDS[kind] for kind, _ in self._faults.values())
        messages = [message for _, message in self._faults.values()][:MAX_NAMED]
        counts = {"of": self._decoded.total(), "triplets": len(self._faults)}
        return counts | {"reasons": dict(reasons), "first": messages}

    def describe(self) -> str:
        """Return counts, reasons and the first message as a sentence, "" if nothing is left out."""
        values = self.to_dict()
        if not values["triplets"]:
            return ""
        reasons = ", ".join(f"{reason}: {count}" for reason, count in values["reasons"].items())
        share = f"{values['triplets']:,} of {values['of']:,} triplets"
        return f"{share} cannot be used ({reasons}); the first: {values['first'][0]}"

    @property
    def too_many(self) -> bool:
        """True if more than a tenth is left out, extrapolated from the triplets decoded so far."""
        decoded = self._decoded.total() - self._decoded["names"]
        faulty = self._by_name + (len(self._faults) - self._by_name) * self._usable / max(decoded, 1)
        return faulty > MAX_LEFT_OUT * (self._decoded["names"] + self._usable)


class DataModule:
    """A data set that is read, split and packed stage by stage.

    The seed selects the backgrounds that are held out; `split` is a key of SPLITS. With `allow_bad` more than a tenth
    of the triplets may be left out. For `roles`, `fields` and `specs` see `read_dataset`; `weights` are the weights of
    the score.
    """

    def __init__(
        self,
        root: Path,
        *,
        seed: int,
        split: str = "background",
        allow_bad: bool = False,
        roles: Mapping[str, str] = NO_ROLES,
        fields: Mapping[str, Any] | None = None,
        specs: Sequence[DatasetSpec] | None = None,
        weights: Mapping[str, float] = DEFAULT_WEIGHTS,
    ) -> None:
        self.split, self.allow_bad, self.weights = split, allow_bad, weights
        self.reference: StageData | None = None  # its statistics and score are those of the whole run
        self.show: ShowProgress = progress_bar
        with self.show(f"reading {root}"):
            self.roles = resolve_roles(root, roles)
            self.dataset = read_dataset(root, roles=self.roles, fields=fields, specs=specs)
        self.dataset.check_meaning()
        self.left_out = LeftOut(self.dataset)
        self.splits = SPLITS[split](self.dataset, seed=seed)
        self._check_weights()

    def _check_weights(self) -> None:
        """Raise DataError if no triplet of a split has the labels of any metric that counts in the score."""
        needed, counted = find_tasks(self.weights), " and ".join(self.weights)
        for name, triplets in self.splits.by_name().items():
            if triplets and not any(getattr(triplet, task) for triplet in triplets for task in needed):
                problem = f"no image of the {name} split has a {' or '.join(sorted(needed))}"
                raise DataError(f"{self.dataset.label}: {problem}, and [score] counts {counted} alone")

    def prepare_data(self, px: int, *, deadline: float | None = None) -> None:
        """Decode the triplets at `px`, as many as time allows, to find faults early; see `check_left_out`."""
        for split, size in self.sizes().items():
            if size:
                self.pack(split, px, deadline=deadline)
        self.check_left_out()

    def check_left_out(self) -> None:
        """Raise DataError if more than a tenth of the triplets is left out and `allow_bad` is not set."""
        if self.left_out.too_many and not self.allow_bad:
            message = f"{self.dataset.label}: {self.left_out.describe()}; run one-look check, or search"
            raise DataError(f"{message} without these triplets by adding --allow-bad")

    def load_stage_data(
        self, *, fraction: float, px: int, max_images: int | None = None, deadline: float | None = None
    ) -> StageData:
        """Return the packs of a stage that trains on a `fraction` of the images, in (0, 1], `max_images` at most.

        Packing stops at the `deadline`, a value of time.monotonic(), but never before the first shard.
        """
        count, _ = self.count_stage_images(fraction, max_images)
        train = self.pack("train", px, count=count, deadline=deadline)
        _, val_count = self.count_stage_images(fraction, len(train))
        val = self.pack("val", px, count=val_count, deadline=deadline)
        return self._build_stage_data(train, val)

    def count_stage_images(self, fraction: float, max_images: int | None = None) -> tuple[int, int]:
        """Return the numbers of training and validation images of a stage: at least MIN_TRAIN, at most `max_images`."""
        whole = len(self.splits.train)
        train = max(round(fraction * whole), min(MIN_TRAIN, whole))
        train = train if max_images is None else min(train, max_images)
        return train, min(max(MIN_VAL, int(VAL_SHARE * train)), MAX_VAL, len(self.splits.val))

    @property
    def split_by(self) -> str:
        """What separates the splits: "column" if the data set defines them, else the key of SPLITS."""
        return "column" if self.split == "background" and has_split_column(self.dataset) else self.split

    def list_warnings(self) -> list[str]:
        """Return the assumptions about the values, the triplets that are not used, and how reliable the scores are."""
        found = (*self.dataset.warnings, *([] if self.split == "random" else list_split_warnings(self.splits)))
        return list(dict.fromkeys(found))  # the warnings of a restored data set already contain those of its split

    def load_recorded_data(self, px: int, train_images: int, val_images: int) -> StageData:
        """Return packs of recorded sizes, equal to those that `load_stage_data` returned to an earlier process."""
        train, val = self.pack("train", px, count=train_images), self.pack("val", px, count=val_images)
        return self._build_stage_data(train, val)

    def _build_stage_data(self, train: Pack, val: Pack) -> StageData:
        if self.reference is None:
            _check_foreground(self.dataset.label, "training", train.stats)
            _check_foreground(self.dataset.label, "validation", val.stats)
            score = Score(sigma=val.stats.depth_std or 1.0, weights=self.weights)
            self.reference = StageData(train=train, val=val, stats=train.stats, score=score)
        return StageData(train=train, val=val, stats=self.reference.stats, score=self.reference.score)

    def pack(self, split: str, px: int, *, count: int | None = None, deadline: float | None = None) -> Pack:
        """Return the first `count` samples of a split at `px`; those not packed yet are packed now."""
        limits: dict[str, Any] = {"count": count, "deadline": deadline, "workers": count_cores()}
        with self.show(f"packing {split} at {px} px") as progress:
            triplets, cache = self.splits.by_name()[split], find_cache_folder()
            pack = pack_split(self.dataset, triplets, px, cache=cache, progress=progress, **limits)
        self.left_out.add(split, pack)
        return pack

    @cached_property
    def depth_scale(self) -> DepthScale | None:
        """Distances of the depth in metres; None if depth is only relative or joined folders differ."""
        return find_common_scale(self.dataset)

    def sizes(self) -> dict[str, int]:
        """Return the number of triplets of each split."""
        return self.splits.sizes()

    def describe(self) -> str:
        """Describe in one line how the data set is interpreted."""
        triplets, dataset = self.dataset.triplets, self.dataset
        source = f" of {len({triplet.background for triplet in triplets}):,} backgrounds"
        source = ", split as the data set defines it" if has_split_column(dataset) else source
        meaning = f"{dataset.description}; " if dataset.description else ""
        return f"{dataset.label}: {meaning}{len(triplets):,} images{source}"

    def to_dict(self) -> dict[str, Any]:
        """Return the `data` entry of run.json, from which `load_data_module` restores this object."""
        dataset = self.dataset
        joined = {"folders": [str(part.root.resolve()) for part in dataset.parts]} if dataset.parts else {}
        source = {"folder": str(dataset.root.resolve()), "fingerprint": dataset.fingerprint}
        source |= {"split": self.split, "split_by": self.split_by}
        named: dict[str, Any] = {"roles": self.roles} if self.roles else {}
        named |= {"mixed": self.splits.mixed} if self.splits.mixed else {}
        meaning = {"specs": [part.spec.to_dict() for part in dataset.folders], "meaning": dataset.description}
        faults = {"left_out": self.left_out.to_dict(), "warnings": self.list_warnings(), "score": self.weights}
        return source | joined | named | meaning | self.sizes() | faults


def _check_foreground(folder: str, name: str, stats: Stats) -> None:
    """Raise DataError if all known masks of a split are empty or all are full, so that no IoU can be measured."""
    if stats.mask_known and not stats.mask_std:
        kind = "full" if stats.mask_mean else "empty"
        problem = f"all masks of the {name} images looked at are {kind}"
        raise DataError(f"{folder}: {problem}; correct them, or their meaning by mask_values in dataset.json")


def load_data_module(run: Mapping[str, Any], moved_to: Sequence[Path] = ()) -> DataModule:
    """Return the data of a run from its run.json; the folders `moved_to`, if any, replace those in run.json."""
    about = run.get("data", {})
    if "seed" not in run or not {"folder", "fingerprint", "split", "specs"} <= about.keys():
        raise DataError("run.json does not record the training data; name the folder of a run that has begun")
    root, folders = Path(about["folder"]), [Path(folder) for folder in about.get("folders", ())]
    if moved_to:
        root, folders = moved_to[0], list(moved_to if len(moved_to) > 1 else ())
    if folders and (moved_to or not (root / "dataset.json").exists()):
        root = join_folders(folders, find_cache_folder())
    if not root.is_dir():
        raise DataError(f"{root}: the images of the run are not there; resume with --data and their new folder")
    meaning: dict[str, Any] = {"specs": [DatasetSpec.from_dict(spec) for spec in about["specs"]]}
    if len(meaning["specs"]) != max(1, len(folders)):
        raise DataError(f"{root}: has changed since the run began with {len(meaning['specs'])} folders; name them all")
    named: dict[str, Any] = {"split": about["split"], "roles": about.get("roles", {})}
    named["weights"] = about.get("score", DEFAULT_WEIGHTS)
    data_module = DataModule(root, seed=run["seed"], allow_bad=True, **named, **meaning)
    recorded = {"description": about.get("meaning", ""), "warnings": tuple(about.get("warnings", ()))}
    data_module.dataset = replace(data_module.dataset, **recorded)
    if data_module.dataset.fingerprint != about["fingerprint"]:
        remedy = "start a new run, or resume with --data and the folder that has its images"
        raise DataError(f"{root}: has changed since the run began; {remedy}")
    return data_module
