"""The formats that a model is exported to: how each is written, and opened again as its user would.

Owns the network with normalisation and padding as one program for pictures of any size. Files are made and opened in
memory; where they go is not known here.
"""

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

from analysis.exceptions import AnalysisError
from analysis.model import Model
from data.loading.loaders import SMALLEST_STD

LEAST_PX = 16
EXAMPLE = (2, 3, 45, 59)  # sides that no stride divides
AXES = {0: "pictures", 2: "height", 3: "width"}
OUTPUTS = ("mask", "depth")
ABOUT = "about.json"

Program = Callable[[Tensor], tuple[Tensor, Tensor]]


class Portable(nn.Module):
    """A model's network with what stands before it: bytes in, mask and depth out, at any size.

    It pads to the network's stride whether there is anything to pad or not, for what is recorded of a program are its
    steps and not its branches. Weights are a copy in plain order: those in channels-last order would be recorded with
    conditions on the size.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        network = copy.deepcopy(model.network).eval().cpu()
        self.network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.stride = model.network.stride
        mean, deviation = torch.tensor([model.stats.image_mean, model.stats.image_std]).view(2, 1, 3, 1, 1)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation.clamp_min(SMALLEST_STD))

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask and depth, each (b, 1, h, w) in [0, 1], of pictures (b, 3, h, w) in 0..255."""
        height, width = rgb.shape[2:]
        down, right = _multiple(height, self.stride) - height, _multiple(width, self.stride) - width
        image = F.pad((rgb.float() / 255 - self.mean) / self.deviation, (0, right, 0, down), mode="replicate")
        maps = self.network(image)[..., :height, :width]
        return maps[:, :1], maps[:, 1:]


def _multiple(side: int, of: int) -> int:
    """Return the next multiple, written so that torch.export sees that it is one."""
    return (side + of - 1) // of * of


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        write: The file's content, from a program, the type of its input and what the file says of itself.
        open: The program of such a content, on one thread.
        needs: Packages that both need.
    """

    write: Callable[[Portable, torch.dtype, Mapping[str, str]], bytes]
    open: Callable[[bytes], Program]
    needs: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise AnalysisError if a package is missing."""
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise AnalysisError(f'{", ".join(missing)}: not installed; pip install -e ".[export]" brings it')


def _write_onnx(portable: Portable, dtype: torch.dtype, about: Mapping[str, str]) -> bytes:
    import onnx

    program = torch.onnx.export(
        _recorded(portable, dtype),
        dynamo=True,
        dynamic_shapes={"rgb": AXES},
        input_names=["rgb"],
        output_names=list(OUTPUTS),
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
        mask, depth = session.run(list(OUTPUTS), {"rgb": rgb.numpy()})
        return torch.from_numpy(mask), torch.from_numpy(depth)

    return run


def _write_torchscript(portable: Portable, dtype: torch.dtype, about: Mapping[str, str]) -> bytes:
    file = BytesIO()
    traced = torch.jit.trace(portable, (_example(dtype),), check_trace=False)
    torch.jit.save(traced, file, _extra_files={ABOUT: json.dumps(about)})
    return file.getvalue()


def _open_torchscript(content: bytes) -> Program:
    with hushed():
        program: Program = torch.jit.load(BytesIO(content))
    return program


def _write_torch_export(portable: Portable, dtype: torch.dtype, about: Mapping[str, str]) -> bytes:
    file = BytesIO()
    torch.export.save(_recorded(portable, dtype), file, extra_files={ABOUT: json.dumps(about)})
    return file.getvalue()


def _open_torch_export(content: bytes) -> Program:
    program: Program = torch.export.load(BytesIO(content)).module()
    return program


def _recorded(portable: Portable, dtype: torch.dtype) -> torch.export.ExportedProgram:
    """Record a program for every number of pictures and every size from LEAST_PX.

    The dimensions are named, so that torch refuses to record what would hold for some sizes only. It must not take the
    sizes of the example for a hint (that one would be no 1, for instance); torch.onnx.export asks for the same. Where
    on this machine each step stands in a source file is nobody's business.
    """
    axes = {axis: torch.export.Dim(name, min=LEAST_PX if axis else 1) for axis, name in AXES.items()}
    with symbols.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        program = torch.export.export(portable, (_example(dtype),), dynamic_shapes={"rgb": axes})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _example(dtype: torch.dtype) -> Tensor:
    return torch.full(EXAMPLE, 128, dtype=dtype)


@contextmanager
def hushed() -> Iterator[None]:
    """Keep torch's remarks on its own exporters from the terminal; errors are still raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


FORMATS = {
    "onnx": Format(_write_onnx, _open_onnx, needs=("onnx", "onnxscript", "onnxruntime")),
    "torchscript": Format(_write_torchscript, _open_torchscript),
    "torch_export": Format(_write_torch_export, _open_torch_export),
}
