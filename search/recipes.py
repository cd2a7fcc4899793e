"""The original study's networks, losses and policies as configurations, at its widths. Nothing here is searched.

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


def recipe(name: str, *, width: int | None = None) -> TrialConfig:
    """Return the study's configuration of that name, at another width where one is given.

    Raises:
        KeyError: No such recipe; the message lists the names.
    """
    if name not in RECIPES:
        raise KeyError(f"no recipe {name!r}; choose from {', '.join(RECIPES)}")
    sections = {section: dict(values) for section, values in RECIPES[name].items()}
    if width is not None:
        sections["model"]["width"] = width
    return TrialConfig.from_dict(sections)
