"""manifest.csv: which files belong together, their groups, and what is stated of each. Opens no pictures."""

import csv
from collections.abc import Sequence
from pathlib import Path

from data.dataset import POLARITIES, DataError, Unusable
from data.reading.listing import Listing

SPLITS = ("train", "val", "test")
TRUTHS = ("mask", "depth")
ROLES = ("image", *TRUTHS)
CHOICES = {"split": SPLITS, "near": POLARITIES}  # of cells of manifest.csv

Row = dict[str, str]  # the columns of a manifest; a column that is empty is absent


def read_manifest(listing: Listing) -> tuple[list[Row], list[Unusable]]:
    """Read the manifest.csv of a folder.

    Args:
        listing: Of the folder.

    Returns:
        Rows of the lines that name an image, their paths relative to the folder; and the lines that cannot be used,
        whether they have a row or not.

    Raises:
        DataError: Columns that lack or are filled in part, no lines.
    """
    path = listing.root / "manifest.csv"
    faulty: list[Unusable] = []
    try:
        columns, lines = _lines(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a table in UTF-8 ({error}); save it as CSV UTF-8") from error
    if "image" not in columns or not set(TRUTHS).intersection(columns):
        lacking = "'mask' or 'depth'" if "image" in columns else "'image'"
        raise DataError(f"{path}: no column {lacking}; it needs image, mask, depth, background, foreground")
    rows = [row for number, row in lines if _checked(number, row, listing, faulty)]
    if not rows:
        raise DataError(f"{path}: lists no images; add a line per triplet")
    for column in {"background", "split"}.intersection(columns):
        filled = sum(column in row for row in rows)
        if filled not in (0, len(rows)):
            raise DataError(f"{path}: {column} is empty in {len(rows) - filled} lines; fill all of them or none")
    return rows, faulty


def _lines(path: Path) -> tuple[Sequence[str], list[tuple[int, Row]]]:
    """The columns, and each line's number and filled cells."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        return columns, [(reader.line_num, {k: v for k, v in line.items() if k and v}) for line in reader]


def _checked(number: int, row: Row, listing: Listing, faulty: list[Unusable]) -> bool:
    """Make the row's paths relative to the root, note what is wrong; tell whether it names an image.

    Bare names are looked up in the role's own folder.
    """
    lacking = []
    for role in ROLES:
        path = row.get(role, "")
        if path and "/" not in path and listing.stat(path) is None:
            row[role] = path = "/".join([*listing.roles[role][:1], path])
        if path and listing.stat(path) is None:
            lacking.append(f"{role} {path} is not there or no picture; add it or remove the line")
    words = lacking[0] if lacking else _wrong_cells(row)
    if words:
        what, _, remedy = f"line {number}: {words}".partition("; ")
        faulty.append(
            Unusable(
                kind="missing file" if lacking else "faulty line",
                image=listing.root / row["image"] if "image" in row else None,
                source=listing.root / "manifest.csv",
                what=what,
                remedy=remedy,
            )
        )
    return "image" in row


def _wrong_cells(row: Row) -> str:
    if "image" not in row or not row.keys() & set(TRUTHS):
        return f"{'mask and depth are' if 'image' in row else 'image is'} empty; name a file or remove the line"
    for column, choices in CHOICES.items():
        if row.get(column, choices[0]) not in choices:
            return f"{column} is {row[column]!r}; it is one of {', '.join(choices)}"
    return ""
