"""Which folders hold images, masks and depth, and which of their files belong together.

Pure functions over names: this file reads nothing from disk and raises nothing; `data.reading.layout` does both.
"""

import re
from collections.abc import Callable, Iterable, Sequence

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"})  # file name endings
STUDY_GROUP_SIZE = 4000  # consecutive composites of one background in the original study

# The order is the order of decision: `fg_bg_masks` is a mask folder although it also says fg_bg.
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
    """Tell by a file's name whether it is a picture."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES and name[0] != "."


def assign_roles(names: Iterable[str]) -> dict[str, list[str]]:
    """Sort folder names into roles.

    Args:
        names: Names of the sub-folders of a data set.

    Returns:
        Candidates under "image", "mask", "depth": one is a decision, several are an ambiguity, none a lack.
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
    """Find the partner of each image by equal stems, by stems without role words, or by their numbers.

    The way that finds most partners wins, the stricter at a tie; a way that confuses two files is not taken.

    Args:
        images: File names of the image folder.
        others: File names of the mask or depth folder.

    Returns:
        Image file name -> partner's file name; images without a partner are left out.
    """
    best: dict[str, str] = {}
    for key in (_same_stem, _without_role_words, _numbers):
        partner = _by_key(others, key)
        image = _by_key(images, key)
        pairs = {image[k]: partner[k] for k in image.keys() & partner.keys()}
        if len(pairs) > len(best):
            best = pairs
        if len(best) == len(images):
            break
    return best


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts `a9` before `a10`."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def group_backgrounds(stems: Sequence[str], group_size: int | None) -> list[str]:
    """Name the background of each image of a folder without a manifest.

    Stated groups are consecutive files; gaps in the numbering do not shift them. Without a statement, names
    like `bg001fg002_3` tell the background, and more than 4,000 files are taken for the study's (4,000 each).

    Args:
        stems: Image stems in natural order.
        group_size: Consecutive files that share a background, or None where nothing is stated.

    Returns:
        One name per stem; all are "unknown" where nothing tells the backgrounds apart.

    Source: the original study numbers 100 backgrounds x 4,000 composites consecutively.
    """
    if group_size is None:
        named = [_background_in_name(stem) for stem in stems]
        if all(name is not None for name in named):
            return [f"bg{name}" for name in named]
        if len(stems) <= STUDY_GROUP_SIZE:
            return ["unknown"] * len(stems)
    positions = _positions(stems)
    return [f"group{position // (group_size or STUDY_GROUP_SIZE):05d}" for position in positions]


def _background_in_name(stem: str) -> str | None:
    background = _BACKGROUND_NUMBER.search(stem.lower())
    return background[1] if background and _FOREGROUND_NUMBER.search(stem.lower()) else None


def _positions(stems: Sequence[str]) -> list[int]:
    """Place in the sequence: the file's number where all share one numbered name, else its rank."""
    split = [re.fullmatch(r"(\D*)(\d+)(\D*)", stem) for stem in stems]
    numbered = [match for match in split if match]
    if len(numbered) < len(stems) or len({(match[1], match[3]) for match in numbered}) > 1:
        return list(range(len(stems)))
    numbers = [int(match[2]) for match in numbered]
    first = 0 if 0 in numbers else 1
    return [number - first for number in numbers]


def _by_key(names: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    keyed = {key(name.rpartition(".")[0]): name for name in names}
    return keyed if len(keyed) == len(names) and "" not in keyed else {}


def _same_stem(stem: str) -> str:
    return stem


def _without_role_words(stem: str) -> str:
    return re.sub(r"[\W_]+", "_", _ROLE_TOKEN.sub("", stem.lower())).strip("_")


def _numbers(stem: str) -> str:
    return "_".join(str(int(digits)) for digits in re.findall(r"\d+", stem))
