import pytest
import torch

from models.architectures.blocks import (
    UPSAMPLERS,
    ChannelShuffle,
    Head,
    Norm,
    UpsampleConv,
    conv,
    merge,
    minmax,
    pad_to_multiple,
)


def test_channel_shuffle_interleaves_groups():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_channel_shuffle_leaves_channels_that_groups_do_not_divide():
    x = torch.arange(5.0).view(1, 5, 1, 1)
    assert torch.equal(ChannelShuffle(4)(x), x)


def test_groups_are_lowered_to_what_divides_the_channels():
    assert conv(6, 4, groups=4).groups == 2


@pytest.mark.parametrize("kind", UPSAMPLERS)
def test_upsampling_doubles_the_size(kind):
    out = UpsampleConv(kind, 16, 4)(torch.randn(2, 16, 5, 7))
    assert out.shape == (2, 4, 10, 14)


def test_padding_repeats_the_last_row_and_column():
    padded = pad_to_multiple(torch.arange(6.0).view(1, 1, 2, 3), 4)
    assert padded[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]


def test_padding_beyond_the_image_s_own_size_works():
    assert pad_to_multiple(torch.randn(1, 3, 16, 16), 128).shape == (1, 3, 128, 128)


def test_image_that_fits_is_not_copied():
    image = torch.randn(1, 3, 16, 32)
    assert pad_to_multiple(image, 16) is image


def test_merging_adds_or_concatenates():
    a, b = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -3.0)
    assert merge(a, b, "add").flatten().tolist() == [0]
    assert merge(a, b, "concat").flatten().tolist() == [2, 0]


def test_minmax_spans_zero_to_one_per_image_and_channel():
    maps = minmax(torch.tensor([[[[1.0, 3.0]], [[-4.0, 0.0]]]]))
    assert maps.flatten().tolist() == [0, 1, 0, 1]


def test_minmax_of_a_constant_map_is_zero_with_finite_gradient():
    logits = torch.full((1, 2, 4, 4), 7.0, requires_grad=True)
    out = minmax(logits)
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("subpixel", [True, False])
def test_head_enlarges_by_its_scale(subpixel):
    head = Head(8, "sigmoid", scale=4, subpixel=subpixel)
    assert head(torch.randn(1, 8, 3, 5)).shape == (1, 2, 12, 20)


@pytest.mark.parametrize("scale", [1, 2])
def test_fresh_head_says_the_prior(scale):
    head = Head(64, "sigmoid", scale=scale, subpixel=True)
    head.start_small()
    mask, depth = head(torch.rand(1, 64, 4, 4)).mean((0, 2, 3))
    assert mask.item() == pytest.approx(0.12, abs=0.05)
    assert depth.item() == pytest.approx(0.5, abs=0.1)


def test_prior_of_the_data_is_what_a_fresh_head_says_and_is_kept_with_the_weights():
    head = Head(64, "sigmoid")
    head.start_small()
    head.set_prior({"mask": 0.05, "depth": 0.3})
    mask, depth = head(torch.rand(1, 64, 4, 4)).mean((0, 2, 3))
    assert mask.item() == pytest.approx(0.05, abs=0.03) and depth.item() == pytest.approx(0.3, abs=0.1)
    again = Head(64, "sigmoid")
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.offset, head.offset)
    head.set_prior({"mask": 0.0, "depth": 1.0})
    assert head.offset.isfinite().all()


def test_norm_of_a_single_value_uses_running_moments():
    norm = Norm(3)
    x = torch.randn(1, 3, 1, 1)
    torch.testing.assert_close(norm(x), x, atol=1e-4, rtol=1e-4)


def test_norm_of_more_values_is_batch_norm():
    norm, x = Norm(3), torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(norm(x), torch.nn.BatchNorm2d(3)(x))
