import subprocess
import sys

import pytest
import torch
from torch import nn

from models.architectures.registry import ARCHITECTURES, build_model, parse_model_config
from models.config import ConfigError, ModelConfig

SMALL = [
    {"arch": "atrous"},
    {"arch": "atrous", "upsample": "transposed", "stem_stride": 2, "head": "minmax"},
    {"arch": "efficientnet_lite"},
    {"arch": "efficientnet_lite", "variant": 2, "weights": "none"},
    {"arch": "efficientnet_lite", "encoder_stride": 16, "merge": "add", "decoders": "separate"},
    {"arch": "residual"},
    {"arch": "resnet18_ed"},
    {"arch": "resnet18_ed", "skips": True, "stem_stride": 2, "merge": "add", "decoders": "separate"},
    {"arch": "resnet18_ed", "stem_stride": 4},
    {"arch": "unet"},
    {"arch": "unet", "block": "plain", "stem_stride": 2, "levels": 4},
    {"arch": "unet", "upsample": "conv_pixel_shuffle", "groups": 4, "merge": "add"},
    {"arch": "unet", "upsample": "transposed", "groups": 2},
    {"arch": "unet", "upsample": "bilinear", "stem_stride": 4, "head": "minmax"},
    {"arch": "unet", "decoders": "separate", "levels": 4, "merge": "add", "groups": 4},
    {"arch": "unet", "levels": 5, "groups": 8},
]
NAMES = ["-".join(f"{v}" for v in fields.values()) for fields in SMALL]
every_network = pytest.mark.parametrize("fields", SMALL, ids=NAMES)

PUBLISHED = [
    ({"arch": "atrous", "width": 32}, 893_792),
    ({"arch": "residual", "width": 32}, 893_792),
    ({"arch": "resnet18_ed", "width": 16}, 11_504_720),
    ({"arch": "unet", "width": 16}, 2_317_200),
]


def small(fields: dict, width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return build_model(parse_model_config({**fields, "width": width}))


def images(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(1))


def test_small_networks_cover_the_registry():
    assert {fields["arch"] for fields in SMALL} == set(ARCHITECTURES)


@pytest.mark.parametrize(("fields", "params"), PUBLISHED, ids=[f["arch"] for f, _ in PUBLISHED])
def test_network_has_the_published_count_of_parameters(fields, params):
    assert sum(p.numel() for p in build_model(parse_model_config(fields)).parameters()) == params


@pytest.mark.parametrize("arch", ["atrous", "residual", "resnet18_ed", "unet"])
def test_default_config_is_the_study_s(arch):
    published = {fields["arch"]: fields["width"] for fields, _ in PUBLISHED}
    assert parse_model_config({"arch": arch}).width == published[arch]


@every_network
@pytest.mark.parametrize("size", [(16, 16), (33, 47), (80, 80)])
def test_network_gives_two_maps_in_range_at_any_size(fields, size):
    pred = small(fields)(images(2, 3, *size))
    assert pred.shape == (2, 2, *size)
    assert pred.dtype == torch.float32
    assert pred.min() >= 0
    assert pred.max() <= 1


COMPILE = """
import torch
from models.architectures.registry import ARCHITECTURES, build_model
from models.losses.loss import build_loss
from models.losses.registry import LossConfig
from models.target import Target
image, plane = torch.randn(2, 3, 48, 48), torch.rand(2, 1, 48, 48)
target = Target(plane, plane, plane > 0.1, torch.ones(2, dtype=torch.bool))
for name, architecture in ARCHITECTURES.items():
    torch._dynamo.reset()
    model, loss = build_model(architecture.config(width=4)), build_loss(LossConfig(balance="uncertainty"), 48)
    model.set_prior(mask=0.3, depth=0.5)
    labelled = target.count_labelled()
    def step(image):
        return loss(model(image), target, labelled).total
    compiled = torch.compile(step, fullgraph=True, backend="eager")  # raises at a graph break
    torch.testing.assert_close(compiled(image), step(image))
    model.eval()
    with torch.inference_mode():
        assert torch.equal(torch.compile(model, fullgraph=True, backend="eager")(image), model(image))
    print(name)
"""


def test_compiler_gets_each_network_and_its_loss_as_one_graph():
    """In another process, because the checks of types that tests add are no part of the networks."""
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, check=False)
    assert done.stdout.split() == list(ARCHITECTURES), done.stderr[-2000:]


@every_network
def test_gradients_reach_every_parameter(fields):
    model = small(fields)
    (model(images(2, 3, 40, 48)) - 0.3).square().mean().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


@every_network
def test_saved_and_loaded_network_is_equal(fields, tmp_path):
    model = small(fields)
    model(images(4, 3, 32, 32))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    twin = build_model(parse_model_config(model.config.to_dict()))
    twin.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    image = images(2, 3, 33, 40)
    assert torch.equal(model.eval()(image), twin.eval()(image))


@every_network
def test_network_is_finite_under_bfloat16_autocast(fields):
    model = small(fields).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        pred = model(images(2, 3, 40, 40).to(memory_format=torch.channels_last))
    pred.square().mean().backward()
    assert pred.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@every_network
def test_network_keeps_double_precision(fields):
    assert small(fields).double()(images(1, 3, 32, 32).double()).dtype == torch.float64


@every_network
def test_network_learns_one_batch(fields):
    model = small(fields)
    image = images(2, 3, 32, 32)
    target = torch.zeros(2, 2, 32, 32)
    target[:, 0, 8:20, 10:22], target[:, 1] = 1, torch.linspace(0, 1, 32)[:, None]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        loss = (model(image) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@every_network
def test_one_small_image_alone_trains(fields):
    model = small(fields)
    model(images(1, 3, 16, 16)).mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("width", [5, 7, 12])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_any_width_builds(arch, width):
    assert small({"arch": arch}, width)(images(1, 3, 32, 32)).shape == (1, 2, 32, 32)


@every_network
def test_config_survives_plain_values(fields):
    config = parse_model_config({**fields, "width": 4})
    plain = config.to_dict()
    assert next(iter(plain)) == "arch"
    assert all(isinstance(v, str | int | float | bool | list) for v in plain.values())
    assert parse_model_config(plain) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arch": "vgg"}, ", ".join(sorted(ARCHITECTURES))),
        ({}, "arch=None"),
        ({"arch": "unet", "widht": 8}, "nearest is 'width'"),
        ({"arch": "unet", "width": 3}, "from 4"),
        ({"arch": "unet", "width": 8.0}, "type int"),
        ({"arch": "unet", "width": True}, "type int"),
        ({"arch": "resnet18_ed", "skips": 1}, "type bool"),
        ({"arch": "unet", "levels": 6}, "levels=6"),
        ({"arch": "unet", "upsample": "nearest"}, "pixel_shuffle"),
        ({"arch": "unet", "dilations": [1, 2]}, "three"),
        ({"arch": "atrous", "dilations": []}, "dilations"),
        ({"arch": "atrous", "upsample": "bilinear"}, "transposed"),
        ({"arch": "unet", "head": "tanh"}, "minmax"),
        ({"arch": "residual", "stem_stride": 3}, "stem_stride=3"),
    ],
)
def test_wrong_config_says_what_to_change(fields, message):
    with pytest.raises(ConfigError, match=message):
        parse_model_config(fields)


def test_config_does_not_take_another_s_name():
    with pytest.raises(ConfigError, match="unet"):
        ARCHITECTURES["atrous"].config(arch="unet")


def test_network_of_a_nameless_config_is_refused():
    with pytest.raises(ConfigError):
        build_model(ModelConfig())


def test_residual_differs_from_atrous_only_by_its_skips():
    atrous, residual = small({"arch": "atrous"}), small({"arch": "residual"})
    residual.load_state_dict(atrous.state_dict())
    image = images(2, 3, 32, 32)
    assert not torch.equal(atrous(image), residual(image))


def test_separate_decoders_do_not_share_gradients():
    model = small({"arch": "unet", "decoders": "separate"})
    model(images(2, 3, 32, 32))[:, 0].mean().backward()
    mask, depth = model.decoders
    assert any((p.grad != 0).any() for p in mask.parameters())
    assert all((p.grad == 0).all() for p in depth.parameters())


def test_fresh_network_guesses_little_foreground():
    assert small({"arch": "unet"})(images(2, 3, 32, 32))[:, 0].mean().item() == pytest.approx(0.12, abs=0.03)
