"""Warn of what a split by background leaves out, of leaks that remain, and of scores from few backgrounds."""

from data.reading.splits import Splits, list_shared
from data.runtime.cli import format_count

FEW_BACKGROUNDS = 10  # number of validation backgrounds below which the user is told how reliable the score is
SCORE_SPREAD = 0.5  # half the 95 % interval of the mean IoU of one background: twice a std of 0.25 between backgrounds


def list_split_warnings(splits: Splits) -> list[str]:
    """Return the warnings below that apply to a split by background, or to one that the data set defines."""
    warn = (describe_mixed_triplets, describe_shared_foregrounds, describe_shared_backgrounds, describe_reliability)
    return [warning for describe in warn if (warning := describe(splits))]


def describe_mixed_triplets(splits: Splits) -> str:
    """Return how many triplets are in no split because of their foreground, "" if all are used."""
    if not splits.mixed:
        return ""
    share = f"{splits.mixed:,} of {splits.mixed + sum(splits.sizes().values()):,} triplets"
    return f"{share} are not used: their foreground belongs to another split than their background"


def describe_shared_foregrounds(splits: Splits) -> str:
    """Return how many foregrounds are in more than one split, "" if none is."""
    count = len(list_shared(splits, lambda triplet: triplet.foregrounds))
    are = f"{format_count(count, 'foreground')} {'is' if count == 1 else 'are'}"
    return f"{are} in more than one split, so scores are too optimistic; see split in data/README.md" if count else ""


def describe_shared_backgrounds(splits: Splits) -> str:
    """Return how many known backgrounds are in more than one split, which the data set then defines; "" if none is."""
    count = len(list_shared(splits, lambda triplet: [triplet.background] if triplet.has_known_background else []))
    are = f"{format_count(count, 'background')} {'is' if count == 1 else 'are'}"
    return f"{are} in more than one split that the data set defines, so the scores are too optimistic" if count else ""


def describe_reliability(splits: Splits) -> str:
    """Return how reliable the scores are if few backgrounds validate, "" if enough do."""
    backgrounds = len({triplet.background for triplet in splits.val})
    if backgrounds >= FEW_BACKGROUNDS:
        return ""
    images, tested = len(splits.val), len(splits.test)
    seen = f"the validation split has {format_count(images, 'image')} of {format_count(backgrounds, 'background')}"
    test = f"the test split {format_count(tested, 'image')}" if tested else "there is no test split"
    worth = SCORE_SPREAD / backgrounds**0.5
    return f"{seen}, {test}: differences of scores below {worth:.2f} may be chance; add images of more backgrounds"
