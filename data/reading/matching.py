"""Match names: folders to roles, masks and depth maps to images, images to backgrounds. Nothing is read from disk."""

import re
from collections.abc import Callable, Iterable, Sequence

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"})  # file name endings
STUDY_GROUP_SIZE = 4000  # consecutive composites of one background in the original study

# Roles are tried in this order: `fg_bg_masks` is a mask folder although it also contains fg_bg.
_ROLE_WORDS = {
    "mask": ("mask", "matte", "alpha", "segm"),
    "depth": ("depth", "disparity"),
    "image": ("image", "img", "rgb", "photo", "colo", "fgbg", "fg_bg", "composite", "picture", "input"),
}
_PLAIN_NAMES = {"mask": ("masks", "mask"), "depth": ("depth", "depths"), "image": ("images", "image")}
_ROLE_TOKEN = re.compile(r"fg_?bg|images?|img|rgb|masks?|depths?|disparity")
_BACKGROUND_NUMBER = re.compile(r"(?<![a-z])bg[_-]?(\d+)")
_FOREGROUND_NUMBER = re.compile(r"(?<![a-z])fg[_-]?(\d+)|\dfg[_-]?(\d+)")


def is_image_name(name: str) -> bool:
    """Return True if a file name has the suffix of an image."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES and name[0] != "."


def assign_roles(names: Iterable[str]) -> dict[str, list[str]]:
    """Assign sub-folders to roles by their names.

    Args:
        names: Names of the sub-folders of a data set.

    Returns:
        Candidates for "image", "mask" and "depth": several are ambiguous, none means that the role is absent.
    """
    left = sorted(names)
    found: dict[str, list[str]] = {}
    for role, words in _ROLE_WORDS.items():
        candidates = [name for name in left if any(word in name.lower() for word in words)]
        left = [name for name in left if name not in candidates]
        plain = [name for name in candidates if name.lower() in _PLAIN_NAMES[role]]
        found[role] = plain[:1] or candidates
    if not found["image"] and len(left) == 1:
        found["image"] = left
    return found


def pair_files(images: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Find the partner of each image by equal stems, by stems without role words, or by numbers.

    The key that finds most partners wins, the stricter one at a tie; a key that two files share is not used.

    Args:
        images: File names of the image folder.
        others: File names of the mask or depth folder.

    Returns:
        Image file name -> partner's file name; images without a partner are left out.
    """
    best: dict[str, str] = {}
    for key in (str, _strip_role_words, _extract_numbers):
        partner = _index_by(others, key)
        image = _index_by(images, key)
        pairs = {image[k]: partner[k] for k in image.keys() & partner.keys()}
        if len(pairs) > len(best):
            best = pairs
        if len(best) == len(images):
            break
    return best


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts `a9` before `a10`."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def group_backgrounds(stems: Sequence[str], group_size: int | None) -> list[str]:
    """Name the background of each image of a folder without a manifest.

    With a group size, groups are consecutive files; gaps in the numbering do not shift them. Without one, names
    like `bg001fg002_3` contain the background, and more than 4,000 files are grouped as in the study (4,000 each).

    Args:
        stems: Image stems in natural order.
        group_size: Consecutive files that share a background, or None if that is not configured.

    Returns:
        One name per stem; all are "unknown" if the backgrounds cannot be told apart.

    Source: the original study numbers 100 backgrounds x 4,000 composites consecutively.
    """
    if group_size is None:
        named = [_find_background(stem) for stem in stems]
        if all(name is not None for name in named):
            return [f"bg{name}" for name in named]
        if len(stems) <= STUDY_GROUP_SIZE:
            return ["unknown"] * len(stems)
    return [f"group{position // (group_size or STUDY_GROUP_SIZE):05d}" for position in _number(stems)]


def _find_background(stem: str) -> str | None:
    background = _BACKGROUND_NUMBER.search(stem.lower())
    return background[1] if background and _FOREGROUND_NUMBER.search(stem.lower()) else None


def _number(stems: Sequence[str]) -> list[int]:
    """Return positions in the sequence: the files' numbers if all share one numbered name, else their ranks."""
    split = [re.fullmatch(r"(\D*)(\d+)(\D*)", stem) for stem in stems]
    numbered = [match for match in split if match]
    if len(numbered) < len(stems) or len({(match[1], match[3]) for match in numbered}) > 1:
        return list(range(len(stems)))
    numbers = [int(match[2]) for match in numbered]
    first = 0 if 0 in numbers else 1
    return [number - first for number in numbers]


def _index_by(names: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    keyed = {key(name.rpartition(".")[0]): name for name in names}
    return keyed if len(keyed) == len(names) and "" not in keyed else {}


def _strip_role_words(stem: str) -> str:
    return re.sub(r"[\W_]+", "_", _ROLE_TOKEN.sub("", stem.lower())).strip("_")


def _extract_numbers(stem: str) -> str:
    return "_".join(str(int(digits)) for digits in re.findall(r"\d+", stem))
