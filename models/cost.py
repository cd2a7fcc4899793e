"""What a network costs: parameters, multiply-adds, receptive field, memory, latency. Nothing here trains."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from models.build import build_model, model_config
from models.network import Network

PROBE_PX = 1536
DECODER_FIELDS = ("upsample", "merge", "groups", "decoders", "head", "skips")
LOSS_MAPS = 40  # float32 maps of the image's size that MS-SSIM of mask and depth keeps, measured; others keep less


@dataclass(frozen=True)
class Cost:
    """Figures of one network at one size.

    Attributes:
        params: Number of parameters.
        macs: Multiply-adds of all convolutions for one image.
        receptive_field: Pixels of the image, a side, that one deepest feature sees: the study's figure.
        layers: Number of convolutions.
    """

    params: int
    macs: int
    receptive_field: int
    layers: int


def count_macs(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """Multiply-adds of one convolution, plain or transposed, for the whole batch."""
    if isinstance(layer, nn.ConvTranspose2d):
        return inputs[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Conv2d):
        return output.numel() * layer.weight[0].numel()
    return 0


def macs(model: nn.Module, px: int) -> tuple[int, int]:
    """Multiply-adds for one px by px image and the number of convolutions; on the meta device no value is computed."""
    counts: list[int] = []

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(count_macs(layer, inputs, output))

    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    handles = [layer.register_forward_hook(hook) for layer in convolutions]
    training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, px, px, device=convolutions[0].weight.device))
    model.train(training)
    for handle in handles:
        handle.remove()
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


def receptive_field(model: Network) -> int:
    """Pixels of the image, a side, that one deepest feature sees; measured, not derived, up to about 1,500 px."""
    return _field(_shape(model, {"width", *DECODER_FIELDS}), deepest=True)


def output_field(model: Network) -> int:
    """Pixels of the image, a side, that one output pixel sees; measured, up to about 1,500 px."""
    return _field(_shape(model, {"width"}), deepest=False)


def _shape(model: Network, irrelevant: set[str]) -> tuple[tuple[str, Any], ...]:
    """What of a config the receptive field depends on, so that networks alike in it are measured once."""
    config = model.config.to_dict()
    return tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in config.items() if k not in irrelevant)


@lru_cache(maxsize=256)
def _field(shape: tuple[tuple[str, Any], ...], *, deepest: bool) -> int:
    """A receptive field, by the gradient of a narrow twin."""
    config = model_config({**dict(shape), "width": 4, "head": "sigmoid"})
    with torch.random.fork_rng(devices=[]):
        model = averaging(build_model(config))
    image = torch.ones(1, 3, model.stride, PROBE_PX, dtype=torch.float64, requires_grad=True)
    return extent(model.encode(image)[-1] if deepest else model(image), image)


def cost(model: Network, px: int) -> Cost:
    """The figures of a network from `build_model` for px by px images; a tenth of a second, less the second time."""
    multiply_adds, layers = macs(model, px)
    params = sum(p.numel() for p in model.parameters())
    return Cost(params, multiply_adds, receptive_field(model), layers)


def kept_bytes(model: Network, px: int) -> list[int]:
    """Sizes of what autograd keeps of one px by px image for the backward pass, each storage once, weights left out."""
    weights = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = storage.nbytes()  # not data_ptr, which is 0 on the meta device
        return tensor

    training = model.training
    model.eval()  # or the norms would learn from the probe
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.zeros(1, 3, px, px, device=next(model.parameters()).device))
    model.train(training)
    del output  # until here it kept the storages alive, and their addresses apart
    return [size for address, size in sizes.items() if address not in weights]


def training_mib(model: Network, px: int) -> float:
    """Memory in MiB that one more image in a training batch needs, in float32; bfloat16 needs half to nine tenths.

    What autograd keeps of the image until the backward pass, the gradients before and behind the largest layer, and
    the loss. A test holds it within 0.95 and 1.3 of the allocator's own peak. Weights come on top, once a trial:
    16 bytes a parameter with gradient and AdamW's moments.

    Activations grow with the area, so that an image of the network's stride, run for real, tells in a few
    milliseconds what the meta device takes a tenth of a second for; a network that is there already is measured there.

    Args:
        model: From `build_model`; left as it is.
        px: Side of the image.
    """
    tiles = (-(-px // model.stride)) ** 2
    kept = kept_bytes(model, model.stride)
    return (tiles * (sum(kept) + 2 * max(kept)) + LOSS_MAPS * 4 * px**2) / 2**20


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
