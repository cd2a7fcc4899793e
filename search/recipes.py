"""The original study's networks, losses and policies as configurations, at its widths; and two quick starters.

Source: the course study this project grew from; see README, Sources.
"""

from typing import Any

from search.config import TrialConfig

_FIRST_LOSS = {
    "mask_pixel": "mse",
    "mask_structural": "none",
    "depth_pixel": "l1",
    "depth_structural": "ssim",
    "mask_alpha": 1.0,
    "depth_alpha": 0.0,
}
_L1_MS_SSIM = {
    "mask_pixel": "l1",
    "mask_structural": "ms_ssim",
    "mask_alpha": 0.16,
    "depth_pixel": "l1",
    "depth_structural": "ms_ssim",
    "depth_alpha": 0.16,
}
_AUGMENT = {"flip": 0.5, "rotate": 0.3, "blur": 0.3, "brightness_contrast": 0.5, "grayscale": 0.3}

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "atrous_first": {
        "model": {"arch": "atrous", "width": 32, "dilations": [2, 4, 8], "upsample": "transposed"},
        "loss": _FIRST_LOSS,
        "schedule": {"policy": "one_cycle"},
    },
    "atrous_second": {
        "model": {"arch": "atrous", "width": 32, "dilations": [2, 3, 4], "upsample": "pixel_shuffle"},
        "loss": _FIRST_LOSS,
        "schedule": {"policy": "one_cycle"},
    },
    "residual": {
        "model": {"arch": "residual", "width": 32, "dilations": [2, 3, 4], "upsample": "pixel_shuffle"},
        "loss": _FIRST_LOSS,
        "schedule": {"policy": "one_cycle"},
    },
    "resnet18_ed": {
        "model": {"arch": "resnet18_ed", "width": 16},
        "loss": _FIRST_LOSS,
        "schedule": {"policy": "one_cycle"},
    },
    "unet": {
        "model": {"arch": "unet", "width": 16},
        "loss": _L1_MS_SSIM,
        "schedule": {"policy": "one_cycle+triangular2"},
        "augment": _AUGMENT,
    },
}


# What did well on real composites in a few minutes of two cores, tried after the study's own. They halve or quarter the
# resolution inside, and pair an overlap loss with SSIM on the depth (measured: depth RMSE .102 without it, .088 with).
_QUICK_LOSS = {
    "mask_pixel": "bce",
    "mask_structural": "dice",
    "mask_alpha": 0.5,
    "depth_pixel": "l1",
    "depth_structural": "ssim",
    "depth_alpha": 0.5,
}
STARTERS: dict[str, dict[str, dict[str, Any]]] = {
    "quick_residual": {
        "model": {
            "arch": "residual",
            "width": 16,
            "stem_stride": 4,
            "dilations": [2, 4, 8],
            "upsample": "pixel_shuffle",
        },
        "loss": _QUICK_LOSS,
        "optim": {"lr": 1e-2, "batch_size": 8},
        "augment": {"flip": 0.5, "brightness_contrast": 0.5},
    },
    "quick_unet": {
        "model": {"arch": "unet", "width": 4, "stem_stride": 2},
        "loss": _QUICK_LOSS,
        "optim": {"lr": 1e-2, "batch_size": 8},
        "augment": {"flip": 0.5, "brightness_contrast": 0.5},
    },
}


def recipe(name: str, *, width: int | None = None) -> TrialConfig:
    """Return the configuration of that name, the study's or a starter, at another width where one is given.

    Raises:
        KeyError: No such recipe; the message lists the names.
    """
    known = RECIPES | STARTERS
    if name not in known:
        raise KeyError(f"no recipe {name!r}; choose from {', '.join(known)}")
    sections = {section: dict(values) for section, values in known[name].items()}
    if width is not None:
        sections["model"]["width"] = width
    return TrialConfig.from_dict(sections)
