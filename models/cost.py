"""What a network costs: parameters, multiply-adds, receptive field, latency. Nothing here trains."""

import copy
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from models.build import build_model, model_config
from models.network import Network

PROBE_PX = 1536


@dataclass(frozen=True)
class Cost:
    """Figures of one network at one size.

    Attributes:
        params: Number of parameters.
        macs: Multiply-adds of all convolutions for one image.
        receptive_field: Pixels of the image, a side, that one deepest feature sees: the study's figure.
        output_field: Pixels of the image, a side, that one output pixel sees.
        layers: Number of convolutions.
    """

    params: int
    macs: int
    receptive_field: int
    output_field: int
    layers: int


def count_macs(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """Multiply-adds of one convolution, plain or transposed, for the whole batch."""
    if isinstance(layer, nn.ConvTranspose2d):
        return inputs[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Conv2d):
        return output.numel() * layer.weight[0].numel()
    return 0


def macs(model: Network, px: int) -> tuple[int, int]:
    """Multiply-adds for one px by px image and the number of convolutions; computes shapes, no values."""
    ghost = copy.deepcopy(model).to("meta").eval()
    counts: list[int] = []

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(count_macs(layer, inputs, output))

    for layer in ghost.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(hook)
    with torch.no_grad():
        ghost(torch.empty(1, 3, px, px, device="meta"))
    return sum(counts), len(counts)


def averaging(model: Network) -> Network:
    """Make every path of `model` count and none cancel, in place: convolutions and poolings become means."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
        if isinstance(layer, nn.MaxPool2d):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding))
    return model.double().eval()


def extent(features: Tensor, image: Tensor) -> int:
    """Columns of `image` that the middle column of `features` depends on, at the widest of four neighbours.

    Four, because pixel shuffle and strides give neighbours fields that differ by a few pixels.
    """
    middle = features.shape[3] // 2
    widths = []
    for column in range(middle, middle + 4):
        (grad,) = torch.autograd.grad(features[..., column].sum(), image, retain_graph=True)
        seen = grad.abs().sum((0, 1, 2)).nonzero()
        widths.append(int(seen.max() - seen.min()) + 1)
    return max(widths)


@lru_cache(maxsize=256)
def fields(config_items: tuple[tuple[str, Any], ...]) -> tuple[int, int]:
    """Receptive field of the deepest feature and of an output pixel, by the gradient of a narrow twin."""
    config = model_config({**dict(config_items), "width": 4, "head": "sigmoid"})
    with torch.random.fork_rng(devices=[]):
        model = averaging(build_model(config))
    image = torch.ones(1, 3, model.stride, PROBE_PX, dtype=torch.float64, requires_grad=True)
    deepest = model.encode(image)[-1]
    return extent(deepest, image), extent(model(image), image)


def cost(model: Network, px: int) -> Cost:
    """The figures of a network from `build_model` for px by px images; milliseconds, cached by config.

    The receptive field is measured, not derived, up to about 1,500 px.
    """
    multiply_adds, layers = macs(model, px)
    config = model.config.to_dict()
    hashable = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in config.items() if k != "width")
    deepest, output = fields(hashable)
    params = sum(p.numel() for p in model.parameters())
    return Cost(params, multiply_adds, deepest, output, layers)


def latency_ms(model: nn.Module, px: int, device: str = "cpu", repeats: int = 10) -> float:
    """Median milliseconds of one image's forward pass in evaluation mode, after two warm-up passes."""
    image, training = torch.zeros(1, 3, px, px, device=device), model.training
    model.eval()
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 2):
            start = time.perf_counter()
            model(image)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - start))
    model.train(training)
    return sorted(times[2:])[repeats // 2]
