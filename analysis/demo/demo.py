"""A page to try a trained model on photos: mask, depth, cut-out, and the photo turning in space.

    python -m analysis.demo RUN_OR_MODEL

It is served to this machine only and asks nothing of the network; photos are forgotten when it ends.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import UInt8

from analysis.demo.point_cloud import ASSUMED, make_points, plot_points
from analysis.exceptions import AnalysisError
from analysis.predict.photos import UnreadableError, read_photo

if TYPE_CHECKING:
    import gradio

    from analysis.model import Model

HOST = "127.0.0.1"
MOST_PX = 1280  # of the longer side of what is shown
TURNING = Path(__file__).with_name("turning.js")
HEIGHT_PX = 420
LEAST_PX = 320  # wide; on a phone things stand below each other
STYLE = f".turning {{ height: {HEIGHT_PX - 24}px; touch-action: none; }}"  # less what stands around it
PANELS = {"mask": "mask", "depth": "depth, near is bright", "cutout": "cut-out"}
HINT = f"In space, assuming {ASSUMED}; drag to turn it, scroll to come nearer."

Photo = UInt8[np.ndarray, "h w 3"]


def look(model: "Model", photo: Photo | None) -> tuple[Any, ...]:
    """Return what the page shows of a photo: mask, depth, cut-out, the view as JSON, and a line about it.

    Pictures are at the photo's size, or `MOST_PX` along the longer side; without a photo there are none.
    """
    from analysis.predict.predict import codes
    from data.visualize import render_depth

    if photo is None:
        return None, None, None, None, ""
    shown = _shown(photo)
    mask, depth = model.predict(shown)
    cutout = np.dstack([shown, codes(mask, np.uint8)])
    said = f"{shown.shape[1]} by {shown.shape[0]} px, {(mask > 0.5).mean():.1%} of it foreground. {HINT}"
    return codes(mask, np.uint8), render_depth(depth), cutout, plot_points(*make_points(shown, depth)).to_json(), said


def page(model: "Model") -> "gradio.Blocks":
    """Return the page of a model."""
    import gradio as gr
    import plotly

    plotly_js = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    gr.set_static_paths([plotly_js])
    blocks = gr.Blocks(title="One look", analytics_enabled=False)
    with blocks:
        gr.Markdown(f"# One look\n{_about(model)}")
        with gr.Row():
            photo = _photo_input()
            turning = gr.HTML(
                label="in space",
                show_label=True,
                container=True,
                min_width=LEAST_PX,
                html_template='<div class="turning"></div>',
                css_template=STYLE,
                js_on_load=TURNING.read_text(encoding="utf-8"),
                head=f'<script src="/gradio_api/file={plotly_js.as_posix()}"></script>',
            )
        said = gr.Markdown()
        with gr.Row():
            mask, depth, cutout = (
                gr.Image(label=label, elem_id=name, format="png", interactive=False, buttons=["fullscreen", "download"])
                for name, label in PANELS.items()
            )
        photo.change(lambda rgb: look(model, rgb), photo, [mask, depth, cutout, turning, said], api_name="look")
    return blocks


def _photo_input() -> "gradio.Image":
    """Return the place where photos are dropped; they are read as analysis.predict reads them."""
    import gradio as gr

    def read(payload: Any) -> Photo | None:
        if payload is None:
            return None
        path = Path(payload.path)  # which Gradio has checked to lie among what was dropped
        try:
            return read_photo(path)
        except UnreadableError as error:
            raise gr.Error(f"{path.name}: {error}", print_exception=False) from error

    place = gr.Image(label="photo", sources=["upload", "clipboard"], height=HEIGHT_PX, min_width=LEAST_PX)
    place.preprocess = read  # of a subclass Gradio would write a stub file beside this one
    return place


def serve(model: "Model", port: int | None) -> None:
    """Serve the page until the user ends it.

    Raises:
        AnalysisError: Something else listens on that port.
    """
    import gradio as gr

    blocks = page(model)
    theme = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # none of the network's
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
    print(f"{address}  drop a photo there; Ctrl-C ends it", flush=True)
    blocks.block_thread()


def _about(model: "Model") -> str:
    parameters = sum(p.numel() for p in model.network.parameters())
    config = model.config.model
    return (
        f"Foreground and depth from one image, by trial {model.trial_id}: {config.arch} of width {config.width}, "
        f"{parameters:,} parameters, shown squares of {model.px} px."
    )


def _shown(photo: Photo) -> Photo:
    """Return the photo, shrunk where it is larger than what is shown."""
    height, width = photo.shape[:2]
    scale = MOST_PX / max(height, width)
    if scale >= 1:
        return photo
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)


def _port(text: str) -> int:
    """Read the number of a port.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not text.isdigit() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; name one of 1 to 65535")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(prog="python -m analysis.demo", description="Serve a page to try a trained model.")
    p.add_argument("model", type=Path, metavar="RUN_OR_MODEL", help="run folder, its best/ or a .safetensors file")
    p.add_argument("--port", type=_port, metavar="N", help="of the page (default: the first free from 7860 on)")
    p.add_argument("--device", help="torch device, such as cpu or cuda:1; by default a GPU where there is one")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 ended by the user, 2 the user's mistake."""
    args = parser().parse_args(arguments)
    try:
        _demonstrate(args)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


def _demonstrate(args: argparse.Namespace) -> None:
    """Load the model and serve its page; what was dropped there goes when it ends."""
    from analysis.model import load_model

    model = load_model(args.model, device=args.device)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="one-look-") as photos:
        os.environ["GRADIO_TEMP_DIR"] = photos
        try:
            serve(model, args.port)
        except ImportError as error:
            raise AnalysisError(f'{error.name} is not installed; pip install -e ".[demo]"') from error
