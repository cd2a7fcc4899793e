"""Match the files of image, mask and depth folders; list the contents of a folder if the roles in it are unclear."""

import os
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from data.dataset import DataError, Unusable
from data.reading.listing import MAX_LEVELS, Listing
from data.reading.manifest import Row
from data.reading.matching import PHOTO_SUFFIXES, find_twins, get_stem, is_image_name, natural_order, pair_files
from data.reading.roles import FolderGroup, Groups, find_role, group_folders
from data.runtime.cli import format_count
from data.runtime.flags import ROLE_FLAGS
from models.config import TASKS

Roles = Mapping[str, str]  # role -> folder that the user names
NO_ROLES: Roles = MappingProxyType({})
MAX_SEEN = 8  # folders in a message


@dataclass(frozen=True)
class _Labels:
    """Masks or depth maps of a folder."""

    folder: str
    of: dict[str, str]  # image -> mask or depth map
    twins: dict[str, list[str]]  # stem -> names that share it
    broken: dict[str, str]  # name -> reason why it cannot be used


def match_folders(listing: Listing, roles: Roles = NO_ROLES) -> tuple[list[Row], list[Unusable]]:
    """Match the images of a folder without manifest.csv to their masks and depth maps.

    Rows have the scene and, if there are folders of training and validation, the split. Unusable images are reported.
    """
    tops = resolve_roles(listing.root, roles)
    tree = listing.tree(*tops.values()) if tops else listing.folders
    groups = group_folders(tree, tops)
    _check_groups(listing, tree, groups, roles)
    truths = [role for role in TASKS if any(role in group.members for group in groups.complete)]
    rows: list[Row] = []
    unusable: list[Unusable] = []
    for folder, names in (group.members["image"] for group in groups.without_truth if group.split != "test"):
        problem = f"{len(names):,} images without a folder of masks or depth beside them"
        unusable.append(Unusable("no partner", listing.root / folder, problem, "add one, or ignore this"))
    for group in groups.complete:
        matched, reports = _match_group(listing, group, truths)
        rows += matched
        unusable += reports
    splits = {row.get("split") for row in rows}
    if not splits & {"val", "test"} or "train" not in splits:
        rows = [{column: cell for column, cell in row.items() if column != "split"} for row in rows]
    return rows, unusable


def resolve_roles(root: Path, roles: Roles) -> dict[str, str]:
    """Return the named folders relative to the root; a name is looked up there first, then in the current folder."""
    found = {}
    for role, name in roles.items():
        inside = [path for path in (root / name, Path(name)) if os.path.isdir(path)]  # noqa: PTH112
        if not inside:
            raise DataError(f"{ROLE_FLAGS[role]} {name}: no such folder in {root}; name one with image files")
        found[role] = os.path.relpath(inside[0], root)
    if roles and not ("image" in roles and roles.keys() & set(TASKS)):
        lacking = "--images" if "image" not in roles else "--masks or --depth"
        named = ", ".join(ROLE_FLAGS[role] for role in roles)
        raise DataError(f"{root}: {named} without {lacking}; name that folder too")
    return {role: "" if folder == "." else folder for role, folder in found.items()}


def _match_group(listing: Listing, group: FolderGroup, truths: list[str]) -> tuple[list[Row], list[Unusable]]:
    """Return the rows and reports of one group of folders."""
    folder, names = group.members["image"]
    known = listing.files(folder)
    names = [name for name in names if name in known and is_image_name(name, PHOTO_SUFFIXES)]
    twins = find_twins(names)
    double = {name for several in twins.values() for name in several}
    unusable = [_report_twins(listing.root / folder, several) for several in twins.values()]
    unusable += [
        Unusable("unreadable", listing.root / folder / name, reason, "restore, rename or remove the file")
        for name, reason in listing.broken(folder).items()
    ]
    labels: dict[str, _Labels] = {}
    for role in [role for role in truths if role in group.members]:
        where, candidates = group.members[role]
        usable = [name for name in candidates if name in listing.files(where)]
        labels[role] = _Labels(where, pair_files(names, usable), find_twins(usable), listing.broken(where))
    shared = {"scene": group.scene} | ({"split": group.split} if group.split else {})
    rows = []
    lacking: dict[str, list[str]] = {}
    for name in names:
        if name in double:
            continue
        found = {role: posixpath.join(one.folder, one.of[name]) for role, one in labels.items() if name in one.of}
        rows.append({"image": posixpath.join(folder, name), **found, **shared})
        if len(found) < len(truths):
            lacking[name] = [role for role in truths if role not in found]
    for name in sorted(lacking, key=natural_order):
        unusable.append(_report_no_partner(listing.root / folder / name, lacking[name], labels))
    return rows, unusable


def _report_no_partner(image: Path, lacking: list[str], labels: Mapping[str, _Labels]) -> Unusable:
    """Report an image without its mask or depth, and name a partner that exists but cannot be used."""
    problem, remedy = "", "add it, remove the image, or leave its cell empty in a manifest.csv"
    stem = get_stem(image.name)
    for role in [role for role in lacking if role in labels]:
        where, broken = labels[role].folder, labels[role].broken
        if twins := labels[role].twins.get(stem):
            problem, remedy = f"{where}/ has {' and '.join(twins)} for it", "keep one of them"
        elif name := next((name for name in broken if get_stem(name) == stem), ""):
            problem = f"its {role} {where}/{name} is {broken[name]}"
            remedy = "restore the file or remove the image"
    if not problem:
        where = " and ".join(f"{labels[role].folder or '.'}/" for role in lacking if role in labels)
        problem = f"no {' and '.join(lacking)} of the same stem or number{' in ' if where else ''}{where}"
    return Unusable("no partner", image, problem, remedy)


def _report_twins(folder: Path, names: list[str]) -> Unusable:
    problem = f"has the same stem as {' and '.join(names[1:])}, so its mask or depth may belong to either"
    return Unusable("no partner", folder / names[0], problem, "keep one of them, or name the files in a manifest.csv")


def _check_groups(listing: Listing, tree: Mapping[str, list[str]], groups: Groups, roles: Roles) -> None:
    """Raise DataError if it is unclear which folder has which role."""
    root = listing.root
    denied = [folder for folder in listing.denied if roles or find_role(folder.rpartition("/")[2])]
    if denied:
        raise DataError(f"{root / denied[0]}: cannot be listed ({listing.denied[denied[0]]}); allow reading it")
    inner = sorted({*listing.data_sets, *_find_data_sets(groups)}) if _all_nested(groups) else []
    if inner:
        shown = ", ".join(f"{name}/" for name in inner[:MAX_SEEN])
        command = " ".join(str(root / name) for name in inner[:MAX_SEEN])
        raise DataError(f"{root}: holds {len(inner)} data sets ({shown}); name those to use: --data {command}")
    for role, folders in groups.ambiguous.items():
        problem = f"{' and '.join(folders)} both look like {role} folders"
        raise DataError(f"{root}: {problem}; {_describe_folders(tree, groups)}")
    if groups.complete:
        return
    if roles:
        problem = "no images in the folders named" if not groups.without_truth else "no masks or depth in those named"
        raise DataError(f"{root}: {problem}; {_describe_folders(listing.folders, groups)}")
    _raise_nothing_found(listing, tree, groups)


def list_unread_truths(listing: Listing, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return a warning for each folder of masks or depth whose files are not read, if no other files have that role."""
    absent = {role for role in TASKS if not any(row.get(role) for row in rows)}
    return tuple(
        f"{listing.root / folder}: its {found} files are not read as {role}; if they are, save them as PNG, TIFF or NPY"
        for folder in listing.scanned
        if (role := find_role(folder.rpartition("/")[2])) in absent and (found := listing.describe_endings(folder))
    )


def _raise_nothing_found(listing: Listing, tree: Mapping[str, list[str]], groups: Groups) -> None:
    root = listing.root
    empty = [folder for folder in listing.scanned if folder not in tree and find_role(folder.rpartition("/")[2])]
    for folder in empty:
        if found := listing.describe_endings(folder):
            remedy = "they are not read as images; save them as PNG or put the images there"
            raise DataError(f"{root / folder}: no images in it but {found} files; {remedy}")
    for folder in empty:
        if find_role(folder.rpartition("/")[2]) == "image" and not groups.without_truth:
            raise DataError(f"{root / folder}: no images in it; put the images there")
    lacking = "folder of masks or depth" if groups.without_truth else "image folder"
    seen = f"{_describe_folders(tree, groups)}; " if tree else ""
    if "--images" in seen:
        raise DataError(f"{root}: no {lacking}; {seen[:-2]}")
    if not tree and listing.too_deep:
        raise DataError(f"{root}: no {lacking} in {MAX_LEVELS} levels; name a folder nearer to it: {listing.too_deep}/")
    raise DataError(f"{root}: no {lacking}; {seen}put images/ and masks/ or depth/ there, or a manifest.csv")


def _all_nested(groups: Groups) -> bool:
    """Return True if every image folder is in a sub-folder that is not a split, with its masks or depth beside it."""
    return all(
        group.scene and all(folder.startswith(group.scene) for folder, _ in group.members.values())
        for group in (*groups.complete, *groups.without_truth)
    )


def _find_data_sets(groups: Groups) -> list[str]:
    """Return the sub-folders that look like data sets of their own: each has images, and the label folders differ."""
    tops = {g.scene.partition("/")[0]: frozenset(g.members) for g in (*groups.complete, *groups.without_truth)}
    return list(tops) if len(set(tops.values())) > 1 else []


def _describe_folders(tree: Mapping[str, list[str]], groups: Groups) -> str:
    """List the folders of images with their sizes and, if their roles are unclear, the flags that name them."""
    counts: Counter[str] = Counter()
    for folder, names in tree.items():
        counts[folder.partition("/")[0]] += len(names)
    names = sorted(counts)
    seen = ", ".join(f"{name + '/' if name else 'the folder itself'} ({counts[name]:,})" for name in names[:MAX_SEEN])
    more = f" and {len(names) - MAX_SEEN} more" if len(names) > MAX_SEEN else ""
    described = f"{format_count(len(names), 'folder')} of images: {seen}{more}"
    if len(names) < 2 or not (groups.roleless or groups.ambiguous):
        return described
    fitting = {role: name for name in reversed(names) if (role := find_role(name))}
    others = (name for name in names if name not in fitting.values())
    chosen = {flag: fitting.get(role) or next(others, "") for role, flag in ROLE_FLAGS.items()}
    return f"{described}; say which with {' '.join(f'{flag} {name}' for flag, name in chosen.items() if name)}"
