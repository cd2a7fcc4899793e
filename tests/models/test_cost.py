import pytest
import torch
from torch import nn

from models.build import build_model, model_config
from models.cost import _field, cost, count_macs, latency_ms, macs, output_field


def network(**fields):
    torch.manual_seed(0)
    return build_model(model_config(fields))


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"arch": "atrous", "upsample": "transposed", "dilations": [2, 4, 8]}, 120),
        ({"arch": "atrous", "dilations": [2, 3, 4]}, 80),
        ({"arch": "residual", "dilations": [2, 3, 4]}, 80),
    ],
)
def test_receptive_field_is_the_study_s(config, field):
    assert cost(network(**config), 80).receptive_field == field


def test_receptive_field_of_unet_is_the_widest_path_s():
    # stem 7, then each level of stride j adds 2 d j in its strided and 4 d j in its second convolution, d = 4
    assert cost(network(arch="unet", width=4), 80).receptive_field == 7 + 6 * 4 * (1 + 2 + 4)


def test_receptive_field_does_not_depend_on_the_width():
    assert cost(network(arch="unet", width=5), 80) != cost(network(arch="unet", width=6), 80)
    assert len({output_field(network(arch="unet", width=w)) for w in (4, 6)}) == 1


def test_output_pixel_depends_on_its_field_and_on_nothing_else():
    model = network(arch="atrous", width=4).double().eval()
    field = output_field(model)
    image = torch.randn(1, 3, 32, 320, dtype=torch.float64, requires_grad=True)
    model(image)[0, :, 16, 160].sum().backward()
    columns = image.grad.abs().sum((0, 1, 2)).nonzero()
    assert columns.max() - columns.min() + 1 <= field


def test_multiply_adds_of_one_convolution():
    layer, x = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1), torch.randn(1, 3, 10, 10)
    assert count_macs(layer, (x,), layer(x)) == 5 * 5 * 8 * 3 * 9


def test_multiply_adds_of_a_transposed_convolution():
    layer, x = nn.ConvTranspose2d(4, 8, 3, stride=2, padding=1, output_padding=1), torch.randn(1, 4, 5, 5)
    assert count_macs(layer, (x,), layer(x)) == 5 * 5 * 4 * 8 * 9


def test_multiply_adds_grow_with_the_area():
    model = network(arch="unet", width=4)
    assert macs(model, 160)[0] == 4 * macs(model, 80)[0]


def test_cost_counts_parameters_and_layers():
    model = network(arch="residual", width=32)
    figures = cost(model, 80)
    assert figures.params == 893_792
    assert figures.layers == sum(isinstance(m, nn.Conv2d) for m in model.modules())


def test_cost_leaves_the_network_as_it_was():
    model = network(arch="atrous", width=4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    _field.cache_clear()
    state = torch.get_rng_state()
    cost(model, 80)
    latency_ms(model, 32, repeats=1)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_latency_is_positive():
    assert latency_ms(network(arch="unet", width=4), 32, repeats=3) > 0
