"""Report of a check, printed as a table or converted to plain values for JSON."""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from data.check.faults import Fault
from data.dataset import FAULT_KINDS, Dataset
from data.runtime.cli import to_printable
from data.values.infer_depth import MIN_VOTES, InferredField, Polarity

SHOWN_FILES = 3  # for each kind of fault
SHOWN_SERIES = 8
PIPE_WIDTH = 100_000  # columns of output that is not a terminal, so that no path is wrapped


@dataclass(frozen=True)
class Report:
    """Result of a check."""

    dataset: Dataset
    faults: tuple[Fault, ...]  # in the order of `FAULT_KINDS`; for joined folders, only the faults between folders
    inferred: tuple[InferredField, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)  # repeated background -> background that it repeats
    mixed: Polarity | None = None  # polarity of each triplet, if the folder mixes both and near is not configured
    parts: tuple["Report", ...] = ()  # reports of the joined folders

    @property
    def folders(self) -> tuple["Report", ...]:
        """Reports of the folders with images: the joined folders, or this one."""
        return self.parts or (self,)

    @property
    def faulty(self) -> dict[str, list[Fault]]:
        """Faults by the id of the triplet that has them."""
        owners: dict[str, list[str]] = {}  # lines of a manifest may share a file
        for triplet in self.dataset.triplets:
            for path in triplet.files.values():
                owners.setdefault(str(path), []).append(triplet.id)
        found: dict[str, list[Fault]] = {}
        for fault in dict.fromkeys(self.faults):
            for owner in owners.get(fault.file, ()):  # a stray file has none
                found.setdefault(owner, []).append(fault)
        return found

    @property
    def unreadable(self) -> str:
        """The first doubt about the values other than a doubt about polarity, which --fix does not need; or ""."""
        polarity = tuple(one.doubt for one in self.inferred if one.key == "near" and one.doubt)
        return next((doubt for doubt in self.dataset.doubts if not doubt.endswith(polarity)), "")

    @property
    def certain(self) -> dict[str, str | int]:
        """Inferred fields that are certain."""
        return {one.key: one.value for one in self.inferred if one.certain and one.value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        values = {
            "folder": str(self.dataset.root),
            "triplets": len(self.dataset.triplets),
            "faulty": len(self.faulty),
            "faults": [asdict(fault) for fault in self.faults],
            "inferred": [asdict(one) for one in self.inferred],
        }
        near = {"near": self.mixed.near} if self.mixed else {}
        return values | near | ({"folders": [part.to_dict() for part in self.parts]} if self.parts else {})


def print_report(report: Report) -> None:
    """Print faults by kind with counts and the first files, then the inferred fields; joined folders one by one."""
    from rich.console import Console  # after --help
    from rich.table import Table

    for part in report.parts:
        print_report(part)
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False, emoji=False)
    root, total = report.dataset.root, len(report.dataset.triplets)
    between = f" between the {len(report.parts)} folders that it joins" if report.parts else ""
    console.print(f"{root}: {total} triplets, {len(report.faulty)} with faults{between}")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", min_width=9)
    for kind, description in FAULT_KINDS.items():
        faults = [fault for fault in report.faults if fault.kind == kind]
        if faults:
            files = [os.path.relpath(fault.file, root) + f": {fault.detail}".rstrip(": ") for fault in faults]
            table.add_row(str(len(faults)), kind, to_printable("\n".join([description, *_shorten(files, SHOWN_FILES)])))
    if table.row_count:
        console.print(table)
    read = f"read as: {report.dataset.description}" if report.dataset.description else ""
    unclear = (f"unclear: {doubt}" for doubt in report.dataset.doubts)
    for line in () if report.parts else filter(None, (read, *report.dataset.warnings, *unclear)):
        console.print(to_printable(f"  {line}"))
    for one in report.inferred:
        mixed = report.mixed if one.key == "near" else None
        unknown = "differs" if mixed else "unknown"
        value = unknown if one.value is None else f"{one.value}, {'certain' if one.certain else 'uncertain'}"
        lines = [f"  {one.key}: {value} ({one.reason})", *(_list_series(mixed) if mixed else [])]
        console.print(to_printable("\n".join(lines)))


def _list_series(mixed: Polarity) -> list[str]:
    """List the polarity of each series and the triplets of unknown polarity."""
    lines = []
    for name, votes in mixed.series.items():
        near, certainty = mixed.by_series[name], "certain" if votes.decide(MIN_VOTES) else "likely"
        value = f"{near}, {certainty}" if near else "decided per image, by its foreground"
        lines.append(f"    {name}*: {value} ({votes.bright} brighter, {votes.dark} darker, {votes.neither} neither)")
    unclear = [f"    unknown for {len(mixed.unclear)}, which --fix leaves out:"] if mixed.unclear else []
    return _shorten(lines, SHOWN_SERIES) + unclear + _shorten([f"    {id_}" for id_ in mixed.unclear], SHOWN_FILES)


def _shorten(lines: list[str], count: int) -> list[str]:
    return lines[:count] + ([f"and {len(lines) - count} more"] if len(lines) > count else [])
