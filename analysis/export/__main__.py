"""Export a trained model as one file for other programs: ONNX, or a program of torch.export.

    one-look export RUN_OR_MODEL --to onnx

The file takes any number of images of any size. Its outputs are compared with the model's before it is written.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import AnalysisError
from analysis.predict.command import make_parser
from analysis.runs.files import check_file, find_weights, write_file
from data.runtime import cli
from data.runtime.progress import Progress, no_progress, progress_bar

if TYPE_CHECKING:
    import torch

    from analysis.export.formats import Program
    from analysis.predict.model import Model

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}
INPUTS = ("uint8", "float32")
SIZES = ((1, 16, 16), (3, 97, 131), (2, 64, 240), (1, 333, 250), (1, 17, 300))
MAX_DIFFERENCE = 1e-4  # of values in [0, 1]; the step of eight bits is 4e-3
Size = tuple[int, int, int]  # images, height, width
EPILOG = f"""\
The file is written beside the weights as model{" or model".join(SUFFIXES.values())}, or to --out.

Its input is `rgb` (images, 3, height, width): red, green, blue in 0..255, sides of 16 or more. Its outputs are `mask`
(1 = foreground) and `depth` (relative inverse depth, near = 1), both (images, 1, height, width) in [0, 1].
The file normalises but does not resize: the model's metrics hold for squares of the side that it was trained at, so
shrink a photo to that size first.

    session = onnxruntime.InferenceSession("model.onnx"); mask, depth = session.run(None, {{"rgb": images}})
    mask, depth = torch.export.load("model.pt2").module()(images)

Exit code: 0 written, 1 the file would not give the model's outputs (nothing is written), 2 wrong arguments.
"""


class ExportError(RuntimeError):
    """The format cannot express the model, or gives other values; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """The content of an exported file and its measurements."""

    content: bytes
    difference: float  # largest absolute difference to the model over all checks; values are in [0, 1]
    latency_ms: float  # fewest milliseconds for one image of the model's own size, on one thread
    torch_latency_ms: float  # the same measurement for the model


def export(model: "Model", to: str, *, kind: str = "uint8", progress: Progress = no_progress) -> ExportedModel:
    """Export a model, open the result again and compare its outputs with the model's."""
    import torch

    from analysis.export.formats import FORMATS, PortableNetwork, silence_exporters
    from models.cost import measure_ms

    form, dtype = FORMATS[to], getattr(torch, kind)
    form.check_packages()
    with silence_exporters(), torch.inference_mode(False), torch.no_grad():
        try:
            content = form.write(PortableNetwork(model), dtype, describe(model, kind))
        except Exception as error:  # exporters raise errors of many types
            raise ExportError(f"{to} cannot express this network ({cli.first_line(error)})") from error
        try:
            program, own = form.open(content), (1, model.px, model.px)
        except Exception as error:  # runtimes do so too
            raise ExportError(f"the file cannot be opened again ({cli.first_line(error)})") from error
        difference = measure_difference(program, model, [*SIZES, own], dtype, progress=progress)
        image = draw_random_images(own, dtype)
        return ExportedModel(
            content=content,
            difference=difference,
            latency_ms=measure_ms(lambda: program(image)),
            torch_latency_ms=measure_ms(lambda: predict(model, image)),
        )


def describe(model: "Model", kind: str) -> dict[str, str]:
    """Return the metadata of an exported file."""
    return {
        "rgb": f"red, green, blue in 0..255, {kind}, shape (images, 3, height, width)",
        "mask": "foreground in [0, 1], shape (images, 1, height, width)",
        "depth": "relative inverse depth in [0, 1], near = 1, shape (images, 1, height, width)",
        "px": str(model.px),
        "trial_id": model.trial_id,
        "config": json.dumps(model.config.to_dict()),
    }


def measure_difference(
    program: "Program", model: "Model", sizes: Sequence[Size], dtype: "torch.dtype", *, progress: Progress = no_progress
) -> float:
    """Return the largest absolute difference between a program and the model over random images of several sizes."""
    largest = 0.0
    for number, size in enumerate(sizes, start=1):
        rgb = draw_random_images(size, dtype)
        shown = "{} x {} x {}".format(*size)
        try:
            pairs = zip(program(rgb), predict(model, rgb), strict=True)
            difference = max(float((found.detach() - expected).abs().max()) for found, expected in pairs)
        except Exception as error:  # each runtime raises its own
            raise ExportError(f"the file does not run on {shown} images ({cli.first_line(error)})") from error
        if not difference <= MAX_DIFFERENCE:  # catches nan too
            raise ExportError(f"differs from the model by up to {difference:.2g} on {shown} images; not written")
        largest = max(largest, difference)
        progress(number, len(sizes))
    return largest


def predict(model: "Model", rgb: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the model's own mask and depth for images (b, 3, h, w)."""
    import torch

    maps = torch.from_numpy(model.predict_squares(rgb.permute(0, 2, 3, 1).numpy()))
    return maps[:, :1], maps[:, 1:]


def draw_random_images(size: Size, dtype: "torch.dtype") -> "torch.Tensor":
    """Return images of coarse and fine noise, which depend on the size only."""
    import torch

    count, height, width = size
    generator = torch.Generator().manual_seed(height * width)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    fine = torch.rand(count, 3, height, width, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (255 * (0.8 * smooth + 0.2 * fine)).to(dtype)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    p = make_parser("one-look export", "Write a trained model as one file for other programs.", EPILOG)
    p.add_argument("--to", required=True, choices=tuple(SUFFIXES), help="format")
    p.add_argument("--input", choices=INPUTS, default="uint8", help="type of the input (default: %(default)s)")
    p.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: beside the weights)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = build_parser().parse_args(arguments)
    try:
        return cli.run(lambda: _export(args), AnalysisError)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _export(args: argparse.Namespace) -> None:
    check_file(args.out)
    with progress_bar(f"{args.to}, compared with the model") as progress:
        from analysis.predict.model import load_model

        out = args.out or find_weights(args.model).with_suffix(SUFFIXES[args.to])
        model = load_model(args.model, device="cpu")
        exported = export(model, args.to, kind=args.input, progress=progress)
    write_file(out, exported.content)
    print(f"{out}  ({len(exported.content) / 1e6:.2f} MB; input rgb, {args.input}, 0..255, any number and size)")
    print(f"largest difference to the model {exported.difference:.1e}, over images of {len(SIZES) + 1} sizes")
    print(
        f"one image of {model.px} px on one thread: {exported.latency_ms:.2f} ms, "
        f"{exported.torch_latency_ms:.2f} ms by the model in torch"
    )


if __name__ == "__main__":
    sys.exit(main())
