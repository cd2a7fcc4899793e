import pytest
import pytorch_msssim
import torch

from models.losses.terms import choose_ms_ssim_window, choose_ssim_window, ms_ssim, ssim


def pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height)
    x = torch.rand(3, 1, height, width, generator=generator)
    return x, (x + 0.3 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("size", [(16, 16), (33, 40), (80, 80), (81, 95), (160, 160)])
def test_ssim_equals_pytorch_msssim(size):
    x, y = pair(*size)
    reference = pytorch_msssim.ssim(x, y, data_range=1, size_average=False)
    torch.testing.assert_close(ssim(x, y), reference, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(33, 40), (80, 80), (81, 95), (160, 160), (224, 224)])
def test_ms_ssim_equals_pytorch_msssim(size):
    x, y = pair(*size)
    window = choose_ms_ssim_window(min(size))
    reference = pytorch_msssim.ms_ssim(x, y, data_range=1, size_average=False, win_size=window)
    torch.testing.assert_close(ms_ssim(x, y), reference, atol=1e-5, rtol=0)


@pytest.mark.parametrize("similarity", [ssim, ms_ssim])
def test_similarity_of_equal_maps_is_one(similarity):
    x, _ = pair(80, 80)
    torch.testing.assert_close(similarity(x, x), torch.ones(3))


def test_ms_ssim_of_a_negative_passes_finite_gradients():
    x, _ = pair(80, 80)
    y = x.clone().requires_grad_()
    ms_ssim(y, 1 - x).sum().backward()
    assert y.grad.isfinite().all()


@pytest.mark.parametrize(("px", "window"), [(33, 3), (64, 3), (65, 5), (80, 5), (160, 9), (161, 11), (224, 11)])
def test_ms_ssim_window_fits_the_size(px, window):
    assert choose_ms_ssim_window(px) == window
    assert (window - 1) * 16 < px


@pytest.mark.parametrize(("px", "window"), [(7, 7), (10, 9), (16, 11), (80, 11)])
def test_ssim_window_is_odd_and_fits(px, window):
    assert choose_ssim_window(px) == window
