"""How much of a checkerboard an upsampling left in a map.

A network doubles the size step by step, and whatever differs between the pixels that one step makes of a pixel
repeats every 2 pixels. A head that enlarges by 4 at once leaves 4 as well, and so does every step but the last where
the layers behind it do not smooth it away. The figure takes both periods, the same for all networks, so that it
compares them.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

WINDOW = 16  # pixels; resolves the four frequencies and keeps a pattern that comes and goes along an outline
LINES = 16  # rows and columns looked at; all of them cost four times as much and tell the same to a tenth


@lru_cache(maxsize=8)
def build_waves(device: torch.device) -> Float[Tensor, "window parts"]:
    """Cosines, then sines, of periods 8, 4, 8/3 and 2 pixels under a Hann window that adds up to 1."""
    n = torch.arange(WINDOW, device=device, dtype=torch.float32)
    phase = 2 * torch.pi * n[:, None] * torch.tensor([1 / 8, 1 / 4, 3 / 8, 1 / 2], device=device)
    hann = (1 - torch.cos(2 * torch.pi * n / WINDOW)) / WINDOW
    return torch.cat((phase.cos(), phase.sin()), 1) * hann[:, None]


def cut_row_windows(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c n window"]:
    """Stretches of `WINDOW` pixels of every n-th row, n odd: so rows of all phases of a period of 2 or 4 are there."""
    height, width = maps.shape[2:]
    return maps[:, :, :: height // LINES | 1, : width - width % WINDOW].reshape(*maps.shape[:2], -1, WINDOW)


def checkerboard(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Strength of the patterns of period 2 and 4 in each image, as their deviation in the unit of the maps.

    What counts is the power at these periods beyond that of the neighbouring ones, 8 and 8/3: the spectrum of a scene
    falls with the frequency, edges included, and only a pattern makes it rise again. So no truth is needed: a smooth
    map, a sharp outline or blocks of repeated pixels have 0, a checkerboard in black and white 0.5, stripes 0.35.
    Outlines hide patterns below a hundredth. A deviation and no share of the energy, as all networks predict the same
    scenes in the same unit.

    Args:
        maps: Predictions of at least 16 px a side; the mean over channels is taken.

    Source: Odena et al. 2016, doi:10.23915/distill.00003, for the artefact; the figure is this project's.
    """
    maps = maps.float()
    windows = torch.cat((cut_row_windows(maps), cut_row_windows(maps.transpose(2, 3))), 2)
    parts = (windows @ build_waves(maps.device)).square().mean(2)
    eighth, quarter, three_eighths, half = (parts[..., :4] + parts[..., 4:]).unbind(2)
    at_four = 2 * (quarter - (eighth * three_eighths).sqrt()).clamp_min(0)  # half of a wave's power lies at -1 / 4
    at_two = (half - three_eighths).clamp_min(0)
    return (at_four + at_two).sqrt().mean(1)
