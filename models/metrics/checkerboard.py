"""Strength of the checkerboard that an upsampling leaves in a map.

A network doubles the size step by step, and any difference between the pixels that one step makes of a pixel repeats
every 2 pixels. A head that enlarges by 4 at once leaves period 4 as well, and so does every step but the last unless
the layers behind it smooth it away. The metric covers both periods for all networks, so that it compares them.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

WINDOW = 16  # pixels; resolves the four frequencies and detects a pattern that comes and goes along an outline
LINES = 16  # rows and columns that are read; all of them cost four times as much and change the value by a tenth


@lru_cache(maxsize=8)
def build_waves(device: torch.device) -> Float[Tensor, "window parts"]:
    """Return cosines, then sines, of periods 8, 4, 8/3 and 2 pixels under a Hann window that sums to 1."""
    n = torch.arange(WINDOW, device=device, dtype=torch.float32)
    phase = 2 * torch.pi * n[:, None] * torch.tensor([1 / 8, 1 / 4, 3 / 8, 1 / 2], device=device)
    hann = (1 - torch.cos(2 * torch.pi * n / WINDOW)) / WINDOW
    return torch.cat((phase.cos(), phase.sin()), 1) * hann[:, None]


def cut_row_windows(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c n window"]:
    """Return stretches of `WINDOW` pixels of every n-th row; n is odd, which covers all phases of periods 2 and 4."""
    height, width = maps.shape[2:]
    return maps[:, :, :: height // LINES | 1, : width - width % WINDOW].reshape(*maps.shape[:2], -1, WINDOW)


def checkerboard(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Strength of the patterns of period 2 and 4 in each image, as their std in the unit of the maps.

    It is the power at these periods beyond that of the neighbouring ones, 8 and 8/3: the spectrum of a scene, edges
    included, falls with the frequency, and only a pattern makes it rise again. So no truth is needed: a smooth map, a
    sharp outline or blocks of repeated pixels have 0, a black and white checkerboard 0.5, stripes 0.35. Outlines hide
    patterns below a hundredth. It is a std rather than a share of the energy because all networks predict the same
    scenes in the same unit.

    Args:
        maps: Predictions of at least 16 px a side; the mean over channels is taken.

    Source: Odena et al. 2016, doi:10.23915/distill.00003, for the artefact; the metric is this project's.
    """
    maps = maps.float()
    windows = torch.cat((cut_row_windows(maps), cut_row_windows(maps.transpose(2, 3))), 2)
    parts = (windows @ build_waves(maps.device)).square().mean(2)
    eighth, quarter, three_eighths, half = (parts[..., :4] + parts[..., 4:]).unbind(2)
    at_four = 2 * (quarter - (eighth * three_eighths).sqrt()).clamp_min(0)  # half of a wave's power lies at -1 / 4
    at_two = (half - three_eighths).clamp_min(0)
    return (at_four + at_two).sqrt().mean(1)
