"""Serve a page to try a trained model on photos: mask, depth, cut-out and a point cloud that can be turned.

    one-look demo RUN_OR_MODEL

The page is served to this machine only and works offline; photos are deleted when the server ends. Relative inverse
depth has neither unit nor offset, and the lens of a photo is unknown. The point cloud assumes all three.
"""

import argparse
import math
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from analysis import AnalysisError
from analysis.predict.command import add_device_option, load_named_model, make_parser
from analysis.predict.photos import FloatMap, RGBImage, read_photo
from data.dataset import DataError
from data.runtime import cli
from data.runtime.flags import parse_whole

if TYPE_CHECKING:
    import gradio
    import plotly.graph_objects as go

    from analysis.predict.model import Model

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # host names that the page answers to
MAX_UPLOAD = "100mb"
MAX_PX = 1280  # longer side of the displayed images
TURNING = Path(__file__).parent / "assets" / "rotate_cloud.js"
HEIGHT_PX = 420
MIN_WIDTH_PX = 320  # width of a panel; on a phone the panels are stacked
STYLE = f".turning {{ height: {HEIGHT_PX - 24}px; touch-action: none; }}"  # the frame takes 24 px
PANELS = {"mask": "mask", "depth": "depth, near is bright", "cutout": "cut-out"}
FIELD_OF_VIEW_DEG = 55.0  # along the longer side; a 35 mm lens on 36 mm film has 54.4
FARTHEST = 2.0  # distance where the inverse depth is 0; it is 1 where the inverse depth is 1
MAX_POINTS = 40_000
POINT_PX = 2.5  # MAX_POINTS points of this size leave no gaps in a view of 700 px
EYE = {"x": 0.2, "y": -1.3, "z": 0.1}  # a little to the right of the camera and above it
ASSUMED = f"a camera of {FIELD_OF_VIEW_DEG:.0f} degrees, the farthest point {FARTHEST:g} times as far as the nearest"
HINT = f"The point cloud assumes {ASSUMED}; drag to turn it, scroll to zoom."

Points = Float32[np.ndarray, "n 3"]
Colours = UInt8[np.ndarray, "n 3"]


def predict_photo(model: "Model", photo: RGBImage | None) -> tuple[Any, ...]:
    """Return the page's outputs for a photo: mask, depth, cut-out, point cloud as JSON, and a line of text.

    Images have the photo's size, at most `MAX_PX` along the longer side; without a photo they are None.
    """
    from analysis.predict.predictor import quantise
    from data.loading.visualize import render_depth

    if photo is None:
        return None, None, None, None, ""
    shown = shrink(photo, MAX_PX / max(photo.shape[:2]))
    mask, depth = model.predict(shown)
    cutout = np.dstack([shown, quantise(mask, np.uint8)])
    text = f"{shown.shape[1]} by {shown.shape[0]} px, {(mask > 0.5).mean():.1%} foreground. {HINT}"
    points = plot_points(*make_points(shown, depth)).to_json()
    return quantise(mask, np.uint8), render_depth(depth), cutout, points, text


def make_points(image: RGBImage, depth: FloatMap, *, most: int = MAX_POINTS) -> tuple[Points, Colours]:
    """Project the pixels of an image, shrunk to about `most` pixels, into space with a pinhole camera.

    Coordinates are (right, forward, up) from the camera, in units of the nearest distance along the optical axis.

    Source: the pinhole camera, Hartley and Zisserman 2004, chapter 6.
    """
    image, depth = (shrink(values, math.sqrt(most / depth.size)) for values in (image, depth))
    away = 1 / (depth + (1 - depth) / FARTHEST)
    height, width = depth.shape
    focal_px = max(height, width) / 2 / math.tan(math.radians(FIELD_OF_VIEW_DEG / 2))
    right = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / focal_px * away
    up = -(np.arange(height, dtype=np.float32)[:, None] + 0.5 - height / 2) / focal_px * away
    return np.stack([right, away, up], axis=-1).reshape(-1, 3), image.reshape(-1, 3)


def plot_points(xyz: Points, rgb: Colours) -> "go.Figure":
    """Plot the points as a figure that can be turned by hand, on a transparent background."""
    import plotly.graph_objects as go

    dots = {"size": POINT_PX, "color": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in rgb.tolist()]}
    right, away, up = xyz.T
    points = go.Scatter3d(x=right, y=away, z=up, mode="markers", marker=dots, hoverinfo="skip")
    axes = dict.fromkeys(("xaxis_visible", "yaxis_visible", "zaxis_visible"), False)
    figure = go.Figure(points).update_scenes(aspectmode="data", camera_eye=EYE, **axes)
    return figure.update_layout(margin=dict.fromkeys("lrtb", 0), paper_bgcolor="rgba(0,0,0,0)")


def shrink(values: np.ndarray, scale: float) -> np.ndarray:
    """Shrink an image or map by the factor `scale`, by area averages; leave it unchanged if `scale` is 1 or more."""
    if scale >= 1:
        return values
    size = [max(1, round(side * scale)) for side in values.shape[1::-1]]
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def build_page(model: "Model") -> "gradio.Blocks":
    """Build the page of a model."""
    import gradio as gr
    import plotly

    plotly_js = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    gr.set_static_paths([plotly_js])
    with gr.Blocks(title="One look", analytics_enabled=False) as blocks:
        gr.Markdown(f"# One look\n{_describe(model)}")
        with gr.Row():
            photo = _build_photo_input()
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
        outputs = [mask, depth, cutout, turning, text]
        photo.change(lambda rgb: predict_photo(model, rgb), photo, outputs, api_name="look")
    return blocks


def _build_photo_input() -> "gradio.Image":
    """Return the input for photos, which reads files as `one-look predict` does."""
    import gradio as gr

    def read(payload: Any) -> RGBImage | None:
        if payload is None:
            return None
        path = Path(payload.path)  # Gradio has checked that it is an uploaded file
        try:
            return read_photo(path)
        except DataError as error:
            raise gr.Error(str(error).replace(str(path), path.name), print_exception=False) from error

    place = gr.Image(label="photo", sources=["upload", "clipboard"], height=HEIGHT_PX, min_width=MIN_WIDTH_PX)
    place.preprocess = read  # for a subclass Gradio would write a stub file into this folder
    return place


class OwnPageOnly:
    """Middleware that refuses requests from other web pages, recognised by Host and Origin.

    Any site that the user visits can send requests to 127.0.0.1, even under a host name of that site (DNS rebinding).
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer it with status 403."""
        from starlette.responses import PlainTextResponse

        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", [])}
        host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
        own = host.partition(":")[0] in NAMES and origin in ("", f"http://{host}")
        refuse = PlainTextResponse("not from this page", status_code=403)
        await (self.app if own or scope["type"] == "lifespan" else refuse)(scope, receive, send)


def serve(model: "Model", port: int | None) -> None:
    """Serve the page until the user stops it; raise AnalysisError if the port is in use."""
    import gradio as gr
    from starlette.middleware import Middleware

    blocks = build_page(model)
    # local fonts, so that the page works offline
    theme = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        _, address, _ = blocks.launch(
            server_name=HOST,
            server_port=port,
            theme=theme,
            max_file_size=MAX_UPLOAD,
            app_kwargs={"middleware": [Middleware(OwnPageOnly)]},
            footer_links=[],
            share=False,
            ssr_mode=False,
            show_error=True,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise AnalysisError(f"port {port or 'from 7860 on'} is in use; choose another port with --port") from error
    print(f"{address}  open this page and drop a photo on it; stop with Ctrl-C", flush=True)
    blocks.block_thread()


def _describe(model: "Model") -> str:
    parameters = sum(p.numel() for p in model.network.parameters())
    config = model.config.model
    return (
        f"Foreground and depth from one image, by trial {model.trial_id}: {config.arch} of width {config.width}, "
        f"{parameters:,} parameters, input of {model.px} by {model.px} px. {model.origin}"
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    p = make_parser("one-look demo", "Open a local web page to try a trained model on photos.")
    port = "port of the page (default: the first free one from 7860)"
    p.add_argument("--port", type=parse_whole(1, 2**16 - 1, "a port"), metavar="N", help=port)
    add_device_option(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 if the user stopped the server."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _serve(args), AnalysisError)


def _serve(args: argparse.Namespace) -> None:
    """Load the model and serve its page; delete the uploaded photos at the end."""
    model = load_named_model(args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="one-look-") as photos:
        os.environ["GRADIO_TEMP_DIR"] = photos
        try:
            serve(model, args.port)
        except ImportError as error:
            raise AnalysisError(f'{error.name}: not installed; run pip install -e ".[demo]"') from error


if __name__ == "__main__":
    sys.exit(main())
