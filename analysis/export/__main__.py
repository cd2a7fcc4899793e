"""Export a trained model as one file for other programs: ONNX, or a program of torch.export.

    one-look export RUN_OR_MODEL --to onnx

The file takes any number of images of any size. Its outputs are compared with the model's before it is written.
"""

import argparse
import sys
from pathlib import Path

from analysis import AnalysisError
from analysis.predict.command import make_parser
from analysis.runs.files import check_file, find_weights, write_file
from data.runtime import cli
from data.runtime.progress import progress_bar

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}
EPILOG = f"""\
The file is written beside the weights as model{" or model".join(SUFFIXES.values())}, or to --out.

Its input is `rgb` (images, 3, height, width): red, green, blue as uint8, sides of 16 or more. Its outputs are `mask`
(1 = foreground) and `depth` (relative inverse depth, near = 1), both (images, 1, height, width) in [0, 1]. The file
normalises but does not resize: the model's metrics hold for squares of its training size, so shrink a photo to that
size first. The file computes one pass; `one-look predict` averages it with a pass for the enlarged mirror image.

    session = onnxruntime.InferenceSession("model.onnx"); mask, depth = session.run(None, {{"rgb": images}})
    mask, depth = torch.export.load("model.pt2").module()(images)

Exit code: 0 written, 1 the exported file would not reproduce the model's outputs (nothing is written), 2 wrong
arguments.
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    p = make_parser("one-look export", "Write a trained model as one file for other programs.", EPILOG)
    p.add_argument("--to", required=True, choices=tuple(SUFFIXES), help="format")
    p.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: beside the weights)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _export(args), AnalysisError)


def _export(args: argparse.Namespace) -> int:
    check_file(args.out)
    with progress_bar(f"{args.to}, compared with the model") as progress:
        from analysis.export.exporter import SIZES, ExportError, export  # after --help
        from analysis.predict.model import load_model

        out = args.out or find_weights(args.model).with_suffix(SUFFIXES[args.to])
        model = load_model(args.model, device="cpu")
        try:
            exported = export(model, args.to, progress=progress)
        except ExportError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    write_file(out, exported.content)
    print(f"{out}  ({len(exported.content) / 1e6:.2f} MB; input rgb, uint8, any batch size and image size)")
    print(f"largest difference from the model {exported.difference:.1e}, over images of {len(SIZES) + 1} sizes")
    print(
        f"one image of {model.px} px on one thread: {exported.latency_ms:.2f} ms, "
        f"{exported.torch_latency_ms:.2f} ms by the model in torch"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
