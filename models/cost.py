"""Cost of a network: parameters, multiply-adds, receptive field, memory and latency."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.architectures.network import Network
from models.architectures.pretrained import PretrainedConfig
from models.architectures.registry import build_model, get_architecture, parse_model_config
from models.architectures.unet import UNetConfig
from models.config import MIN_WIDTH, ModelConfig

PROBE_PX = 1536
PASS_MACS, MAX_IMAGES = 8e9, 32  # limits of one forward pass: multiply-adds (about a second on a slow core) and images
MAX_GPU_IMAGES = 512
REFERENCE, REFERENCE_PX = UNetConfig(width=4, stem_stride=2), 80  # network whose latency shows how busy a device is
LAUNCHES, LAYER_LAUNCHES = 150, 10  # operations of a training step: a fixed number, and more per convolution
LOSS_MAPS = 40  # float32 maps of image size that MS-SSIM of both tasks keeps (measured); other terms keep fewer


def count_layer_macs(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """Return the multiply-adds of one convolution, plain or transposed, for the whole batch."""
    if isinstance(layer, nn.ConvTranspose2d):
        return inputs[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Conv2d):
        return output.numel() * layer.weight[0].numel()
    return 0


@dataclass(frozen=True)
class Probe:
    """Measurements of one pass over an image whose side is the network's stride; costs grow with the area."""

    params: int  # number of parameters
    layers: int  # number of convolutions
    stride: int  # side of the image in pixels
    macs: int  # multiply-adds of the convolutions
    kept_bytes: int  # memory that autograd keeps until the backward pass, in float32
    largest_bytes: int  # bytes of the largest of these tensors

    def tiles(self, px: int) -> int:
        """Return the number of images of this size that cover a px by px image."""
        return (-(-px // self.stride)) ** 2


class _Unfilled(TorchFunctionMode):
    """Skip the initialisation of new tensors: only shapes matter, and random weights would take most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in (Tensor.uniform_, Tensor.normal_) or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def probe(config: ModelConfig) -> Probe:
    """Measure one pass of the network of a config; the first time takes about ten milliseconds."""
    if isinstance(config, PretrainedConfig):
        config = replace(config, encoder_lr=1.0, freeze_norm=False)  # these fields affect only the training
    return _probe(config)


@lru_cache(maxsize=4096)
def _probe(config: ModelConfig) -> Probe:
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
    """Return the multiply-adds of all convolutions for one px by px image."""
    found = probe(config)
    return found.macs * found.tiles(px)


@dataclass(frozen=True)
class Throughput:
    """Training speed of one process: each image costs arithmetic, and each step costs the launch of its operations."""

    macs_per_s: int | float  # forward multiply-adds trained per second
    launch_s: float = 0.0  # seconds to start one operation, however small

    def scale(self, devices: int | float) -> "Throughput":
        """Return the throughput on several cores or on a fraction of a GPU; operations do not start faster."""
        return Throughput(self.macs_per_s * devices, self.launch_s)

    def compute_training_s(self, images: int | float, macs: int | float, *, layers: int, batch_size: int) -> float:
        """Return the seconds to train on `images` with `macs` multiply-adds per image and `layers` convolutions."""
        step_s = self.launch_s * (LAUNCHES + LAYER_LAUNCHES * layers)
        return images * macs / self.macs_per_s + images / batch_size * step_s

    def estimate_training_s(self, config: ModelConfig, px: int, images: int | float, batch_size: int) -> float:
        """Return the seconds to train the network of a config on `images` of `px`."""
        layers, batch_size = probe(config).layers, max(1, min(batch_size, int(images)))
        return self.compute_training_s(images, count_macs(config, px), layers=layers, batch_size=batch_size)


def make_averaging(model: Network) -> Network:
    """Turn convolutions and poolings of `model` into means, in place, so that paths do not cancel each other."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
        if isinstance(layer, nn.MaxPool2d):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding))
    return model.double().eval()


def measure_receptive_field(config: ModelConfig) -> int:
    """Measure the side of the part of the image that one deepest feature depends on, up to about 1,500 px."""
    architecture = get_architecture(config.arch)
    irrelevant = {"width", *architecture.decoder_fields}
    if config.width in [encoder.get("width") for encoder in architecture.encoders]:
        irrelevant.remove("width")  # it selects a different encoder
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in config.to_dict().items()}
    return _measure_field(tuple((name, value) for name, value in fields.items() if name not in irrelevant))


@lru_cache(maxsize=256)
def _measure_field(shape: tuple[tuple[str, Any], ...]) -> int:
    """Measure a receptive field by the gradient of a network with these fields at the least width."""
    config = parse_model_config({"width": MIN_WIDTH, **dict(shape), "head": "sigmoid"})
    with torch.random.fork_rng(devices=[]):
        model = make_averaging(build_model(config))
    size = (1, 3, model.stride, PROBE_PX)
    image = torch.full(size, 1e-12, dtype=torch.float64, requires_grad=True)  # saturates no ReLU6
    features, widths = model.encode(image)[-1], []
    middle = features.shape[3] // 2
    for column in range(middle, middle + 4):  # with pixel shuffle and strides, neighbours differ by a few pixels
        (grad,) = torch.autograd.grad(features[..., column].sum(), image, retain_graph=True)
        seen = grad.abs().sum((0, 1, 2)).nonzero()
        widths.append(int(seen.max() - seen.min()) + 1)
    return max(widths)


def measure_kept_bytes(model: Network, px: int) -> list[int]:
    """Return the bytes of each storage, except weights, that autograd keeps for one px by px image."""
    weights = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # alive until the end, so that no address is used twice

    def keep(tensor: Tensor) -> None:
        """Record a storage and return no tensor, which would keep alive operations that save their own output."""
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
        model(torch.zeros(1, 3, px, px))
    return [storage.nbytes() for address, storage in kept.items() if address not in weights]


def estimate_training_mib(config: ModelConfig, px: int) -> float:
    """Return the MiB that one more image in a training batch needs, in float32; bfloat16 needs half to nine tenths.

    The sum covers the activations that autograd keeps, the gradients before and after the largest layer, and the loss;
    a test keeps it between 0.95 and 1.3 times the allocator's peak. Weights and optimizer are not included.
    """
    found = probe(config)
    return (found.tiles(px) * (found.kept_bytes + 2 * found.largest_bytes) + LOSS_MAPS * 4 * px**2) / 2**20


def find_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_device() -> str:
    """Return the name of the GPU, or "one thread", on which latencies are measured."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "one thread"


def measure_free_bytes(device: torch.device) -> float:
    """Return the memory of a GPU that this process may still allocate."""
    index = device.index  # None is the current GPU; "cuda" without a number is refused
    free, total = torch.cuda.mem_get_info(index)
    own = torch.cuda.get_per_process_memory_fraction(index) * total - torch.cuda.memory_reserved(index)
    return float(min(free, own))


def choose_images_per_pass(config: ModelConfig, px: int, device: torch.device) -> int:
    """Return how many images to predict at once: about a second on a CPU, half of the free memory on a GPU."""
    if device.type == "cuda":
        room_mib = measure_free_bytes(device) / 2 / 2**20
        return max(1, min(MAX_GPU_IMAGES, int(room_mib / estimate_training_mib(config, px))))
    return max(1, min(MAX_IMAGES, int(PASS_MACS / count_macs(config, px))))


def measure_ms(call: Callable[[], object], repeats: int = 10) -> float:
    """Return the minimum milliseconds of a call on one thread, after two warm-up calls; other load only adds time."""
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(repeats + 2):
            begin = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - begin))
    finally:
        torch.set_num_threads(threads)
    return min(times[2:])


def measure_latency_ms(config: ModelConfig, px: int, *, idle_ms: float | None = None) -> float:
    """Return the milliseconds of one image of `px` on one thread, or on the GPU if there is one.

    While trials are training, `idle_ms` is the earlier result of `measure_reference_ms`: the latency is divided by the
    current slowdown of that reference network.
    """
    found = _time_network(config, px)
    return found if idle_ms is None else found * min(1.0, idle_ms / measure_reference_ms())


def measure_reference_ms() -> float:
    """Return the latency of a small network, to compare an idle device with a busy one."""
    return _time_network(REFERENCE, REFERENCE_PX)


def _time_network(config: ModelConfig, px: int) -> float:
    device = find_device()
    with torch.random.fork_rng(devices=[]):
        model = build_model(config).move_to(device).eval()
    image = torch.zeros(1, 3, px, px, device=device)

    def predict() -> None:
        model(image)
        if device.type == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        return measure_ms(predict)
