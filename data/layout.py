"""Find the triplets of a data set folder, say what is wrong with it. Reads names, sizes, times; no pictures.

A folder holds sub-folders (images and masks, depth or both) whose files go together by stem or number, or a
`manifest.csv` that names them. `dataset.json` states what cannot be seen: polarity and unit of depth, size
of the groups; or it joins other folders: `{"folders": ["../scenes", "/data/photos"]}`.
"""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import platformdirs

from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.matching import PICTURE_KINDS, group_backgrounds, natural_order, pair_files, role_folders
from data.stated import joined, named_folders, read_spec, stated_in

__all__ = ["DataError", "Dataset", "DatasetSpec", "Triplet", "cache_dir", "read_dataset"]

FORMAT = "1"  # raised whenever a folder is read differently, so that packs are made anew
SPLITS = ("train", "val", "test")
TRUTHS = ("mask", "depth")
ROLES = ("image", *TRUTHS)


def cache_dir() -> Path:
    """Folder for packs and built-in data: ONE_LOOK_CACHE if set, else the user's cache folder."""
    stated = os.environ.get("ONE_LOOK_CACHE")
    return Path(stated).expanduser().resolve() if stated else platformdirs.user_cache_path("one-look")


def read_dataset(root: Path) -> Dataset:
    """Read a data set folder without opening a picture.

    Args:
        root: Folder with sub-folders of pictures or a manifest.csv, or with a dataset.json that names folders to join.

    Returns:
        Its triplets, what dataset.json states, and a fingerprint.

    Raises:
        DataError: No such folder, nothing in it, files without partner, a manifest or dataset.json at fault.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; state one that holds images/ and masks/, depth/ or both")
    listing = _Listing(root)
    path = root / "dataset.json"
    stated = stated_in(path)
    if "folders" in stated:
        return joined(root, {name: read_dataset(folder) for name, folder in named_folders(path, stated).items()})
    spec = read_spec(path, stated)
    manifest = root / "manifest.csv"
    rows = _manifest_rows(manifest, listing, spec) if manifest.is_file() else _folder_rows(listing, spec)
    triplets = tuple(_triplet(f"{root}{os.sep}", id_, row) for id_, row in zip(_ids(root, rows), rows, strict=True))
    return Dataset(root=root, triplets=triplets, spec=spec, fingerprint=_fingerprint(listing, rows))


_Row = dict[str, str]  # the columns of a manifest; a column that is empty is absent


class _Listing:
    """File names of the sub-folders with size and time, each folder read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, dict[str, tuple[int, int]]] = {}

    def files(self, folder: str) -> dict[str, tuple[int, int]]:
        """Picture names -> (bytes, mtime in ns) of a folder given relative to the root."""
        if folder not in self._folders:
            self._folders[folder] = dict(self._scan(self.root / folder))
        return self._folders[folder]

    def _scan(self, folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
        if not folder.is_dir():
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.rpartition(".")[2].lower() in PICTURE_KINDS and entry.name[0] != "." and entry.is_file():
                    stat = entry.stat()
                    yield entry.name, (stat.st_size, stat.st_mtime_ns)

    def stat(self, path: str) -> tuple[int, int] | None:
        """(bytes, mtime in ns) of a picture given relative to the root, None where there is none."""
        folder, _, name = path.rpartition("/")
        return self.files(folder).get(name)

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """Sub-folders by role."""
        return role_folders(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _folder_rows(listing: _Listing, spec: DatasetSpec) -> list[_Row]:
    folders = _decided_folders(listing)
    images = sorted(listing.files(folders["image"]), key=natural_order)
    if not images:
        raise DataError(f"{listing.root / folders['image']}: no pictures in it; put the images there")
    rows = [{"image": f"{folders['image']}/{image}"} for image in images]
    for role in folders.keys() - {"image"}:
        partners = _partners(listing, folders, role, images)
        for row, image in zip(rows, images, strict=True):
            row[role] = f"{folders[role]}/{partners[image]}"
    return _grouped(rows, spec)


def _decided_folders(listing: _Listing) -> dict[str, str]:
    """One folder a role; the images' must be there, and one of the others."""
    candidates = listing.roles
    for role, names in candidates.items():
        if len(names) > 1:
            raise DataError(f"{listing.root}: {' and '.join(names)} both look like {role} folders; rename one")
    if not candidates["image"] or not any(candidates[role] for role in TRUTHS):
        lacking = "folder of masks or depth" if candidates["image"] else "image folder"
        raise DataError(f"{listing.root}: no {lacking}; put images/ and masks/ or depth/ there, or a manifest.csv")
    return {role: candidates[role][0] for role in ROLES if candidates[role]}


def _partners(listing: _Listing, folders: dict[str, str], role: str, images: list[str]) -> dict[str, str]:
    partners = pair_files(images, list(listing.files(folders[role])))
    lacking = [image for image in images if image not in partners]
    if lacking:
        raise DataError(
            f"{listing.root / folders['image'] / lacking[0]}: no file of the same stem or number in "
            f"{folders[role]}/ ({len(lacking)} of {len(images)} images lack their {role}); "
            "add it, remove the image, or leave its cell empty in a manifest.csv"
        )
    return partners


def _manifest_rows(path: Path, listing: _Listing, spec: DatasetSpec) -> list[_Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        if "image" not in columns or not set(TRUTHS).intersection(columns):
            lacking = "'mask' or 'depth'" if "image" in columns else "'image'"
            raise DataError(f"{path}: no column {lacking}; it needs image, mask, depth, background, foreground")
        lines = ({key: value for key, value in line.items() if key and value} for line in reader)
        rows = [_checked(f"{path}: line {n}", row, listing) for n, row in enumerate(lines, start=2)]
    if not rows:
        raise DataError(f"{path}: lists no images; add a line per triplet")
    for column in {"background", "split"}.intersection(columns):
        filled = sum(column in row for row in rows)
        if filled not in (0, len(rows)):
            raise DataError(f"{path}: {column} is empty in {len(rows) - filled} lines; fill all of them or none")
    return rows if "background" in rows[0] else _grouped(rows, spec)


def _checked(where: str, row: _Row, listing: _Listing) -> _Row:
    """The row with paths relative to the root; bare names are looked up in the role's own folder."""
    for role in ROLES:
        path = row.get(role, "")
        if path and "/" not in path and listing.stat(path) is None:
            row[role] = path = "/".join([*listing.roles[role][:1], path])
        if path and listing.stat(path) is None:
            raise DataError(f"{where}: {role} {path} is not there or no picture; add it or remove the line")
    if "image" not in row or not row.keys() & set(TRUTHS):
        empty = "mask and depth are" if "image" in row else "image is"
        raise DataError(f"{where}: {empty} empty; name a file or remove the line")
    if row.get("split", "train") not in SPLITS:
        raise DataError(f"{where}: split is {row['split']!r}; it is one of {', '.join(SPLITS)}")
    return row


def _grouped(rows: list[_Row], spec: DatasetSpec) -> list[_Row]:
    """The rows with a background each, in natural order of their images."""
    rows = sorted(rows, key=lambda row: natural_order(row["image"]))
    names = group_backgrounds([_stem(row["image"]) for row in rows], spec.group_size)
    return [{**row, "background": name} for row, name in zip(rows, names, strict=True)]


def _ids(root: Path, rows: list[_Row]) -> list[str]:
    """Image stems; whole paths where two images share a stem."""
    for ids in ([_stem(row["image"]) for row in rows], [row["image"] for row in rows]):
        if len(set(ids)) == len(ids):
            return ids
    twice = Counter(ids).most_common(1)[0][0]
    raise DataError(f"{root / twice}: listed more than once in manifest.csv; remove the second line")


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _triplet(root: str, id_: str, row: _Row) -> Triplet:
    mask, depth = row.get("mask"), row.get("depth")
    return Triplet(
        id=id_,
        image=Path(root + row["image"]),
        mask=Path(root + mask) if mask else None,
        depth=Path(root + depth) if depth else None,
        background=row["background"],
        foreground=row.get("foreground", ""),
        split=row.get("split"),
    )


def _fingerprint(listing: _Listing, rows: list[_Row]) -> str:
    """Hash of what is used: a file written anew, added or taken away changes it; stray files do not."""
    digest = hashlib.blake2b(FORMAT.encode(), digest_size=16)
    for name in ("manifest.csv", "dataset.json"):
        path = listing.root / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    paths = (row[role] for row in rows for role in ROLES if role in row)
    digest.update("\n".join(f"{path} {listing.stat(path)}" for path in paths).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    import sys

    from data.check import main

    sys.exit(main())
