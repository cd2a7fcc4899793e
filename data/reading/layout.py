"""Find the triplets of a data set folder from the names of its files; no image is decoded.

A folder holds sub-folders (images and masks, depth or both) whose files are matched by stem or number, or a
`manifest.csv` that names them. `dataset.json` configures polarity and unit of depth and the size of groups, or joins
other folders: `{"folders": ["../scenes", "/data/photos"]}`.
"""

import hashlib
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from data.dataset import ROLES, TRUTHS, DataError, Dataset, DatasetSpec, Triplet, Unusable
from data.reading.dataset_json import join_datasets, list_joined_folders, read_dataset_json, read_spec
from data.reading.listing import Listing
from data.reading.manifest import Row, read_manifest
from data.reading.matching import group_backgrounds, natural_order, pair_files

FORMAT = "2"  # raised whenever a folder is read differently, so that packs are made anew
HASHED_FILES = 300  # files whose content is part of the fingerprint, evenly spaced over the data set
HASHED_BYTES = 1 << 16  # of the start and of the end of such a file


def read_dataset(root: Path) -> Dataset:
    """Read a data set folder without opening an image.

    Args:
        root: Folder with sub-folders of images or a manifest.csv, or with a dataset.json that joins folders.

    Returns:
        The usable triplets; `unusable` lists the other entries.

    Raises:
        DataError: The folder does not exist or has no usable triplet, or its dataset.json is faulty.
    """
    root = Path(root)
    path = root / "dataset.json"
    content = read_dataset_json(path)
    if "folders" in content:
        folders = list_joined_folders(path, content)
        return join_datasets(root, {name: read_dataset(folder) for name, folder in folders.items()})
    dataset = read_folder(root)
    left_out = {unusable.image for unusable in dataset.unusable}
    usable = tuple(triplet for triplet in dataset.triplets if triplet.image not in left_out)
    if not usable:
        raise DataError(f"{dataset.unusable[0].message} (none of {len(dataset.triplets)} can be used)")
    return replace(dataset, triplets=usable)


def read_folder(root: Path) -> Dataset:
    """Read a folder that joins no others; its triplets include those with an entry in `unusable`.

    Raises:
        DataError: As `read_dataset`.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name one that holds images/ and masks/, depth/ or both")
    listing = Listing(root)
    spec = read_spec(root / "dataset.json")
    rows, unusable = read_manifest(listing) if (root / "manifest.csv").is_file() else _match_files(listing)
    rows = rows if "background" in rows[0] else _add_backgrounds(rows, spec)
    triplets = tuple(_build_triplet(str(root), id_, row) for id_, row in zip(_name(root, rows), rows, strict=True))
    fingerprint = _fingerprint(listing, rows)
    return Dataset(root=root, triplets=triplets, spec=spec, fingerprint=fingerprint, unusable=tuple(unusable))


def _match_files(listing: Listing) -> tuple[list[Row], list[Unusable]]:
    """Return a row for each image, and an entry for each image that lacks a partner."""
    folders = _choose_folders(listing)
    images = sorted(listing.files(folders["image"]), key=natural_order)
    if not images:
        raise DataError(f"{listing.root / folders['image']}: no images in it; put the images there")
    partners = {role: pair_files(images, list(listing.files(folders[role]))) for role in folders if role != "image"}
    rows, unusable = [], []
    for image in images:
        found = {role: f"{folders[role]}/{partners[role][image]}" for role in partners if image in partners[role]}
        rows.append({"image": f"{folders['image']}/{image}", **found})
        lacking = [role for role in partners if role not in found]
        if lacking:
            unusable.append(_report_no_partner(listing.root / folders["image"] / image, lacking, folders))
    return rows, unusable


def _report_no_partner(image: Path, lacking: list[str], folders: dict[str, str]) -> Unusable:
    where = " and ".join(f"{folders[role]}/" for role in lacking)
    return Unusable(
        kind="no partner",
        image=image,
        source=image,
        problem=f"no {' and '.join(lacking)} of the same stem or number in {where}",
        remedy="add it, remove the image, or leave its cell empty in a manifest.csv",
    )


def _choose_folders(listing: Listing) -> dict[str, str]:
    """Return one folder for each role; images are required, and masks or depth."""
    candidates = listing.roles
    for role, names in candidates.items():
        if len(names) > 1:
            raise DataError(f"{listing.root}: {' and '.join(names)} both look like {role} folders; rename one")
    if not candidates["image"] or not any(candidates[role] for role in TRUTHS):
        lacking = "folder of masks or depth" if candidates["image"] else "image folder"
        raise DataError(f"{listing.root}: no {lacking}; put images/ and masks/ or depth/ there, or a manifest.csv")
    return {role: candidates[role][0] for role in ROLES if candidates[role]}


def _add_backgrounds(rows: list[Row], spec: DatasetSpec) -> list[Row]:
    """Return the rows with a background each, in natural order of their images."""
    rows = sorted(rows, key=lambda row: natural_order(row["image"]))
    names = group_backgrounds([_stem(row["image"]) for row in rows], spec.group_size)
    return [{**row, "background": name} for row, name in zip(rows, names, strict=True)]


def _name(root: Path, rows: list[Row]) -> list[str]:
    """Return the ids of rows: image stems, or whole paths if two images share a stem."""
    for ids in ([_stem(row["image"]) for row in rows], [row["image"] for row in rows]):
        if len(set(ids)) == len(ids):
            return ids
    twice = Counter(ids).most_common(1)[0][0]
    raise DataError(f"{root / twice}: listed more than once in manifest.csv; remove the second line")


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _build_triplet(root: str, id_: str, row: Row) -> Triplet:
    mask, depth = row.get("mask"), row.get("depth")
    return Triplet(
        id=id_,
        image=Path(root, row["image"]),
        mask=Path(root, mask) if mask else None,
        depth=Path(root, depth) if depth else None,
        background=row["background"],
        foreground=row.get("foreground", ""),
        split=row.get("split"),
        near=row.get("near"),
    )


def _fingerprint(listing: Listing, rows: list[Row]) -> str:
    """Hash names and sizes of the files used and the content of up to HASHED_FILES of them.

    A file that is added, removed or of another size changes the hash, and so does other content of a file in the
    sample, which is every file of a small data set. Times do not count, so that a copy of a data set is the same one.
    """
    digest = hashlib.blake2b(FORMAT.encode(), digest_size=16)
    for name in ("manifest.csv", "dataset.json"):
        path = listing.root / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    paths = [row[role] for row in rows for role in ROLES if role in row]
    digest.update("\n".join(f"{path} {(listing.stat(path) or (None,))[0]}" for path in paths).encode())
    count = min(HASHED_FILES, len(paths))
    for i in range(count):
        digest.update(_read_ends(listing.root / paths[i * len(paths) // count]))
    if any("near" in row for row in rows):
        digest.update(b"near")  # older packs of such a manifest.csv ignored this column
    return digest.hexdigest()


def _read_ends(path: Path) -> bytes:
    """Return the first and last HASHED_BYTES of a file; nothing of one that cannot be read, which is left out later."""
    try:
        with path.open("rb") as file:
            head = file.read(HASHED_BYTES)
            file.seek(max(file.seek(0, os.SEEK_END) - HASHED_BYTES, len(head)))
            return head + file.read()
    except OSError:
        return b""
