"""Serve a page to try a trained model on photos: mask, depth, cut-out and a point cloud that can be turned.

    python -m analysis.demo RUN_OR_MODEL

The page is served to this machine only and works offline; photos are deleted when the server ends.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis import AnalysisError
from analysis.demo.point_cloud import ASSUMED, make_points, plot_points, shrink
from analysis.predict.photos import RGBImage, UnreadableError, read_photo
from data.runtime import cli

if TYPE_CHECKING:
    import gradio

    from analysis.model import Model

HOST = "127.0.0.1"
MAX_PX = 1280  # longer side of the displayed images
TURNING = Path(__file__).with_name("turning.js")
HEIGHT_PX = 420
STOPPED = 130  # exit code of cli.run after Ctrl-C
MIN_WIDTH_PX = 320  # of a panel; on a phone the panels stand below each other
STYLE = f".turning {{ height: {HEIGHT_PX - 24}px; touch-action: none; }}"  # without the frame around it
PANELS = {"mask": "mask", "depth": "depth, near is bright", "cutout": "cut-out"}
HINT = f"The point cloud assumes {ASSUMED}; drag to turn it, scroll to zoom."


def predict_photo(model: "Model", photo: RGBImage | None) -> tuple[Any, ...]:
    """Return the page's outputs for a photo: mask, depth, cut-out, point cloud as JSON, and a line of text.

    Images have the photo's size, at most `MAX_PX` along the longer side; without a photo they are None.
    """
    from analysis.predict.predict import quantise
    from data.loading.visualize import render_depth

    if photo is None:
        return None, None, None, None, ""
    shown = shrink(photo, MAX_PX / max(photo.shape[:2]))
    mask, depth = model.predict(shown)
    cutout = np.dstack([shown, quantise(mask, np.uint8)])
    text = f"{shown.shape[1]} by {shown.shape[0]} px, {(mask > 0.5).mean():.1%} foreground. {HINT}"
    return (
        quantise(mask, np.uint8),
        render_depth(depth),
        cutout,
        plot_points(*make_points(shown, depth)).to_json(),
        text,
    )


def build_page(model: "Model") -> "gradio.Blocks":
    """Build the page of a model."""
    import gradio as gr
    import plotly

    plotly_js = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    gr.set_static_paths([plotly_js])
    blocks = gr.Blocks(title="One look", analytics_enabled=False)
    with blocks:
        gr.Markdown(f"# One look\n{_describe(model)}")
        with gr.Row():
            photo = _photo_input()
            turning = gr.HTML(
                label="point cloud",
                show_label=True,
                container=True,
                min_width=MIN_WIDTH_PX,
                html_template='<div class="turning"></div>',
                css_template=STYLE,
                js_on_load=TURNING.read_text(encoding="utf-8"),
                head=f'<script src="/gradio_api/file={plotly_js.as_posix()}"></script>',
            )
        text = gr.Markdown()
        with gr.Row():
            mask, depth, cutout = (
                gr.Image(label=label, elem_id=name, format="png", interactive=False, buttons=["fullscreen", "download"])
                for name, label in PANELS.items()
            )
        photo.change(
            lambda rgb: predict_photo(model, rgb), photo, [mask, depth, cutout, turning, text], api_name="look"
        )
    return blocks


def _photo_input() -> "gradio.Image":
    """Return the input for photos, which reads files as analysis.predict does."""
    import gradio as gr

    def read(payload: Any) -> RGBImage | None:
        if payload is None:
            return None
        path = Path(payload.path)  # Gradio has checked that it is an uploaded file
        try:
            return read_photo(path)
        except UnreadableError as error:
            raise gr.Error(f"{path.name}: {error}", print_exception=False) from error

    place = gr.Image(label="photo", sources=["upload", "clipboard"], height=HEIGHT_PX, min_width=MIN_WIDTH_PX)
    place.preprocess = read  # for a subclass Gradio would write a stub file into this folder
    return place


def serve(model: "Model", port: int | None) -> None:
    """Serve the page until the user stops it.

    Raises:
        AnalysisError: The port is in use.
    """
    import gradio as gr

    blocks = build_page(model)
    theme = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # local fonts: it works offline
    try:
        _, address, _ = blocks.launch(
            server_name=HOST,
            server_port=port,
            theme=theme,
            footer_links=[],
            share=False,
            ssr_mode=False,
            show_error=True,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise AnalysisError(f"port {port or 'from 7860 on'} is in use; name another with --port") from error
    print(f"{address}  open it and drop a photo; stop with Ctrl-C", flush=True)
    blocks.block_thread()


def _describe(model: "Model") -> str:
    parameters = sum(p.numel() for p in model.network.parameters())
    config = model.config.model
    return (
        f"Foreground and depth from one image, by trial {model.trial_id}: {config.arch} of width {config.width}, "
        f"{parameters:,} parameters, input of {model.px} by {model.px} px."
    )


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; name a number from 1 to 65535")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    p = argparse.ArgumentParser(prog="python -m analysis.demo", description="Serve a page to try a trained model.")
    p.add_argument("model", type=Path, metavar="RUN_OR_MODEL", help="run folder, its best/ or a .safetensors file")
    p.add_argument("--port", type=_port, metavar="N", help="port of the page (default: the first free one from 7860)")
    p.add_argument("--device", help="torch device, such as cpu or cuda:1; default: a GPU if there is one")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 if the user stopped the server."""
    args = build_parser().parse_args(arguments)
    code = cli.run(lambda: _serve(args), AnalysisError)
    return 0 if code == STOPPED else code


def _serve(args: argparse.Namespace) -> None:
    """Load the model and serve its page; delete the uploaded photos at the end."""
    from analysis.model import load_model

    model = load_model(args.model, device=args.device)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="one-look-") as photos:
        os.environ["GRADIO_TEMP_DIR"] = photos
        try:
            serve(model, args.port)
        except ImportError as error:
            raise AnalysisError(f'{error.name}: not installed; run pip install -e ".[demo]"') from error
