import gc
import itertools
import time
import weakref

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from models import cost
from models.architectures.registry import build_model, parse_model_config
from models.cost import (
    _measure_field,
    _probe,
    choose_images_per_pass,
    count_layer_macs,
    count_macs,
    estimate_training_mib,
    measure_kept_bytes,
    measure_latency_ms,
    measure_ms,
    measure_receptive_field,
    probe,
)
from models.losses.loss import build_loss
from models.losses.registry import LossConfig
from models.target import Target

SIZES = [
    {"arch": "unet", "width": 4, "stem_stride": 4, "block": "plain"},
    {"arch": "unet", "width": 4, "stem_stride": 2, "upsample": "bilinear", "decoders": "separate", "groups": 4},
    {"arch": "residual", "width": 8},
    {"arch": "resnet18_ed", "width": 4},
]


def network(**fields):
    torch.manual_seed(0)
    return build_model(parse_model_config(fields))


def unet(**fields):
    return parse_model_config({"arch": "unet", **fields})


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"arch": "atrous", "upsample": "transposed", "dilations": [2, 4, 8]}, 120),
        ({"arch": "atrous", "dilations": [2, 3, 4]}, 80),
        ({"arch": "residual", "dilations": [2, 3, 4]}, 80),
    ],
)
def test_receptive_field_is_the_study_s(config, field):
    assert measure_receptive_field(parse_model_config(config)) == field


def test_receptive_field_of_unet_is_the_widest_path_s():
    # stem 7, then each level of stride j adds 2 d j in its strided and 4 d j in its second convolution, d = 4
    assert measure_receptive_field(unet(width=4)) == 7 + 6 * 4 * (1 + 2 + 4)


def test_receptive_field_does_not_depend_on_the_width():
    assert count_macs(unet(width=5), 80) != count_macs(unet(width=6), 80)
    assert len({measure_receptive_field(unet(width=w)) for w in (4, 6)}) == 1


def test_deepest_feature_depends_on_its_field_and_on_nothing_else():
    model = network(arch="atrous", width=4).double().eval()
    field = measure_receptive_field(model.config)
    image = torch.randn(1, 3, 32, 320, dtype=torch.float64, requires_grad=True)
    model.encode(image)[-1][0, :, 8, 80].sum().backward()
    columns = image.grad.abs().sum((0, 1, 2)).nonzero()
    assert columns.max() - columns.min() + 1 <= field


def test_multiply_adds_of_one_convolution():
    layer, x = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1), torch.randn(1, 3, 10, 10)
    assert count_layer_macs(layer, (x,), layer(x)) == 5 * 5 * 8 * 3 * 9


def test_multiply_adds_of_a_transposed_convolution():
    layer, x = nn.ConvTranspose2d(4, 8, 3, stride=2, padding=1, output_padding=1), torch.randn(1, 4, 5, 5)
    assert count_layer_macs(layer, (x,), layer(x)) == 5 * 5 * 4 * 8 * 9


def test_multiply_adds_grow_with_the_area():
    assert count_macs(unet(width=4), 160) == 4 * count_macs(unet(width=4), 80)


@pytest.mark.parametrize("fields", SIZES, ids=lambda f: "-".join(map(str, f.values())))
@pytest.mark.parametrize("px", [40, 81])
def test_multiply_adds_are_those_of_an_image_of_that_size(fields, px):
    model, counts = network(**fields).eval(), []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda *call: counts.append(count_layer_macs(*call)))
    model(torch.zeros(1, 3, px, px))
    assert sum(counts) == count_macs(model.config, px)


def test_cost_counts_parameters_and_layers():
    model = network(arch="residual", width=32)
    found = probe(model.config)
    assert found.params == 893_792
    assert found.layers == sum(isinstance(m, nn.Conv2d) for m in model.modules())


def test_networks_that_differ_in_how_they_are_trained_are_measured_once():
    _probe.cache_clear()
    trained = [{"encoder_lr": 0.1}, {"encoder_lr": 1.0}, {"encoder_lr": 1.0, "freeze_norm": True}]
    configs = [parse_model_config({"arch": "efficientnet_lite", "width": 4, **fields}) for fields in trained]
    assert len({probe(config) for config in configs}) == 1 == _probe.cache_info().currsize
    assert _probe(configs[0]) == _probe(configs[2]) == probe(configs[1])


def test_cost_leaves_the_generator_as_it_was():
    _measure_field.cache_clear()
    _probe.cache_clear()
    state = torch.get_rng_state()
    config = parse_model_config({"arch": "atrous", "width": 4})
    probe(config)
    measure_receptive_field(config)
    assert torch.equal(state, torch.get_rng_state())


def test_time_is_measured_on_one_thread():
    torch.set_num_threads(2)
    try:
        threads = set()
        assert measure_ms(lambda: threads.add(torch.get_num_threads())) >= 0
        assert threads == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_time_is_the_shortest_after_two_calls():
    seconds = iter([0.0, 0.0, 0.01, 0.03, 0.02])
    assert measure_ms(lambda: time.sleep(next(seconds)), repeats=3) >= 10


def test_latency_is_positive_and_leaves_the_generator_as_it_was():
    state = torch.get_rng_state()
    assert 0 < measure_latency_ms(parse_model_config({"arch": "unet", "width": 4}), 32) < 1000
    assert torch.equal(state, torch.get_rng_state())


def allocated_peak_mib(model, px, images):
    """The most that the allocator held during one training step, beyond what it held before."""
    loss = build_loss(LossConfig(mask_structural="ms_ssim", depth_structural="ms_ssim"), px)
    target = torch.rand(images, 1, px, px)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        image = torch.zeros(images, 3, px, px).to(memory_format=torch.channels_last)
        loss(model(image), Target(target, target, target > 0.2, torch.ones(images, dtype=torch.bool))).total.backward()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(held)) / 2**20


@pytest.mark.parametrize("fields", SIZES, ids=lambda f: "-".join(map(str, f.values())))
def test_memory_of_training_is_what_one_more_image_allocates(fields):
    model = network(**fields).move_to("cpu")
    few, more = (allocated_peak_mib(model, 64, images) for images in (8, 16))
    assert 0.95 < estimate_training_mib(model.config, 64) / ((more - few) / 8) < 1.3


def test_memory_of_training_grows_with_the_area_and_the_width():
    small, wide = unet(width=4), unet(width=8)
    assert estimate_training_mib(small, 160) == pytest.approx(4 * estimate_training_mib(small, 80))
    assert estimate_training_mib(wide, 80) > 1.8 * estimate_training_mib(small, 80)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"arch": "resnet18_ed", "width": 64, "stem_stride": 2}, 435),  # the published figure of ResNet18
        ({"arch": "efficientnet_lite", "variant": 1, "weights": "none"}, 1115),  # ReLU6 must not saturate
        ({"arch": "efficientnet_lite", "variant": 3, "weights": "none"}, 1339),
    ],
)
def test_receptive_field_of_published_encoders(fields, field):
    assert measure_receptive_field(parse_model_config(fields)) == field


def test_nothing_of_a_measured_network_stays_in_memory():
    model, outputs = build_model(parse_model_config({"arch": "unet", "width": 4})), []
    for layer in model.modules():
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(weakref.ref(output)))
    assert sum(measure_kept_bytes(model, model.stride)) > 0
    gc.collect()
    assert len(outputs) > 20 and not [ref for ref in outputs if ref() is not None]


def test_latency_beside_trials_is_that_of_an_idle_device(monkeypatch):
    """Everything takes three times as long while trials are training."""
    config, load = parse_model_config({"arch": "unet", "width": 4}), 3.0
    monkeypatch.setattr(cost, "_time_network", lambda config, px: load * (2.0 if config == cost.REFERENCE else 8.0))
    assert measure_latency_ms(config, 32) == 24.0
    assert measure_latency_ms(config, 32, idle_ms=2.0) == 8.0
    load = 0.5  # the reference was measured in a bad moment
    assert measure_latency_ms(config, 32, idle_ms=2.0) == 4.0


def test_gpu_predicts_as_many_images_as_half_of_its_memory_holds(monkeypatch):
    config = parse_model_config({"arch": "unet", "width": 16})
    monkeypatch.setattr(torch.cuda, "mem_get_info", {None: (40 * 2**30, 80 * 2**30)}.get)
    monkeypatch.setattr(torch.cuda, "memory_reserved", {None: 2**30}.get)
    gpu, images = torch.device("cuda"), []
    for share in (0.02, 0.1, 1.0):
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", {None: share}.__getitem__)
        images.append(choose_images_per_pass(config, 160, gpu))
    assert images == [int(mib / 2 / estimate_training_mib(config, 160)) for mib in (0.6 * 1024, 7 * 1024)] + [images[2]]
    assert images[1] < images[2] <= 512 and choose_images_per_pass(config, 160, torch.device("cpu")) == 1
