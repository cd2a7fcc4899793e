"""Read manifest.csv: which files form a triplet, its background, foreground, split and polarity."""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

from data.dataset import POLARITIES, ROLES, UNKNOWN_BACKGROUND, DataError, Unusable
from data.reading.listing import Listing, make_printable
from data.reading.roles import find_candidates, find_split
from models.config import TASKS

CHOICES = {"split": ("train", "val", "test"), "near": POLARITIES}  # allowed values of columns

SEPARATORS = (",", ";", "\t")  # at a tie the first one is used

ALLOW_OUTSIDE = "ONE_LOOK_ALLOW_OUTSIDE"
OUTSIDE = "outside the folder of the data set"
REMEDY_OUTSIDE = f"link it into the folder, or set {ALLOW_OUTSIDE}=1 if you trust the manifest"

Row = dict[str, str]  # the filled cells of a line, by column


def read_manifest(listing: Listing) -> tuple[list[Row], list[Unusable]]:
    """Return the rows of manifest.csv that name an image, with paths relative to the folder, and the unusable lines."""
    path = listing.root / "manifest.csv"
    try:
        columns, lines = _read_lines(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a table in UTF-8 ({error}); save it as CSV UTF-8") from error
    if "image" not in columns or not set(TASKS).intersection(columns):
        lacking = "'mask' or 'depth'" if "image" in columns else "'image'"
        seen = ", ".join(map(repr, columns)) or "none"
        needed = "it needs image, mask, depth, background, foreground"
        raise DataError(f"{path}: no column {lacking} among {seen}; {needed}")
    rows, usable, unusable = _sort_lines(lines, listing)
    if not rows:
        raise DataError(f"{path}: lists no images; add a line per triplet")
    for column in {"background", "split"}.intersection(columns):
        filled = sum(column in row for row in usable)
        if filled not in (0, len(usable)):
            raise DataError(f"{path}: {column} is empty in {len(usable) - filled} lines; fill all of them or none")
    if any("background" in row for row in usable):
        rows = [{"background": UNKNOWN_BACKGROUND} | row for row in rows]  # unusable lines may have none
    return rows, unusable


def _sort_lines(lines: Sequence[tuple[int, Row]], listing: Listing) -> tuple[list[Row], list[Row], list[Unusable]]:
    """Return the first row for each named image, the usable rows, and the faults of the lines."""
    first: dict[str, int] = {}  # image -> its line
    rows, usable, unusable = [], [], []
    for number, row in lines:
        fault = _check_row(number, row, listing)
        image = row.get("image", "")
        if image and first.setdefault(image, number) != number:
            problem = f"line {number}: image {make_printable(image)} is in line {first[image]} already"
            fault = Unusable("faulty line", None, problem, "remove one of them", listing.root / "manifest.csv")
        elif image:
            rows.append(row)
        if fault:
            unusable.append(fault)
        else:
            usable.append(row)
    return rows, usable, unusable


def _read_lines(path: Path) -> tuple[Sequence[str], list[tuple[int, Row]]]:
    """Return the columns, and each line's number and filled cells."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        begun = 0
        if re.fullmatch(r"sep=.\s*", header):  # a line that Excel writes
            header, begun = file.readline(), 1
        separator = max(SEPARATORS, key=header.count)
        columns = [column.strip().lower() for column in next(csv.reader([header], delimiter=separator), [])]
        reader = csv.DictReader(file, columns, delimiter=separator)
        lines = []
        for line in reader:
            filled = {key: value.strip() for key, value in line.items() if key and isinstance(value, str)}
            row = {key: value for key, value in filled.items() if value}
            if broken := [(key, value) for key, value in row.items() if "\n" in value or "\0" in value]:
                where = begun + 1 + reader.line_num - sum(value.count("\n") for _, value in broken)
                problem = f"line {where}: {broken[0][0]} holds a line break or a zero byte"
                raise DataError(f"{path}: {problem}; close the quote before it, or save the table again")
            if row:  # skips the lines of mere separators that Excel writes
                lines.append((begun + 1 + reader.line_num, row))
        return columns, lines


def _check_row(number: int, row: Row, listing: Listing) -> Unusable | None:
    """Make the paths of a row relative to the root and return its fault; bare names are looked up by role."""
    lacking = []
    for role in ROLES:
        if path := row.get(role, ""):
            row[role], reason = _locate(path, role, listing)
            if reason:
                remedy = REMEDY_OUTSIDE if reason == OUTSIDE else "add it or remove the line"
                lacking.append(f"{role} {make_printable(row[role])} is {reason}; {remedy}")
    if "split" in row:
        row["split"] = find_split(row["split"]) or row["split"]
    fault = lacking[0] if lacking else _check_cells(row)
    if not fault:
        return None
    problem, _, remedy = f"line {number}: {fault}".partition("; ")
    image = listing.root / row["image"] if "image" in row else None
    return Unusable("missing file" if lacking else "faulty line", image, problem, remedy, listing.root / "manifest.csv")


def _locate(path: str, role: str, listing: Listing) -> tuple[str, str]:
    """Return the path of a file relative to the root, and "" or the reason why it cannot be used."""
    if found := listing.find(path):
        return found, "" if _is_allowed(listing.root, found) else OUTSIDE
    folder, _, name = path.replace("\\", "/").rpartition("/")
    if not folder:
        candidates = find_candidates(listing.folders, role)
        for candidate in candidates:
            if found := listing.find(f"{candidate}/{name}"):
                return found, ""
        folder, path = next(iter(candidates), ""), "/".join([*candidates[:1], path])
    return path, listing.broken(folder).get(name, "not there or not an image")


def _is_allowed(root: Path, path: str) -> bool:
    """Return whether a file lies in the folder, itself or as a link, or files elsewhere are allowed.

    A downloaded manifest could name any private image of this machine.
    """
    if ".." not in path and not os.path.isabs(path):  # noqa: PTH117 - quick, for each of 100,000 lines
        return True
    base, named = os.path.abspath(root), os.path.abspath(root / path)  # noqa: PTH100 - links are not followed
    return named.startswith(base + os.sep) or os.environ.get(ALLOW_OUTSIDE, "0") not in ("", "0")


def _check_cells(row: Row) -> str:
    """Return problem and remedy of faulty cells, "" if there is none."""
    if "image" not in row or not row.keys() & set(TASKS):
        return f"{'mask and depth are' if 'image' in row else 'image is'} empty; name a file or remove the line"
    for column, choices in CHOICES.items():
        if row.get(column, choices[0]) not in choices:
            return f"{column} is {row[column]!r}; it is one of {', '.join(choices)}"
    return ""
