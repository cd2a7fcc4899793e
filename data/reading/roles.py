"""Find the roles of folders and files by the whole words of their names. Nothing is read from disk."""

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from models.config import TASKS

Tree = Mapping[str, Sequence[str]]  # folder relative to the root ("" for the root) -> names of its image files

# Tried in this order: `fg_bg_masks` is a mask folder although it also contains fg_bg, `gt_depth` a depth folder.
_ROLE_WORDS = (
    ("mask", "mask masks matte mattes alpha alphas segm segmentation segmentations segmentationclass"),
    ("depth", "depth depths depthmap depthmaps disparity disparities disp"),
    ("mask", "gt groundtruth annotation annotations label labels"),
    ("image", "image images img imgs rgb photo photos color colors colour colours fgbg composite composites"),
    ("image", "picture pictures input inputs original originals jpegimages"),
)
_WORDS = [(role, frozenset(words.split())) for role, words in _ROLE_WORDS]
_PLAIN_NAMES = {"mask": ("masks", "mask"), "depth": ("depth", "depths"), "image": ("images", "image")}
_SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SPLIT_WORDS |= dict.fromkeys(("val", "valid", "validation"), "val")
_BETWEEN_CASES = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

Key = tuple[str | None, str]  # split and scene, which the folders of one group share


@dataclass(frozen=True)
class FolderGroup:
    """Folders whose files belong together: of one split and one scene."""

    split: str | None  # "train", "val", "test" or None
    scene: str  # path of the scene's sub-folder; "" if there is none
    members: dict[str, tuple[str, Sequence[str]]]  # role -> folder and the names of the image files with that role


@dataclass
class Groups:
    """The groups of a data set, and the folders of which it is unclear which one has a role."""

    complete: list[FolderGroup] = field(default_factory=list)  # with images, and masks or depth
    without_truth: list[FolderGroup] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)  # role -> folders
    roleless: list[str] = field(default_factory=list)


def split_words(name: str) -> list[str]:
    """Return the words of a name in lower case: `gtFine_labelIds` has gt, fine, label and ids."""
    spaced = _BETWEEN_CASES.sub(" ", unicodedata.normalize("NFC", name))
    return [word.lower() for word in re.findall(r"[^\W\d_]+", spaced)]


def find_role(name: str) -> str | None:
    """Return "image", "mask" or "depth" if a whole word of a name says so; `fg_bg` counts as one word."""
    words = split_words(name)
    found = {*words, *(first + second for first, second in itertools.pairwise(words))}
    return next((role for role, known in _WORDS if known & found), None)


def find_split(name: str) -> str | None:
    """Return the split in a name: `train`, `val_masks`, but not `train_of_thought`."""
    known = frozenset().union(*(words for _, words in _WORDS))
    left = [word for word in split_words(name) if word not in known]
    return _SPLIT_WORDS.get(left[0]) if len(left) == 1 else None


def find_candidates(folders: Iterable[str], role: str) -> list[str]:
    """Return the folders whose names show a role; the image folder may be the only folder without any role."""
    role_of = {folder: find_role(folder.rpartition("/")[2]) for folder in sorted(folders)}
    left = [folder for folder in role_of if role_of[folder] is None]
    found = [folder for folder in role_of if role_of[folder] == role]
    return _prefer_plain_name(role, found) or (left if role == "image" and len(left) == 1 else [])


def _prefer_plain_name(role: str, folders: list[str]) -> list[str]:
    """Return only the folder whose name is nothing but the role, if there is one."""
    last = {folder.rpartition("/")[2].lower(): folder for folder in reversed(folders)}
    return [last[name] for name in _PLAIN_NAMES[role] if name in last][:1] or folders


def group_folders(tree: Tree, configured: Mapping[str, str] | None = None) -> Groups:
    """Group folders by split and scene, with the role of each; if roles are `configured`, ignore all other folders."""
    candidates: dict[Key, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    roleless: list[str] = []
    for folder in tree:
        place = _classify_configured(folder, configured) if configured else _classify(folder)
        if place:
            role, key = place
            candidates[key][role].append(folder)
        elif not configured:
            roleless.append(folder)
    groups = Groups()
    _add_flat_folders(groups, tree, roleless, candidates)
    for key, roles in candidates.items():
        if "image" not in roles:
            roles["image"] = [folder for folder in roleless if key in _possible_keys(PurePosixPath(folder).parts)]
        _add_group(groups, tree, key, {role: folders for role, folders in roles.items() if folders})
    used = {folder for group in groups.complete for folder, _ in group.members.values()}
    groups.roleless = [folder for folder in roleless if folder not in used]
    return groups


def _add_group(groups: Groups, tree: Tree, key: Key, roles: Mapping[str, list[str]]) -> None:
    members = {}
    for role, folders in roles.items():
        chosen = _prefer_plain_name(role, folders)
        if len(chosen) > 1:
            groups.ambiguous.setdefault(role, chosen)
        members[role] = (chosen[0], _select_labels(tree[chosen[0]]) if role == "mask" else tree[chosen[0]])
    if "image" in members:
        has_truth = any(role in members for role in TASKS)
        (groups.complete if has_truth else groups.without_truth).append(FolderGroup(*key, members))


def _add_flat_folders(
    groups: Groups, tree: Tree, roleless: list[str], candidates: dict[Key, dict[str, list[str]]]
) -> None:
    """Add folders that contain several roles, distinguished by words in their file names."""
    of_images = {roles["image"][0]: key for key, roles in candidates.items() if list(roles) == ["image"]}
    for folder in [*roleless, *of_images]:
        by_role: dict[str | None, list[str]] = defaultdict(list)
        for name in tree[folder]:
            by_role[find_role(name.rpartition(".")[0])].append(name)
        images = by_role.get("image") or by_role.get(None)
        truths = {role: by_role[role] for role in TASKS if by_role[role]}
        key = of_images.get(folder) or _split_key(PurePosixPath(folder).parts)
        if not images or not truths or any(role in candidates.get(key, ()) for role in TASKS):
            continue
        if folder in roleless:
            roleless.remove(folder)
        candidates.pop(key, None)
        members: dict[str, tuple[str, Sequence[str]]] = {"image": (folder, images)}
        members |= {role: (folder, _select_labels(names)) for role, names in truths.items()}
        groups.complete.append(FolderGroup(*key, members))


def _classify(folder: str) -> tuple[str, Key] | None:
    """Return role and key of a folder by the deepest part of its path that names a role."""
    parts = PurePosixPath(folder).parts
    for i in reversed(range(len(parts))):
        if role := find_role(parts[i]):
            split, scene = _split_key([*parts[:i], *parts[i + 1 :]])
            return role, (split or find_split(parts[i]), scene)
    return None


def _classify_configured(folder: str, configured: Mapping[str, str]) -> tuple[str, Key] | None:
    above = [(role, top) for role, top in configured.items() if f"{folder}/".startswith(f"{top}/" if top else "")]
    if not above:
        return None
    role, top = max(above, key=lambda one: len(one[1]))  # masks may lie in a sub-folder of the images
    return role, _split_key(PurePosixPath(folder[len(top) :].strip("/")).parts)


def _split_key(parts: Sequence[str]) -> Key:
    """Return the split that one of the parts names, and the other parts."""
    for i, part in enumerate(parts):
        if (split := find_split(part)) and find_role(part) is None:
            return split, "/".join([*parts[:i], *parts[i + 1 :]])
    return None, "/".join(parts)


def _possible_keys(parts: tuple[str, ...]) -> Iterator[Key]:
    """Yield the keys of a folder without a role: as it is, or with one of its parts taken as the name of the images."""
    yield _split_key(parts)
    for i in range(len(parts)):
        yield _split_key([*parts[:i], *parts[i + 1 :]])


def _select_labels(names: Sequence[str]) -> Sequence[str]:
    """Return the label maps alone if there are also coloured copies of them, as in Cityscapes."""
    return [name for name in names if "labelids" in name.lower()] or names
