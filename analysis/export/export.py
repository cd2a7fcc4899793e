"""A trained model as one file for other programs: ONNX, TorchScript, or a program of torch.export.

    python -m analysis.export RUN_OR_MODEL --to onnx

The file takes bytes of red, green and blue, any number of pictures of any size. It is compared with the model that it
comes from before it is written.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.exceptions import AnalysisError, first_line
from analysis.runs.files import write_file
from data.runtime.progress import Progress, progress_bar

if TYPE_CHECKING:
    import torch

    from analysis.export.formats import Program
    from analysis.model import Model

ENDINGS = {"onnx": ".onnx", "torchscript": ".torchscript", "torch_export": ".pt2"}
INPUTS = ("uint8", "float32")
SIZES = ((1, 16, 16), (3, 97, 131), (2, 64, 240), (1, 333, 250), (1, 17, 300))  # pictures, height, width
LARGEST_DIFFERENCE = 1e-4  # of values in [0, 1]; eight bits tell 4e-3
WARM_UPS, RUNS = 3, 20
EPILOG = f"""\
The file is written beside the weights, as model{", model".join(ENDINGS.values())}, or where --out says.

Its input is `rgb` (pictures, 3, height, width): red, green, blue in 0..255, sides of 16 or more. Its outputs are `mask`
(1 = foreground) and `depth` (relative inverse depth, near = 1), both (pictures, 1, height, width) in [0, 1].
Normalisation is inside, resizing is not: the model is as good as its metrics on squares of the side that it was trained
at, to which a photo is shrunk first.

    session = onnxruntime.InferenceSession("model.onnx"); mask, depth = session.run(None, {{"rgb": pictures}})
    mask, depth = torch.jit.load("model.torchscript")(pictures)
    mask, depth = torch.export.load("model.pt2").module()(pictures)

Exit code: 0 written, 1 the file would not do what the model does (nothing is written), 2 wrong arguments.
"""


class ExportError(RuntimeError):
    """A format cannot express a model, or gives other values; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model as a file, and what was measured of it.

    Attributes:
        content: Of the file.
        difference: Largest absolute one to the model, over all checks; values are in [0, 1].
        latency_ms: Fewest milliseconds of one picture of the model's own size, on one thread.
        torch_latency_ms: The same of the model.
    """

    content: bytes
    difference: float
    latency_ms: float
    torch_latency_ms: float


def export(model: "Model", to: str, *, kind: str = "uint8", progress: Progress | None = None) -> Exported:
    """Return a model as a file that was opened again and compared with it.

    Args:
        model: On the CPU.
        to: One of ENDINGS.
        kind: Type of the input, one of INPUTS; TorchScript takes both whatever is said.
        progress: Told (checks done, checks in all).

    Raises:
        AnalysisError: A package that the format needs is not installed.
        ExportError: The format cannot express the network, or differs by more than LARGEST_DIFFERENCE.
    """
    import torch

    from analysis.export.formats import FORMATS, Portable, hushed

    form, dtype = FORMATS[to], getattr(torch, kind)
    form.check()
    with hushed(), torch.inference_mode(False), torch.no_grad():
        try:
            content = form.write(Portable(model), dtype, about(model, kind))
        except Exception as error:  # whatever an exporter raises
            raise ExportError(f"{to} cannot express this network ({first_line(error)})") from error
        try:
            program, own = form.open(content), (1, model.px, model.px)
        except Exception as error:  # whatever a runtime raises
            raise ExportError(f"the file cannot be opened again ({first_line(error)})") from error
        difference = compare(program, model, [*SIZES, own], dtype, progress=progress)
        one = random_pictures(own, dtype)
        return Exported(
            content=content,
            difference=difference,
            latency_ms=latency_ms(program, one),
            torch_latency_ms=latency_ms(lambda rgb: look(model, rgb), one),
        )


def about(model: "Model", kind: str) -> dict[str, str]:
    """Return what a file says of itself."""
    return {
        "rgb": f"red, green, blue in 0..255, {kind}, shape (pictures, 3, height, width)",
        "mask": "foreground in [0, 1], shape (pictures, 1, height, width)",
        "depth": "relative inverse depth in [0, 1], near = 1, shape (pictures, 1, height, width)",
        "px": str(model.px),
        "trial_id": model.trial_id,
        "config": json.dumps(model.config.to_dict()),
    }


def compare(
    program: "Program",
    model: "Model",
    sizes: Sequence[tuple[int, int, int]],
    dtype: "torch.dtype",
    *,
    progress: Progress | None = None,
) -> float:
    """Return the largest absolute difference between a program and the model over random pictures of several sizes.

    Raises:
        ExportError: It exceeds LARGEST_DIFFERENCE, or the program refuses a size.
    """
    largest = 0.0
    for number, size in enumerate(sizes, start=1):
        rgb = random_pictures(size, dtype)
        shown = "{} x {} x {}".format(*size)
        try:
            pairs = zip(program(rgb), look(model, rgb), strict=True)
            apart = max(float((found.detach() - expected).abs().max()) for found, expected in pairs)
        except Exception as error:  # each runtime raises its own
            raise ExportError(f"the file does not run on {shown} pictures ({first_line(error)})") from error
        if not apart <= LARGEST_DIFFERENCE:
            raise ExportError(f"differs from the model by up to {apart:.2g} on {shown} pictures; not written")
        largest = max(largest, apart)
        if progress:
            progress(number, len(sizes))
    return largest


def look(model: "Model", rgb: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Return mask and depth as the model itself predicts them."""
    import torch

    maps = torch.from_numpy(model.look(rgb.permute(0, 2, 3, 1).numpy()))
    return maps[:, :1], maps[:, 1:]


def random_pictures(size: tuple[int, int, int], dtype: "torch.dtype") -> "torch.Tensor":
    """Return pictures of coarse noise under fine, always the same of a size."""
    import torch

    count, height, width = size
    drawn = torch.Generator().manual_seed(height * width)
    coarse = torch.rand(count, 3, 5, 5, generator=drawn)
    fine = torch.rand(count, 3, height, width, generator=drawn)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (255 * (0.8 * smooth + 0.2 * fine)).to(dtype)


def latency_ms(program: "Program", rgb: "torch.Tensor") -> float:
    """Return the fewest milliseconds of a program on one thread; what else the machine does can only add to them."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        for _ in range(WARM_UPS + RUNS):
            begin = time.perf_counter()
            program(rgb)
            times.append(1e3 * (time.perf_counter() - begin))
    finally:
        torch.set_num_threads(threads)
    return min(times[WARM_UPS:])


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(
        prog="python -m analysis.export",
        description="Write a trained model as one file for other programs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", type=Path, metavar="RUN_OR_MODEL", help="run folder, its best/ or a .safetensors file")
    p.add_argument("--to", required=True, choices=tuple(ENDINGS), help="format")
    p.add_argument("--input", choices=INPUTS, default="uint8", help="type of the input (default: %(default)s)")
    p.add_argument("--out", type=Path, metavar="FILE", help="file to write; by default beside the weights")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = parser().parse_args(arguments)
    try:
        return _export(args)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _export(args: argparse.Namespace) -> int:
    """Load the model, write the file, and say what was measured."""
    if args.out is not None and args.out.is_dir():
        raise AnalysisError(f"{args.out}: is a folder; name a file with --out")
    with progress_bar(f"{args.to}, compared with the model") as progress:
        from analysis.model import find_weights, load_model

        out = args.out or find_weights(args.model).with_suffix(ENDINGS[args.to])
        model = load_model(args.model, device="cpu")
        made = export(model, args.to, kind=args.input, progress=progress)
    write_file(out, made.content)
    print(f"{out}  ({len(made.content) / 1e6:.2f} MB; input rgb, {args.input}, 0..255, any number and size)")
    print(f"largest difference to the model {made.difference:.1e}, over pictures of {len(SIZES) + 1} sizes")
    print(
        f"one picture of {model.px} px on one thread: {made.latency_ms:.2f} ms, "
        f"{made.torch_latency_ms:.2f} ms by the model in torch"
    )
    return 0
