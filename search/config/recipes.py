"""Configurations without a search: named recipes, and grids of configurations from a JSON file.

Recipes are the original study's networks, losses and policies at its widths, and the portfolio. Names joined by
"+" are merged: `resnet18_ed+l1_ms_ssim` is the study's ResNet18 with its last loss. An entry of a grid starts from its
recipe, if it names one. Keys `section/field`, or whole sections as in best/config.json, replace its values, and
`product` gives one configuration for each combination of its lists; see search/README.md.

    python -m search.config.recipes          prints the recipes' costs as a table
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.runtime import cli
from models.config import ConfigError
from models.cost import count_macs, measure_receptive_field, probe
from search.config.stages import CONFIRM_FROM
from search.config.trial import TrialConfig

Sections = dict[str, dict[str, Any]]

_LOSS_FIELDS = ("mask_pixel", "mask_structural", "mask_alpha", "depth_pixel", "depth_structural", "depth_alpha")
_LOSS_TABLE = {
    "mse_ssim": ("mse", "none", 1.0, "l1", "ssim", 0.0),  # loss of the study's first four networks
    "l1_ms_ssim": ("l1", "ms_ssim", 0.16, "l1", "ms_ssim", 0.16),  # loss of its last network
    # on real composites the depth RMSE is .102 without the SSIM and .088 with it
    "bce_dice_l1_ssim": ("bce", "dice", 0.5, "l1", "ssim", 0.5),
    "bce_dice_l1": ("bce", "dice", 0.84, "l1", "none", 1.0),  # found by a search on the built-in scenes
}
LOSSES: dict[str, dict[str, Any]] = {
    name: dict(zip(_LOSS_FIELDS, values, strict=True)) for name, values in _LOSS_TABLE.items()
}
_ONE_CYCLE = {"loss": LOSSES["mse_ssim"], "schedule": {"policy": "one_cycle"}}
RECIPES: dict[str, Sections] = {
    "atrous_first": {
        "model": {"arch": "atrous", "width": 32, "dilations": [2, 4, 8], "upsample": "transposed"},
        **_ONE_CYCLE,
    },
    "atrous_second": {"model": {"arch": "atrous", "width": 32, "dilations": [2, 3, 4]}, **_ONE_CYCLE},
    "residual": {"model": {"arch": "residual", "width": 32, "dilations": [2, 3, 4]}, **_ONE_CYCLE},
    "resnet18_ed": {"model": {"arch": "resnet18_ed", "width": 16}, **_ONE_CYCLE},
    "unet": {
        "model": {"arch": "unet", "width": 16},
        "loss": LOSSES["l1_ms_ssim"],
        "schedule": {"policy": "one_cycle+triangular2"},
        "augment": {"flip": 0.5, "rotate": 0.3, "blur": 0.3, "brightness_contrast": 0.5, "grayscale": 0.3},
    },
}

# The configurations that a search tries first, best first; `python -m search.study.portfolio` chooses it and writes the
# file.
PORTFOLIO_FILE = Path(__file__).parent / "portfolio.json"
PORTFOLIO: dict[str, Sections] = json.loads(PORTFOLIO_FILE.read_text(encoding="utf-8"))["configurations"]

NETWORKS = PORTFOLIO | RECIPES  # in the order in which a search tries them
# Options that make training on rendered scenes depend less on the renderer: with 6,400 scenes of 128 px (one seed), IoU
# on 40 photos is 0.36 instead of 0.30. With composites and scenes they lower the validation score by 0.02 and help on
# images from elsewhere only in long trainings: IoU on 29 composites is 0.72 with and without them after 12,800 images
# of 160 px, 0.74 instead of 0.72 after 38,400.
VARIED = "varied"
KNOWN: dict[str, Sections] = {
    **NETWORKS,
    VARIED: {"augment": {"zoom": 0.5, "blur": 0.3, "grayscale": 0.3}},
    "study": RECIPES["unet"],  # the study's last configuration
    **{name: {"loss": fields} for name, fields in LOSSES.items()},
}
PUBLISHED = {"atrous_second": 893_792, "residual": 893_792, "resnet18_ed": 11_504_720, "unet": 2_317_200}
TABLE_PX = 80


def build_recipe(name: str, *, width: int | None = None) -> TrialConfig:
    """Build the configuration of that name, or of several joined by "+", with a network of that width.

    Fields of later names override those of earlier ones; a network replaces a network. Raise ConfigError if a name is
    unknown or no name is a network.
    """
    sections: Sections = {}
    for part in name.split("+"):
        if part not in KNOWN:
            raise ConfigError(f"no recipe {part!r}; choose from {', '.join(KNOWN)}")
        for section, fields in KNOWN[part].items():
            kept = {} if section == "model" else sections.get(section, {})
            sections[section] = {**kept, **fields}
    if "model" not in sections:
        raise ConfigError(f"recipe {name!r} names no network; join one of {', '.join(NETWORKS)}, like unet+{name}")
    if width is not None:
        sections["model"]["width"] = width
    return TrialConfig.from_dict(sections)


def list_tried_first(first: str, *, trainings: float | None, drawn: bool) -> tuple[str, ...]:
    """Return the names of the recipes that a search tries first, in order, by the value of `--first`.

    The study's recipes are too slow for fewer than CONFIRM_FROM full trainings. `drawn` states that all images are
    rendered.
    """
    portfolio = [f"{name}+{VARIED}" if drawn else name for name in PORTFOLIO]
    if first == "nothing":
        return ()
    if first == "study":
        return *RECIPES, *portfolio
    return *portfolio, *(RECIPES if trainings is None or trainings >= CONFIRM_FROM else ())


def describe_cost(name: str) -> dict[str, str]:
    """Return the row of a network's recipe in the table of costs, by column."""
    config = build_recipe(name)
    loss = config.to_dict()["loss"]
    return {
        "recipe": name,
        "network": f"{config.model.arch}, width {config.model.width}",
        "loss": next((known for known, fields in LOSSES.items() if fields.items() <= loss.items()), "-"),
        "policy": config.schedule.policy,
        "parameters": f"{probe(config.model).params:,}",
        "in the study": f"{PUBLISHED[name]:,}" if name in PUBLISHED else "-",
        f"multiply-adds at {TABLE_PX} px": f"{count_macs(config.model, TABLE_PX) / 1e6:,.0f} M",
        "receptive field": str(measure_receptive_field(config.model)),
    }


def print_table() -> None:
    """Print the costs of each network's recipe as a Markdown table, and the recipes without a network."""
    rows = [describe_cost(name) for name in NETWORKS]
    for cells in (rows[0], ["---"] * len(rows[0]), *(row.values() for row in rows)):
        print(f"| {' | '.join(cells)} |")
    parts = ", ".join(name for name, sections in KNOWN.items() if "model" not in sections)
    print(f"\nWith a network, joined by +: {parts}")


def read_grid(path: Path) -> list[TrialConfig]:
    """Return the configurations of a grid file in order; raise ConfigError if one is not valid."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--grid {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"--grid {path}: is not JSON ({error})") from error
    entries = content if isinstance(content, list) else [content]
    if not entries:
        raise ConfigError(f"--grid {path}: has no configuration; write a list of entries")
    configs = []
    for number, entry in enumerate(entries, start=1):
        try:
            configs += list(expand_entry(entry))
        except ConfigError as error:
            raise ConfigError(f"--grid {path}: entry {number}: {error}") from error
    return configs


def expand_entry(entry: Any) -> Iterator[TrialConfig]:
    """Yield the configurations of one entry; raise ConfigError if a key, a value or the form is not allowed."""
    configured = entry.get("config", entry) if isinstance(entry, dict) else entry
    if not isinstance(configured, dict):
        raise ConfigError(f"{configured!r} is not an object with keys section/field")
    configured = dict(configured)
    start, product = configured.pop("recipe", None), configured.pop("product", {})
    if not isinstance(product, dict) or not all(isinstance(v, list) and v for v in product.values()):
        raise ConfigError('"product" must give a list of values for each key')
    base = {} if start is None else build_recipe(str(start)).flatten()
    for values in itertools.product(*product.values()):
        yield _merge_config(base, {**flatten(configured), **dict(zip(product, values, strict=True))})


def flatten(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry with keys `section/field` in place of whole sections."""
    keys: dict[str, Any] = {}
    for key, value in entry.items():
        keys |= {f"{key}/{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return keys


def _merge_config(base: dict[str, Any], configured: dict[str, Any]) -> TrialConfig:
    """Replace values of a recipe; if the architecture changes, its model options are dropped."""
    if configured.get("model/arch", base.get("model/arch")) != base.get("model/arch"):
        base = {key: value for key, value in base.items() if not key.startswith("model/")}
    merged = {**base, **configured}
    if "model/arch" not in merged:
        raise ConfigError('names no network; give "recipe" or "model/arch"')
    return TrialConfig.from_flat(merged)


if __name__ == "__main__":
    raise SystemExit(cli.run(print_table))
