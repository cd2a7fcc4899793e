import pytest
import torch
from safetensors.torch import save_file

from models.architectures.registry import build_model, match_encoder, parse_model_config
from models.config import ConfigError
from tests.published import LITE0, RESNET18, published_lite, published_resnet18


def shuffled(weights):
    """A file in safetensors has its tensors in another order."""
    return {name: weights[name] for name in sorted(weights, reverse=True)}


@pytest.mark.parametrize("variant", range(5))
def test_weights_of_timm_find_their_variant_whatever_their_order(variant):
    weights = published_lite(variant)
    fields, tensors = match_encoder(shuffled(weights))
    assert fields == {**LITE0, "variant": variant}
    assert torch.equal(tensors["encoder.blocks.0.layers.3.weight"], weights["blocks.0.0.conv_pw.weight"])
    assert torch.equal(tensors["encoder.blocks.1.layers.3.weight"], weights["blocks.1.0.conv_dw.weight"])
    last = "blocks.6.0.bn3.running_var"
    assert torch.equal(list(tensors.values())[-2], weights[last]) and not any("head" in name for name in tensors)


def test_weights_of_torchvision_become_the_encoder_of_resnet18(tmp_path):
    weights = published_resnet18()
    fields, tensors = match_encoder(shuffled(weights))
    assert fields == RESNET18
    save_file(tensors, tmp_path / "encoder.safetensors")
    model = build_model(parse_model_config({**fields, "skips": True})).eval()
    model.load_pretrained(tmp_path / "encoder.safetensors")
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = model.encode(image)
        expected = compute_first_layer(weights, image)
    assert [f.shape[1:] for f in features] == [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert torch.allclose(features[1], expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def compute_first_layer(weights, x):
    """Compute torchvision's conv1, bn1, pooling and layer1 from the published tensors."""
    f = torch.nn.functional

    def apply(x, conv, bn, **options):
        w = {leaf: weights[f"{bn}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")}
        return f.batch_norm(f.conv2d(x, weights[f"{conv}.weight"], **options), **w)

    x = f.max_pool2d(apply(x, "conv1", "bn1", stride=2, padding=3).relu(), 3, 2, 1)
    for i in range(2):
        y = apply(x, f"layer1.{i}.conv1", f"layer1.{i}.bn1", padding=1).relu()
        x = (x + apply(y, f"layer1.{i}.conv2", f"layer1.{i}.bn2", padding=1)).relu()
    return x


def test_short_encoder_takes_its_part_of_the_file(tmp_path):
    _, tensors = match_encoder(published_lite(2))
    save_file(tensors, tmp_path / "encoder.safetensors")
    model = build_model(parse_model_config({**LITE0, "variant": 2, "encoder_stride": 16}))
    head = model.laterals[0][0].weight.clone()
    model.load_pretrained(tmp_path / "encoder.safetensors")
    own = model.encoder.state_dict()
    assert all(torch.equal(own[name], tensors[f"encoder.{name}"]) for name in own) and len(own) < len(tensors)
    assert torch.equal(model.laterals[0][0].weight, head)


def test_older_file_without_counts_of_batches_fits():
    weights = {name: t for name, t in published_resnet18().items() if not name.endswith("num_batches_tracked")}
    _, tensors = match_encoder(weights)
    assert tensors["stem.0.1.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layer2.0.conv1.weight": torch.zeros(128, 64, 5, 5)},
            r"layer2.0.conv1.weight .* \(128, 64, 5, 5\); .*3, 3\)",
        ),
        ({"layer4.1.bn2.bias": None}, r"no tensor layer4.1.bn2.bias \(512,\)"),
        ({"conv1.weight": torch.full((64, 3, 7, 7), torch.inf)}, "conv1.weight .* not finite"),
    ],
)
def test_tensor_that_does_not_fit_is_named(change, message):
    weights = {name: t for name, t in (published_resnet18() | change).items() if t is not None}
    with pytest.raises(ConfigError, match=message):
        match_encoder(weights)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ConfigError, match="tf_efficientnet_lite0 to 4, or ResNet18"):
        match_encoder({"features.0.weight": torch.zeros(64, 3, 3, 3)})


def test_encoder_of_a_file_needs_one(tmp_path):
    with pytest.raises(ConfigError, match="name it with --encoder-weights"):
        build_model(parse_model_config(LITE0)).load_pretrained()
    with pytest.raises(ConfigError, match=r"gone.safetensors: cannot be read"):
        build_model(parse_model_config(LITE0)).load_pretrained(tmp_path / "gone.safetensors")


def test_published_resnet18_has_its_own_stem_and_moments():
    config = parse_model_config(RESNET18)
    assert (
        sum(p.numel() for part in build_model(config).encoder_modules().values() for p in part.parameters())
        == 11_176_512
    )
    assert config.image_moments.mean == (0.485, 0.456, 0.406)
    assert parse_model_config({"arch": "resnet18_ed"}).image_moments is None
    with pytest.raises(ConfigError, match="stem_stride=1 is not one of 2"):
        parse_model_config({"arch": "resnet18_ed", "width": 64})
