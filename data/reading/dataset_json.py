"""Read and write dataset.json: the spec of a folder, or the folders that it joins."""

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.runtime.files import explain_write_errors, write_atomically


def join_folders(folders: Sequence[Path], cache: Path) -> Path:
    """Write a dataset.json that lists these folders, without reading them, and return its folder.

    The same list always gives the same folder.
    """
    paths = [str(Path(folder).resolve()) for folder in folders]
    digest = hashlib.blake2b("\n".join(paths).encode(), digest_size=4).hexdigest()
    root = cache / "joined" / "+".join([*(Path(path).name for path in paths), digest])
    with explain_write_errors(root, "free some space or set ONE_LOOK_CACHE"):
        root.mkdir(parents=True, exist_ok=True)
        write_atomically(root / "dataset.json", lambda file: file.write(json.dumps({"folders": paths}).encode()))
    return root


def list_joined_folders(root: Path) -> dict[str, Path]:
    """Return the folders that a folder's dataset.json joins, by their last name, or as written if two share it."""
    path = root / "dataset.json"
    content = read_dataset_json(path)
    if "folders" not in content:
        return {}
    names = content["folders"]
    if len(content) > 1 or not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise DataError(f'{path}: to join folders, write {{"folders": ["one", "another"]}} and nothing else')
    folders = [Path(os.path.normpath(path.parent / name)) for name in names]
    for folder in folders:
        if folders.count(folder) > 1:
            raise DataError(f"{path}: {folder} is named more than once; name each folder once")
        if "folders" in read_dataset_json(folder / "dataset.json"):
            raise DataError(f"{path}: {folder} joins other folders; name those folders instead")
    short = [folder.name for folder in folders]
    return dict(zip(short if len(set(short)) == len(short) else names, folders, strict=True))


def read_dataset_json(path: Path) -> dict[str, Any]:
    """Return the content of a dataset.json, {} if there is no such file."""
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on names that are too long
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or too deep
        raise DataError(f"{path}: not valid JSON ({error}); correct or remove it") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: not a JSON object; write {{...}}")
    return values


def read_configured(root: Path) -> dict[str, Any]:
    """Return the fields that a folder's dataset.json sets; one that is null is not set."""
    return {key: value for key, value in read_dataset_json(root / "dataset.json").items() if value is not None}


def read_spec(path: Path) -> DatasetSpec:
    """Return the spec in a dataset.json; the defaults if there is no such file."""
    content = read_dataset_json(path)
    try:
        return DatasetSpec.from_dict(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def join_datasets(root: Path, folders: Mapping[str, Dataset]) -> Dataset:
    """Return one data set whose `parts` are the folders by name; names prefix ids and backgrounds."""
    parts = tuple(
        dataclasses.replace(folder, triplets=tuple(_prefix_names(name, triplet) for triplet in folder.triplets))
        for name, folder in folders.items()
    )
    described = "\n".join(f"{name} {folder.fingerprint}" for name, folder in folders.items())
    return Dataset(
        root=root,
        triplets=tuple(triplet for part in parts for triplet in part.triplets),
        spec=DatasetSpec(),
        fingerprint=hashlib.blake2b(described.encode(), digest_size=16).hexdigest(),
        unusable=tuple(one for part in parts for one in part.unusable),
        parts=parts,
        doubts=tuple(doubt for folder in folders.values() for doubt in folder.doubts),
        warnings=tuple(warning for folder in folders.values() for warning in folder.warnings),
        description="; ".join(f"{name}: {one.description}" for name, one in folders.items() if one.description),
    )


def _prefix_names(name: str, triplet: Triplet) -> Triplet:
    return dataclasses.replace(triplet, id=f"{name}/{triplet.id}", background=f"{name}/{triplet.background}")


def write_dataset_json(root: Path, fields: Mapping[str, Any]) -> Path:
    """Set fields in dataset.json, keep its other content, and return its path."""
    path = root / "dataset.json"
    if not root.stat().st_mode & stat.S_IWUSR:  # the root user could write, but respects the mode
        raise DataError(f"{path}: not written, the folder is read-only; copy it, or allow writing")
    content = read_dataset_json(path)
    merged = {**content, **fields}
    if content.get("mask_values") and "mask_values" in fields:  # its keys are flags of their own
        merged["mask_values"] = {**content["mask_values"], **fields["mask_values"]}
    DatasetSpec.from_dict(merged)
    text = json.dumps(merged, indent=2) + "\n"
    with explain_write_errors(path, "copy the data to a writable folder"):
        write_atomically(path, lambda file: file.write(text.encode()))
    return path
