"""Find the triplets of a data set folder from the names of its files, and what their values mean."""

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.dataset import ROLES, DataError, Dataset, DatasetSpec, Triplet
from data.reading.dataset_json import join_datasets, list_joined_folders, read_configured, read_spec
from data.reading.folders import NO_ROLES, Roles, list_unread_truths, match_folders
from data.reading.listing import Listing
from data.reading.manifest import Row, read_manifest
from data.reading.matching import get_stem, group_backgrounds, natural_order, normalise_unicode
from data.runtime.flags import ROLE_FLAGS
from data.values.infer import infer_encoding

FORMAT = "3"  # raised whenever folders are read differently, so that packs are rebuilt
HASHED_FILES = 300  # files whose content is part of the fingerprint, evenly spaced over the data set
HASHED_BYTES = 1 << 16  # bytes hashed at the start and at the end of such a file
MAX_SHOWN = 120  # characters of a path in a message


def read_dataset(
    root: Path,
    *,
    roles: Roles = NO_ROLES,
    fields: Mapping[str, Any] | None = None,
    specs: Sequence[DatasetSpec] | None = None,
) -> Dataset:
    """Read a data set folder, and infer from a sample of its files what their values mean.

    `roles` name the folders of images, masks and depth, relative to `root` or to the current folder. `fields` are
    fields of dataset.json given on the command line. With the recorded `specs` of each folder, no file is opened.
    """
    root = Path(root)
    if folders := list_joined_folders(root):
        if roles:
            raise DataError(f"{root}: joins folders; {ROLE_FLAGS[next(iter(roles))]} belongs to a single one")
        of = {name: [spec] for name, spec in zip(folders, specs, strict=True)} if specs is not None else {}
        read = {n: read_dataset(f, fields=fields, specs=of.get(n)) for n, f in folders.items()}
        return join_datasets(root, read)
    fields = fields or {}
    dataset = read_folder(root, roles=roles, group_size=specs[0].group_size if specs else fields.get("group_size"))
    usable = dataset.list_usable()
    if not usable:
        count = max(len(dataset.triplets), len(dataset.unusable))
        raise DataError(f"{dataset.unusable[0].message} (none of {count} can be used)")
    dataset = replace(dataset, triplets=usable)
    return replace(dataset, spec=specs[0]) if specs is not None else _infer_spec(dataset, fields)


def _infer_spec(dataset: Dataset, fields: Mapping[str, Any]) -> Dataset:
    """Fill in the spec from dataset.json, from `fields` and from a sample of the files."""
    configured = read_configured(dataset.root)
    for key, value in fields.items():
        if (own := configured.setdefault(key, value)) != value:
            problem = f"dataset.json sets {key} to {json.dumps(own)}, the command line to {json.dumps(value)}"
            raise DataError(f"{dataset.root}: {problem}; remove one of them")
    return infer_encoding(replace(dataset, spec=DatasetSpec.from_dict(configured)), configured).apply(dataset)


def read_folder(root: Path, *, roles: Roles = NO_ROLES, group_size: int | None = None) -> Dataset:
    """Read a folder that joins no others, with the triplets in `unusable`; dataset.json precedes `group_size`."""
    if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises on names that are too long
        problem = "is a file, not a folder" if os.path.isfile(root) else "no such folder"  # noqa: PTH113 - as above
        named = str(root)[:MAX_SHOWN]
        raise DataError(f"{named}: {problem}; name one that holds images/ and masks/, depth/ or both")
    listing = Listing(root)
    spec = read_spec(root / "dataset.json")
    spec = spec if spec.group_size is not None else replace(spec, group_size=group_size)
    if (root / "manifest.csv").is_file():
        if roles:
            raise DataError(
                f"{root / 'manifest.csv'}: names the files already; leave out {ROLE_FLAGS[next(iter(roles))]}"
            )
        rows, unusable = read_manifest(listing)
    else:
        rows, unusable = match_folders(listing, roles)
    if not rows and not unusable:
        raise DataError(f"{root}: its images have endings of depth maps; save them as PNG or JPEG")
    if not any("background" in row for row in rows):
        rows = _add_backgrounds(rows, spec)
    locate = functools.cache(functools.partial(Path, root))  # quick: it joins a folder to the root once for all files
    triplets = tuple(_build_triplet(locate, id_, row) for id_, row in zip(_name(root, rows), rows, strict=True))
    fingerprint = _hash_files(listing, rows)
    read = Dataset(root=root, triplets=triplets, spec=spec, fingerprint=fingerprint, unusable=tuple(unusable))
    return replace(read, warnings=list_unread_truths(listing, rows))


def _add_backgrounds(rows: list[Row], spec: DatasetSpec) -> list[Row]:
    """Return the rows, each with a background, in natural order of their images.

    The frames of a scene share a background, unless a group size is configured or the names have backgrounds.
    """
    rows = sorted(rows, key=lambda row: natural_order(row["image"]))
    stems = [get_stem(row["image"]) for row in rows]
    if len(set(stems)) < len(stems):  # the frames of each scene are numbered from 1
        stems = [row["image"].rpartition(".")[0] for row in rows]
    names = group_backgrounds(stems, spec.group_size)
    scenes = [row.get("scene", "") for row in rows]
    named = all(name.startswith("bg") for name in names)
    if len(set(scenes)) > 1 and spec.group_size is None and not named:
        names = [scene or "." for scene in scenes]
    for row, name in zip(rows, names, strict=True):
        row["background"] = name
    return rows


def _name(root: Path, rows: list[Row]) -> list[str]:
    """Return the ids of rows: image stems, or whole paths if two images share a stem."""
    stems, paths = ([name(row["image"]) for row in rows] for name in (get_stem, normalise_unicode))
    for ids in (stems, paths):
        if len(set(ids)) == len(ids):
            return ids
    twice = Counter(paths).most_common(1)[0][0]
    raise DataError(f"{root / twice}: listed more than once in manifest.csv; remove the second line")


def _build_triplet(locate: Callable[[str], Path], id_: str, row: Row) -> Triplet:
    places = {role: row[role].rpartition("/") for role in ROLES if row.get(role)}
    files = {role: locate(folder) / name for role, (folder, _, name) in places.items()}
    given = {"foreground": ""} | {
        name: row[name] for name in ("background", "foreground", "split", "near") if name in row
    }
    return Triplet(id=id_, image=files.pop("image"), mask=files.get("mask"), depth=files.get("depth"), **given)


def _hash_files(listing: Listing, rows: list[Row]) -> str:
    """Hash names and sizes of the files used, and the content of up to HASHED_FILES of them; times are ignored."""
    digest = hashlib.blake2b(FORMAT.encode(), digest_size=16)
    for name in ("manifest.csv", "dataset.json"):
        path = listing.root / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    paths = [row[role] for row in rows for role in ROLES if role in row]
    digest.update("\n".join(f"{path} {listing.size(path)}" for path in paths).encode())
    count = min(HASHED_FILES, len(paths))
    for i in range(count):
        digest.update(_read_ends(listing.root / paths[i * len(paths) // count]))
    if any("near" in row for row in rows):
        digest.update(b"near")  # older packs of such a manifest.csv ignored this column
    return digest.hexdigest()


def _read_ends(path: Path) -> bytes:
    """Return the first and last HASHED_BYTES of a file, b"" if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HASHED_BYTES)
            file.seek(max(file.seek(0, os.SEEK_END) - HASHED_BYTES, len(head)))
            return head + file.read()
    except OSError:
        return b""
