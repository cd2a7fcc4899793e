"""File formats for exported models: write a network as a file, and open the file again with its own runtime."""

import copy
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as symbols
from torch.nn import functional as F  # noqa: N812

from analysis import AnalysisError
from analysis.predict.model import Model, Normalisation
from models.architectures.network import set_memory_format
from models.config import TASKS

MIN_PX = 16
EXAMPLE = (2, 3, 45, 59)  # images, channels and sides, which no stride divides
AXES = {0: "images", 2: "height", 3: "width"}
ABOUT = "about.json"

Program = Callable[[Tensor], tuple[Tensor, Tensor]]


class PortableNetwork(nn.Module):
    """A model's network with normalisation and padding: it takes integer images of any size and returns mask and depth.

    It always pads to the network's stride, because exporters record operations but not branches. The weights are copied
    to contiguous order, because exporters record channels-last weights with conditions on the size.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = copy.deepcopy(model.network).eval().cpu()
        set_memory_format(self.network, torch.contiguous_format)
        self.stride = model.network.stride
        self.normalise = Normalisation(model.stats)

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask and depth, each (b, 1, h, w) in [0, 1], for images (b, 3, h, w) in 0..255."""
        height, width = rgb.shape[2:]
        down, right = _round_up(height, self.stride) - height, _round_up(width, self.stride) - width
        image = F.pad(self.normalise(rgb), (0, right, 0, down), mode="replicate")
        maps = self.network(image)[..., :height, :width]
        return maps[:, :1], maps[:, 1:]


def _round_up(side: int, stride: int) -> int:
    """Round `side` up to a multiple of `stride`, in a form that torch.export recognises as a multiple."""
    return (side + stride - 1) // stride * stride


@dataclass(frozen=True)
class Format:
    """One file format."""

    write: Callable[[PortableNetwork, Mapping[str, str]], bytes]  # returns the file of a network, with metadata
    open: Callable[[bytes], Program]  # returns the content as a program that runs on one thread
    packages: tuple[str, ...] = ()  # packages that `write` and `open` need

    def check_packages(self) -> None:
        """Raise AnalysisError if a package is not installed."""
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise AnalysisError(f'{", ".join(missing)}: not installed; run pip install -e ".[export]"')


def _write_onnx(network: PortableNetwork, about: Mapping[str, str]) -> bytes:
    import onnx

    program = torch.onnx.export(
        _record_program(network),
        dynamo=True,
        dynamic_shapes={"rgb": AXES},
        input_names=["rgb"],
        output_names=list(TASKS),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for output in proto.graph.output:
        for axis, name in AXES.items():
            output.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.helper.set_model_props(proto, dict(about))
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


def _open_onnx(content: bytes) -> Program:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(rgb: Tensor) -> tuple[Tensor, Tensor]:
        mask, depth = session.run(list(TASKS), {"rgb": rgb.numpy()})
        return torch.from_numpy(mask), torch.from_numpy(depth)

    return run


def _write_torch_export(network: PortableNetwork, about: Mapping[str, str]) -> bytes:
    file = BytesIO()
    torch.export.save(_record_program(network), file, extra_files={ABOUT: json.dumps(about)})
    return file.getvalue()


def _record_program(network: PortableNetwork) -> torch.export.ExportedProgram:
    """Record a program for any number of images and any size from MIN_PX.

    The dimensions are named, so that torch refuses a program that is valid only for some sizes. `backed_size_oblivious`
    keeps it from specialising on the example's sizes, as torch.onnx.export does. Stack traces name local source files
    and are removed.
    """
    axes = {axis: torch.export.Dim(name, min=MIN_PX if axis else 1) for axis, name in AXES.items()}
    with symbols.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        example = torch.full(EXAMPLE, 128, dtype=torch.uint8)
        program = torch.export.export(network, (example,), dynamic_shapes={"rgb": axes})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


@contextmanager
def silence_exporters() -> Iterator[None]:
    """Suppress log messages and warnings of torch's exporters; errors are still raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


FORMATS = {
    "onnx": Format(_write_onnx, _open_onnx, packages=("onnx", "onnxscript", "onnxruntime")),
    "torch_export": Format(_write_torch_export, lambda content: torch.export.load(BytesIO(content)).module()),
}
