"""The original study's networks, losses and policies as configurations, at its widths; and two quick starters.

Names joined by "+" are laid over each other: `resnet18_ed+l1_ms_ssim` is the study's ResNet18 with its last loss.

    python -m search.recipes          writes what each of them costs as a table

Source: the course study this project grew from; see README, Sources.
"""

from collections.abc import Iterable
from typing import Any

from models.config import ConfigError
from models.cost import measure_cost, measure_output_field
from search.config.trial import TrialConfig

Sections = dict[str, dict[str, Any]]

LOSSES: dict[str, dict[str, Any]] = {
    "mse_ssim": {  # of the study's first four networks: MSE of the mask, SSIM of the depth
        "mask_pixel": "mse",
        "mask_structural": "none",
        "mask_alpha": 1.0,
        "depth_pixel": "l1",
        "depth_structural": "ssim",
        "depth_alpha": 0.0,
    },
    "l1_ms_ssim": {  # of its last: 0.16 L1 + 0.84 MS-SSIM, for both
        "mask_pixel": "l1",
        "mask_structural": "ms_ssim",
        "mask_alpha": 0.16,
        "depth_pixel": "l1",
        "depth_structural": "ms_ssim",
        "depth_alpha": 0.16,
    },
    "bce_dice_l1_ssim": {  # of the starters; depth RMSE .102 without the SSIM, .088 with it, on real composites
        "mask_pixel": "bce",
        "mask_structural": "dice",
        "mask_alpha": 0.5,
        "depth_pixel": "l1",
        "depth_structural": "ssim",
        "depth_alpha": 0.5,
    },
}
_AUGMENT = {"flip": 0.5, "rotate": 0.3, "blur": 0.3, "brightness_contrast": 0.5, "grayscale": 0.3}

RECIPES: dict[str, Sections] = {
    "atrous_first": {
        "model": {"arch": "atrous", "width": 32, "dilations": [2, 4, 8], "upsample": "transposed"},
        "loss": LOSSES["mse_ssim"],
        "schedule": {"policy": "one_cycle"},
    },
    "atrous_second": {
        "model": {"arch": "atrous", "width": 32, "dilations": [2, 3, 4], "upsample": "pixel_shuffle"},
        "loss": LOSSES["mse_ssim"],
        "schedule": {"policy": "one_cycle"},
    },
    "residual": {
        "model": {"arch": "residual", "width": 32, "dilations": [2, 3, 4], "upsample": "pixel_shuffle"},
        "loss": LOSSES["mse_ssim"],
        "schedule": {"policy": "one_cycle"},
    },
    "resnet18_ed": {
        "model": {"arch": "resnet18_ed", "width": 16},
        "loss": LOSSES["mse_ssim"],
        "schedule": {"policy": "one_cycle"},
    },
    "unet": {
        "model": {"arch": "unet", "width": 16},
        "loss": LOSSES["l1_ms_ssim"],
        "schedule": {"policy": "one_cycle+triangular2"},
        "augment": _AUGMENT,
    },
}

# What did well on real composites in a few minutes of two cores, tried after the study's own. They halve or quarter the
# resolution inside, and pair an overlap loss with SSIM on the depth.
STARTERS: dict[str, Sections] = {
    "quick_residual": {
        "model": {
            "arch": "residual",
            "width": 16,
            "stem_stride": 4,
            "dilations": [2, 4, 8],
            "upsample": "pixel_shuffle",
        },
        "loss": LOSSES["bce_dice_l1_ssim"],
        "optim": {"lr": 1e-2, "batch_size": 8},
        "augment": {"flip": 0.5, "brightness_contrast": 0.5},
    },
    "quick_unet": {
        "model": {"arch": "unet", "width": 4, "stem_stride": 2},
        "loss": LOSSES["bce_dice_l1_ssim"],
        "optim": {"lr": 1e-2, "batch_size": 8},
        "augment": {"flip": 0.5, "brightness_contrast": 0.5},
    },
}

NETWORKS = RECIPES | STARTERS
KNOWN: dict[str, Sections] = {
    **NETWORKS,
    "study": RECIPES["unet"],  # where the study ended
    **{name: {"loss": fields} for name, fields in LOSSES.items()},
}
PUBLISHED = {"atrous_second": 893_792, "residual": 893_792, "resnet18_ed": 11_504_720, "unet": 2_317_200}
TABLE_PX = 80
COLUMNS = (
    "recipe",
    "network",
    "loss",
    "policy",
    "parameters",
    "in the study",
    f"multiply-adds at {TABLE_PX} px",
    "layers",
    "field, deepest feature",
    "field, output",
)


def build_recipe(name: str, *, width: int | None = None) -> TrialConfig:
    """Return the configuration of that name, the study's or a starter, at another width where one is given.

    Args:
        name: One of KNOWN, or several joined by "+": fields of later ones override, a network replaces a network.
        width: Instead of the network's own.

    Raises:
        ConfigError: No such recipe (lists the names), no network among them, or a width that is too small.
    """
    sections: Sections = {}
    for part in name.split("+"):
        if part not in KNOWN:
            raise ConfigError(f"no recipe {part!r}; choose from {', '.join(KNOWN)}")
        for section, fields in KNOWN[part].items():
            kept = {} if section == "model" else sections.get(section, {})
            sections[section] = {**kept, **fields}
    if "model" not in sections:
        raise ConfigError(f"recipe {name!r} names no network; join one of {', '.join(NETWORKS)}, as in unet+{name}")
    if width is not None:
        sections["model"]["width"] = width
    return TrialConfig.from_dict(sections)


def table() -> str:
    """Return what each network of the recipes costs, as a Markdown table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(_row(name) for name in NETWORKS)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(name: str) -> Iterable[str]:
    config = build_recipe(name)
    price = measure_cost(config.model, TABLE_PX)
    loss = next(known for known, fields in LOSSES.items() if fields == NETWORKS[name]["loss"])
    published = f"{PUBLISHED[name]:,}" if name in PUBLISHED else "–"  # noqa: RUF001 - a dash for nothing
    return [
        name,
        f"{config.model.arch}, width {config.model.width}",
        loss,
        config.schedule.policy,
        f"{price.params:,}",
        published,
        f"{price.macs / 1e6:,.0f} M",
        str(price.layers),
        str(price.receptive_field),
        str(measure_output_field(config.model)),
    ]


if __name__ == "__main__":
    print(table())
