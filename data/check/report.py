"""What a check of a data set folder found, as a table for people and as JSON for programs."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from data.check.faults import FOLDER_KINDS, Fault
from data.check.inference import InferredField
from data.check.polarity import LEAST_VOTES, Polarity
from data.dataset import FAULT_KINDS, Dataset

SHOWN = 3  # files of a kind that the table names
SERIES_SHOWN = 8


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        dataset: The folder as read.
        faults: All of them, in the order of FAULT_KINDS; of joined folders those that show only over the join.
        guesses: What dataset.json could state.
        aliases: Backgrounds that repeat others: name -> the other's name.
        mixed: Polarity triplet by triplet, where the folder has both and states none.
        parts: Of the folders that it joins.
    """

    dataset: Dataset
    faults: tuple[Fault, ...]
    guesses: tuple[InferredField, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    mixed: Polarity | None = None
    parts: tuple["Report", ...] = ()

    @property
    def folders(self) -> tuple["Report", ...]:
        """Of the single folders."""
        return self.parts or (self,)

    @property
    def bad(self) -> dict[str, list[Fault]]:
        """Faults of each triplet that has any, by the triplet's id."""
        owners: dict[str, list[str]] = {}  # lines of a manifest may share a file
        for triplet in self.dataset.triplets:
            for path in filter(None, (triplet.image, triplet.mask, triplet.depth)):
                owners.setdefault(str(path), []).append(triplet.id)
        found: dict[str, list[Fault]] = {}
        for fault in dict.fromkeys(fault for fault in self.faults if fault.kind not in FOLDER_KINDS):
            for owner in owners.get(fault.file, ()):  # a faulty line may name no image
                found.setdefault(owner, []).append(fault)
        return found

    @property
    def sure(self) -> dict[str, str | int]:
        """What dataset.json can state without a doubt."""
        return {told.key: told.value for told in self.guesses if told.sure and told.value is not None}


def table(report: Report) -> str:
    """Faults by kind with counts and the first files, then the guesses; plain text. Joined folders in turn."""
    root, total = report.dataset.root, len(report.dataset.triplets)
    lines = [table(part) for part in report.parts]
    over = f", over the {len(report.parts)} folders that it joins" if report.parts else ""
    lines.append(f"{root}: {total} triplets, {len(report.bad)} with faults{over}")
    for kind, words in FAULT_KINDS.items():
        of_kind = [fault for fault in report.faults if fault.kind == kind]
        if of_kind:
            lines.append(f"  {len(of_kind):>7}  {kind:<20}  {words}")
            details = (f": {fault.detail}" if fault.detail else "" for fault in of_kind)
            files = (os.path.relpath(fault.file, root) for fault in of_kind)
            lines += _first([file + detail for file, detail in zip(files, details, strict=True)], SHOWN)
    for told in report.guesses:
        mixed = report.mixed if told.key == "near" else None
        unknown = "differs" if mixed else "cannot be told"
        value = unknown if told.value is None else f"{told.value}, {'sure' if told.sure else 'not sure'}"
        lines.append(f"  {told.key}: {value} ({told.why})")
        lines += _series(mixed) if mixed else []
    return "\n".join(lines)


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    told = {
        "folder": str(report.dataset.root),
        "triplets": len(report.dataset.triplets),
        "bad": len(report.bad),
        "faults": [asdict(fault) for fault in report.faults],
        "guesses": [asdict(guess) for guess in report.guesses],
    }
    if report.mixed:
        told["near"] = report.mixed.near
    if report.parts:
        told["folders"] = [as_json(part) for part in report.parts]
    return told


def _series(mixed: Polarity) -> list[str]:
    """Polarity by series, how sure it is, and the triplets of which it cannot be told."""
    lines = []
    for name, votes in mixed.series.items():
        sure = "sure" if votes.agreed(LEAST_VOTES) else "likely"
        value = f"{mixed.told[name]}, {sure}" if mixed.told[name] else "each by its own object"
        lines.append(f"{name}*: {value} ({votes.bright} brighter, {votes.dark} darker, {votes.neither} neither)")
    unclear = [f"cannot be told of {len(mixed.unclear)}, which --fix leaves out:"] if mixed.unclear else []
    return _first(lines, SERIES_SHOWN) + _first(unclear, 1) + _first(mixed.unclear, SHOWN)


def _first(lines: list[str], count: int) -> list[str]:
    more = [f"and {len(lines) - count} more"] if len(lines) > count else []
    return [f"{'':>11}{line}" for line in [*lines[:count], *more]]
