"""What a network costs: parameters, multiply-adds, receptive field, memory, latency. Nothing here trains."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.build import build_model, parse_model_config
from models.config import ModelConfig
from models.network import Network

PROBE_PX = 1536
PASS_MACS = 8e9  # of one pass; about a second of a slow core
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


def count_layer_macs(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """Multiply-adds of one convolution, plain or transposed, for the whole batch."""
    if isinstance(layer, nn.ConvTranspose2d):
        return inputs[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Conv2d):
        return output.numel() * layer.weight[0].numel()
    return 0


@dataclass(frozen=True)
class Probe:
    """What one pass of an image of a network's stride tells; whatever grows with the area follows from it.

    Attributes:
        params: Number of parameters.
        layers: Number of convolutions.
        stride: Side of that image.
        macs: Multiply-adds of its convolutions.
        kept_bytes: What autograd keeps of it until the backward pass, in float32.
        largest_bytes: The largest storage among that.
    """

    params: int
    layers: int
    stride: int
    macs: int
    kept_bytes: int
    largest_bytes: int

    def tiles(self, px: int) -> int:
        """Images of the stride that cover a px by px image."""
        return (-(-px // self.stride)) ** 2


class _Unfilled(TorchFunctionMode):
    """Leaves new tensors as they are: where only shapes count, random weights would take most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in (Tensor.uniform_, Tensor.normal_) or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@lru_cache(maxsize=4096)
def probe(config: ModelConfig) -> Probe:
    """The probe of a config; some ten milliseconds the first time."""
    with _Unfilled():
        model = build_model(config).eval()
    counts: list[int] = []

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(count_layer_macs(layer, inputs, output))

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(hook)
    kept = measure_kept_bytes(model, model.stride)
    params = sum(p.numel() for p in model.parameters())
    return Probe(params, len(counts), model.stride, sum(counts), sum(kept), max(kept))


def count_macs(config: ModelConfig, px: int) -> int:
    """Multiply-adds of all convolutions for one px by px image."""
    found = probe(config)
    return found.macs * found.tiles(px)


def make_averaging(model: Network) -> Network:
    """Make every path of `model` count and none cancel, in place: convolutions and poolings become means."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
        if isinstance(layer, nn.MaxPool2d):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding))
    return model.double().eval()


def measure_extent(features: Tensor, image: Tensor) -> int:
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


def measure_receptive_field(config: ModelConfig) -> int:
    """Pixels of the image, a side, that one deepest feature sees; measured, not derived, up to about 1,500 px."""
    return _measure_field(_field_key(config, {"width", *DECODER_FIELDS}), deepest=True)


def measure_output_field(config: ModelConfig) -> int:
    """Pixels of the image, a side, that one output pixel sees; measured, up to about 1,500 px."""
    return _measure_field(_field_key(config, {"width"}), deepest=False)


def _field_key(config: ModelConfig, irrelevant: set[str]) -> tuple[tuple[str, Any], ...]:
    """What of a config the receptive field depends on, so that networks alike in it are measured once."""
    fields = config.to_dict()
    return tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in fields.items() if k not in irrelevant)


@lru_cache(maxsize=256)
def _measure_field(shape: tuple[tuple[str, Any], ...], *, deepest: bool) -> int:
    """A receptive field, by the gradient of a narrow twin."""
    config = parse_model_config({**dict(shape), "width": 4, "head": "sigmoid"})
    with torch.random.fork_rng(devices=[]):
        model = make_averaging(build_model(config))
    image = torch.ones(1, 3, model.stride, PROBE_PX, dtype=torch.float64, requires_grad=True)
    return measure_extent(model.encode(image)[-1] if deepest else model(image), image)


def measure_cost(config: ModelConfig, px: int) -> Cost:
    """The metrics of the network of a config for px by px images; a tenth of a second, less the second time."""
    found = probe(config)
    return Cost(found.params, count_macs(config, px), measure_receptive_field(config), found.layers)


def measure_kept_bytes(model: Network, px: int) -> list[int]:
    """Sizes of what autograd keeps of one px by px image for the backward pass, each storage once, weights left out."""
    weights = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.zeros(1, 3, px, px))
    del output  # until here it kept the storages alive, and their addresses apart
    return [size for address, size in sizes.items() if address not in weights]


def estimate_training_mib(config: ModelConfig, px: int) -> float:
    """Memory in MiB that one more image in a training batch needs, in float32; bfloat16 needs half to nine tenths.

    What autograd keeps of the image until the backward pass, the gradients before and behind the largest layer, and
    the loss. A test holds it within 0.95 and 1.3 of the allocator's own peak. Weights come on top, once a trial:
    16 bytes a parameter with gradient and AdamW's moments.

    Args:
        config: Of the network.
        px: Side of the image.
    """
    found = probe(config)
    return (found.tiles(px) * (found.kept_bytes + 2 * found.largest_bytes) + LOSS_MAPS * 4 * px**2) / 2**20


def choose_images_per_pass(config: ModelConfig, px: int, most: int = 32) -> int:
    """How many images to predict at once, `most` at the most, so that a clock looked at between is kept to a second."""
    return max(1, min(most, int(PASS_MACS / count_macs(config, px))))


def measure_latency_ms(model: nn.Module, px: int, device: str = "cpu", repeats: int = 10) -> float:
    """Fewest milliseconds of one image's forward pass in evaluation mode, after two warm-up passes.

    The fewest, for whatever else the machine does can only add to them.
    """
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
    return min(times[2:])
