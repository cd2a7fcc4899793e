"""Match names: masks and depth maps to images, images to backgrounds. Nothing is read from disk."""

import itertools
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Sequence

from data.dataset import UNKNOWN_BACKGROUND

# File name endings; HEIC needs the package pillow-heif, EXR the package OpenEXR.
PHOTO_SUFFIXES = frozenset(
    "jpg jpeg jfif png bmp tif tiff webp gif avif heic heif jp2 j2k ppm pgm pbm pnm".split()  # noqa: SIM905
)
VALUE_SUFFIXES = frozenset({"npy", "exr", "pfm"})  # suffixes of masks and depth maps, never of images
IMAGE_SUFFIXES = PHOTO_SUFFIXES | VALUE_SUFFIXES
STUDY_GROUP_SIZE = 4000  # consecutive composites of one background in the original study

_ROLE_TOKEN = re.compile(
    r"fg_?bg|left_?img8bit|images?|img|rgb|masks?|depths?|disparity|label_?(?:train_?)?ids?|gt_?fine"
    r"|(?<![a-z])(?:sync|colou?r|labels?|mattes?|alphas?|gt|seg(?:mentation)?|original|photo)(?![a-z])"
)
_NUMBER, _SEPARATORS = re.compile(r"(\d+)"), re.compile(r"[\W_]+")
_STUDY_NAME = re.compile(r"fg_?bg_?\d+")
_BACKGROUND_NUMBER = re.compile(r"(?<![a-z])bg[_-]?(\d+)")
_FOREGROUND_NUMBER = re.compile(r"(?<![a-z])fg[_-]?(\d+)|\dfg[_-]?(\d+)")


def is_image_name(name: str, suffixes: Container[str] = IMAGE_SUFFIXES) -> bool:
    """Return True if a file name has one of the suffixes, in capitals or not, and is not hidden."""
    return name.rpartition(".")[2].lower() in suffixes and name[0] != "."


def pair_files(images: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Find the partner of each image by equal stems, by stems without role words, or by numbers.

    The key that finds most partners is used (at a tie, the stricter one), unless two files share it. Files that share a
    stem (see `find_twins`) have no partner.
    """
    best: dict[str, str] = {}
    images, others = _drop_twins(images), _drop_twins(others)
    for key in (normalise_unicode, _strip_role_words, _extract_numbers):
        partner = _index_by(others, key)
        image = _index_by(images, key)
        pairs = {image[k]: partner[k] for k in image.keys() & partner.keys()}
        if len(pairs) > len(best):
            best = pairs
        if len(best) == len(images):
            break
    return best


def find_twins(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the file names that share a stem, by that stem; `a.jpg` and `a.png` are twins."""
    names = list(names)
    counts = Counter(map(get_stem, names))
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in names if len(counts) < len(names) else ():
        by_stem[get_stem(name)].append(name)
    return {stem: sorted(twins) for stem, twins in by_stem.items() if len(twins) > 1}


def get_stem(path: str) -> str:
    """Return the file name without its suffix, with composed accents, which macOS stores decomposed."""
    return normalise_unicode(path.rpartition("/")[2].rpartition(".")[0])


def normalise_unicode(name: str) -> str:
    """Return a name with composed accents."""
    return unicodedata.normalize("NFC", name)


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts `a9` before `a10`."""
    parts = _NUMBER.split(name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def group_backgrounds(stems: Sequence[str], group_size: int | None) -> list[str]:
    """Name the background of each image of a folder without a manifest; its stems are in natural order.

    With a group size, groups are consecutive files; gaps in the numbering do not shift them. Without one, names
    like `bg001fg002_3` contain the background, and more than 4,000 files with the study's names, `fgbg000001`, are
    grouped as in the study. All others are "unknown".
    """
    if group_size is None:
        named = [_BACKGROUND_NUMBER.search(s.lower()) if _FOREGROUND_NUMBER.search(s.lower()) else None for s in stems]
        if all(named):
            return [f"bg{found[1]}" for found in named if found]
        if len(stems) <= STUDY_GROUP_SIZE or not all(_STUDY_NAME.fullmatch(stem.lower()) for stem in stems):
            return [UNKNOWN_BACKGROUND] * len(stems)
    return [f"group{position // (group_size or STUDY_GROUP_SIZE):05d}" for position in _number_files(stems)]


def _number_files(stems: Sequence[str]) -> list[int]:
    """Return positions in the sequence: the files' numbers if all share one numbered name, else their ranks.

    If there is only every tenth frame (10, 20, 30), the numbers are divided by ten.
    """
    split = [re.fullmatch(r"(\D*)(\d+)(\D*)", stem) for stem in stems]
    numbered = [match for match in split if match]
    if len(numbered) < len(stems) or len({(match[1], match[3]) for match in numbered}) > 1:
        return list(range(len(stems)))
    numbers = [int(match[2]) for match in numbered]
    step = math.gcd(*(b - a for a, b in itertools.pairwise(sorted(numbers)))) or 1
    first = min(numbers) if step > 1 or 0 in numbers else 1
    return [(number - first) // step for number in numbers]


def _drop_twins(names: Sequence[str]) -> Sequence[str]:
    twins = {name for names in find_twins(names).values() for name in names}
    return [name for name in names if name not in twins] if twins else names


def _index_by(names: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    pairs = [(found, name) for name in names if (found := key(name.rpartition(".")[0]))]
    keyed = dict(pairs)
    return keyed if len(keyed) == len(pairs) else {}


def _strip_role_words(stem: str) -> str:
    return _SEPARATORS.sub("_", _ROLE_TOKEN.sub("", normalise_unicode(stem).lower())).strip("_")


def _extract_numbers(stem: str) -> str:
    return "_".join(str(int(digits)) for digits in re.findall(r"\d+", stem))
