"""How much of a checkerboard an upsampling left in a map."""

import torch
from jaxtyping import Float
from torch import Tensor


def checkerboard(maps: Float[Tensor, "b c h w"], stride: int = 2, band: float = 1 / 16) -> Float[Tensor, " b"]:
    """Share of each image's energy, without its mean, near the frequency 1 / stride in rows or columns.

    In [0, 1]: smooth maps give about 0, a checkerboard of period `stride` about 1, white noise the share of
    the spectrum that the band covers. The same figure of the truth says what a perfect prediction would have.

    Args:
        maps: Predictions; the channels are averaged, a constant one counts 0.
        stride: Pixels a period, at least 2.
        band: Half width of the band, in cycles a pixel.

    Source: Odena et al. 2016, doi:10.23915/distill.00003, for the artefact; the figure is this project's.
    """
    centred = maps.float() - maps.float().mean((2, 3), keepdim=True)
    energy = torch.fft.fft2(centred).abs().square()
    rows, columns = (torch.fft.fftfreq(n, device=maps.device).abs() for n in maps.shape[2:])
    high = ((rows - 1 / stride).abs() <= band)[:, None] | ((columns - 1 / stride).abs() <= band)[None, :]
    total = energy.sum((2, 3))
    share = (energy * high).sum((2, 3)) / total.clamp_min(1e-12)
    return torch.where(total > 1e-6, share, 0.0).mean(1)
