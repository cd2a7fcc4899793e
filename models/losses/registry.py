"""The registry of loss terms, the config that names the terms of a loss, and the values that the search tries."""

from dataclasses import dataclass

from models.config import TASKS, ConfigError, OnlyIf, PlainConfig, Range, Values, check_choice, check_choices
from models.losses.terms import KINDS, MS_SSIM_MIN_PX, Term, bce, dice, l1, ms_ssim_loss, mse, ssim_loss

BALANCES = ("fixed", "adaptive", "uncertainty")
NONE = "none"

TERMS = {
    "l1": Term(l1, "pixel"),
    "mse": Term(mse, "pixel"),
    "bce": Term(bce, "pixel"),
    "dice": Term(dice, "structural", searched_for=("mask",)),  # depth has no foreground to overlap
    "ssim": Term(ssim_loss, "structural"),
    "ms_ssim": Term(ms_ssim_loss, "structural", min_px=MS_SSIM_MIN_PX),
}


def list_terms(kind: str, task: str = "") -> tuple[str, ...]:
    """Return the names of the terms of a kind; with a task, only those that the search tries for it."""
    return tuple(name for name, t in TERMS.items() if t.kind == kind and (not task or task in t.searched_for))


@dataclass(frozen=True, kw_only=True)
class LossConfig(PlainConfig):
    """The loss of a trial: per task alpha * pixel + (1 - alpha) * structural, then a weighted sum."""

    mask_pixel: str = "bce"  # pixel term of the mask
    mask_structural: str = "dice"  # structural term of the mask, or `none`
    # share of the mask's pixel term in [0, 1], unless its structural term is `none`
    mask_alpha: float = 0.5
    depth_pixel: str = "l1"  # pixel term of the depth
    depth_structural: str = "ssim"  # structural term of the depth, or `none`
    depth_alpha: float = 0.5  # share of the depth's pixel term, as for the mask
    mask_weight: float = 1.0  # weight of the mask relative to the depth, above 0
    balance: str = "fixed"  # `fixed`, `adaptive` (raises the mask's while its loss is lower) or `uncertainty` (learnt)
    balance_max: float = 4.0  # largest value of the adaptive factor, at least 1

    def __post_init__(self) -> None:
        for task in TASKS:
            check_choice(f"{task}_pixel", getattr(self, f"{task}_pixel"), list_terms("pixel"))
            structural = getattr(self, f"{task}_structural")
            check_choice(f"{task}_structural", structural, (NONE, *list_terms("structural")))
            alpha = getattr(self, f"{task}_alpha")
            if not 0 <= alpha <= 1:
                raise ConfigError(f"{task}_alpha={alpha!r} must lie between 0 and 1")
        check_choice("balance", self.balance, BALANCES)
        if not self.mask_weight > 0:
            raise ConfigError(f"mask_weight={self.mask_weight!r} must be above 0")
        if not self.balance_max >= 1:
            raise ConfigError(f"balance_max={self.balance_max!r} must be at least 1")

    def get_terms(self, task: str) -> tuple[Term, Term | None]:
        """Return the pixel term and the structural term, if any, of a task."""
        return TERMS[getattr(self, f"{task}_pixel")], TERMS.get(getattr(self, f"{task}_structural"))


ALPHA = Range(0.0, 1.0, step=0.01)  # 0 and 1 select a single term; the study used 0.16
LOSS_CHOICES: dict[str, Values | OnlyIf] = {
    "mask_pixel": list_terms("pixel", "mask"),
    "mask_structural": (NONE, *list_terms("structural", "mask")),
    "mask_alpha": ALPHA,
    "depth_pixel": list_terms("pixel", "depth"),
    "depth_structural": (NONE, *list_terms("structural", "depth")),
    "depth_alpha": ALPHA,
    "mask_weight": Range(0.25, 4.0, log=True),  # a factor of four either way; beyond it one task is hardly trained
    "balance": BALANCES,
    # 1 is `fixed`; above 8, depth barely trains
    "balance_max": OnlyIf("balance", "adaptive", Range(2.0, 8.0, log=True)),
}
check_choices(LossConfig, LOSS_CHOICES)


def register_term(term: Term) -> None:
    """Add a term of a plugin under its function's name; raise ConfigError if the name is taken or the kind unknown."""
    name = term.function.__name__
    if name in (NONE, *TERMS):
        raise ConfigError(f"there is already a loss term {name!r}; rename the function")
    check_choice(f"kind of the loss term {name}", term.kind, KINDS)
    TERMS[name] = term
    for task in term.searched_for:
        values = LOSS_CHOICES[f"{task}_{term.kind}"]
        assert isinstance(values, tuple)
        LOSS_CHOICES[f"{task}_{term.kind}"] = (*values, name)
