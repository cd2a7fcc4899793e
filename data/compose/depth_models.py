"""Predict the depth of photos with a network, or assume level ground; maps are cached."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.placement import HORIZON, compute_plane_depth
from data.dataset import POLARITIES, DataError, read_fields
from data.reading.dataset_json import read_dataset_json
from data.runtime.cli import first_line
from data.runtime.files import find_cache_folder, write_atomically
from data.runtime.parallel import Workers, parallel_map
from data.runtime.progress import Progress, no_progress
from data.values.decoding import decode_color, read_pixels
from data.values.orientation import apply_orientation, undo_orientation

PRESETS = Path(__file__).parent / "presets"
HUB = "hf:"
GROUND = "ground"
MIN_DISTANCE_M = 1e-3  # smaller predicted distances are clipped
METRIC_MODELS = ("glpn", "zoedepth", "depth_pro", "prompt_depth_anything")  # transformers' models in metres
CHOICES = {"layout": ("nchw", "nhwc"), "near": POLARITIES, "depth_unit": ("relative", "m")}

Inverse = Float32[np.ndarray, "h2 w2"]  # inverse depth in any unit, near = large


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Input and output of an ONNX model; the fields of the JSON beside it."""

    width: int  # size of the input in pixels
    height: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # subtracted from RGB in [0, 1]
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: str = "nchw"  # or `nhwc`
    near: str = "bright"  # near pixels have large values in the output; or `dark`
    depth_unit: str = "relative"  # or `m` for distances, which are inverted
    source: str = ""  # origin of these values

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise DataError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(choices)}")
        if min(self.width, self.height) < 1:
            raise DataError(f"width and height are {self.width} and {self.height}; use numbers of pixels")
        if len(self.mean) != 3 or len(self.std) != 3 or 0 in self.std:
            raise DataError(f"mean and std are {self.mean} and {self.std}; use three numbers each, std other than 0")

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "1 a b c"]:
        """Resize an RGB image to the model's input and normalise it."""
        method = cv2.INTER_AREA if image.shape[1] > self.width else cv2.INTER_CUBIC
        resized = cv2.resize(image, (self.width, self.height), interpolation=method)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (resized.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1) if self.layout == "nchw" else scaled)[None]

    def to_inverse(self, output: Float32[np.ndarray, "h2 w2"]) -> Inverse:
        """Convert the model's output to inverse depth."""
        return _invert(output) if self.depth_unit == "m" else output if self.near == "bright" else -output

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Read a JSON file."""
        values = read_dataset_json(path)
        try:
            return cls(**read_fields(cls, values))
        except (DataError, TypeError) as error:  # TypeError: a field is missing
            raise DataError(f"{path}: {error}") from error


@dataclass(frozen=True)
class OnnxDepthModel:
    """An ONNX file that onnxruntime runs on one thread."""

    model: Path
    preprocessing: Preprocessing

    def predict(self, image: UInt8[np.ndarray, "h w 3"]) -> Inverse:
        """Predict the inverse depth of an RGB image at the model's output size."""
        session = _load_session(self.model)
        batch = self.preprocessing.prepare(image)
        try:
            output = np.squeeze(session.run(None, {session.get_inputs()[0].name: batch})[0]).astype(np.float32)
        except Exception as error:  # onnxruntime has no base class for its errors
            problem = f"does not take {' x '.join(map(str, batch.shape))} floats ({first_line(error)})"
            raise DataError(f"{self.model}: {problem}; correct its JSON") from error
        if output.ndim != 2:
            raise DataError(f"{self.model}: output has shape {output.shape}; a depth map has height and width")
        return self.preprocessing.to_inverse(output)


@dataclass(frozen=True)
class HubDepthModel:
    """A model of the Hugging Face hub, run by transformers."""

    name: str

    def predict(self, image: UInt8[np.ndarray, "h w 3"]) -> Inverse:
        """Predict inverse depth of an RGB image."""
        from PIL import Image

        pipeline = _load_pipeline(self.name)
        output: Inverse = np.squeeze(np.asarray(pipeline(Image.fromarray(image))["predicted_depth"], np.float32))
        config = pipeline.model.config
        metric = config.model_type in METRIC_MODELS or getattr(config, "depth_estimation_type", "") == "metric"
        return _invert(output) if metric else output


@dataclass(frozen=True)
class LevelGround:
    """Level ground below a horizon, infinite distance above it, for any image."""

    def predict(self, image: UInt8[np.ndarray, "h w 3"]) -> Inverse:
        """Return the inverse depth of level ground in the image's shape."""
        height, width = image.shape[:2]
        return np.repeat(compute_plane_depth(height), width, axis=1)


DepthModel = OnnxDepthModel | HubDepthModel | LevelGround


def load_depth_model(source: str, preset: str | None = None) -> DepthModel | None:
    """Load the depth model `MODEL.onnx` (with the preprocessing of a preset or MODEL.json), `hf:NAME` or `ground`.

    Returns None for any other source.
    """
    if source.startswith(HUB):
        _load_pipeline(source.removeprefix(HUB))
        return HubDepthModel(source.removeprefix(HUB))
    if not source.endswith(".onnx"):
        if preset is not None:
            raise DataError(f"--depth-preset {preset}: needs an ONNX model; add --depth MODEL.onnx")
        return LevelGround() if source == GROUND else None
    model = Path(source).absolute()
    _load_session(model)
    path = model.with_suffix(".json") if preset is None else PRESETS / f"{preset}.json"
    if not path.is_file():
        remedy = (
            f"describe the model's input and output in it, or use --depth-preset, one of {', '.join(list_presets())}"
        )
        raise DataError(f"{path}: no such file; {remedy}")
    return OnnxDepthModel(model, Preprocessing.read(path))


def list_presets() -> list[str]:
    """List the names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.json"))


@lru_cache(maxsize=1)
def _load_session(model: Path) -> Any:
    """Load a model on one thread, because each core has its own process."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DataError(f"{model}: needs onnxruntime; pip install onnxruntime") from error
    if not model.is_file():
        raise DataError(f"{model}: no such file; give an ONNX model to --depth")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no base class for its errors
        raise DataError(f"{model}: onnxruntime cannot load this model ({first_line(error)})") from error


@lru_cache(maxsize=1)
def _load_pipeline(name: str) -> Any:
    try:
        from transformers import pipeline
    except ImportError as error:
        raise DataError(f"{HUB}{name}: needs transformers; pip install transformers, or use an ONNX file") from error
    try:  # safetensors only: pickle files could run code
        return pipeline("depth-estimation", model=name, model_kwargs={"use_safetensors": True})
    except Exception as error:  # a missing connection, name or task raise different errors
        line = first_line(error)
        raise DataError(f"{HUB}{name}: cannot be loaded; check the name and the connection ({line})") from error


def _invert(metres: Float32[np.ndarray, "h2 w2"]) -> Inverse:
    inverse: Inverse = np.float32(1) / np.maximum(metres, np.float32(MIN_DISTANCE_M))
    return inverse


def cache_depth_maps(
    model: DepthModel, photos: Sequence[Path], *, workers: Workers = None, progress: Progress = no_progress
) -> Path:
    """Return a folder of the cache with a 16-bit depth map of each photo, in the photo's stored orientation."""
    files = [*photos, *([model.model] if isinstance(model, OnnxDepthModel) else [])]
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.blake2b(f"{model} {HORIZON} as stored {stats}".encode(), digest_size=12).hexdigest()
    folder = find_cache_folder() / "depth" / digest
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text('{"near": "bright", "depth_unit": "relative"}\n')
    left = [path for path in photos if not (folder / f"{path.stem}.png").is_file()]
    results = parallel_map(partial(_predict_file, model, folder), left, workers, folder=folder)
    for done, _ in enumerate(results, start=len(photos) - len(left) + 1):
        progress(done, len(photos))
    return folder


def _predict_file(model: DepthModel, folder: Path, photo: Path) -> None:
    stored, orientation = read_pixels(photo, decode_color)
    depth = predict_relative_depth(model, apply_orientation(stored, orientation), photo.name)
    depth = undo_orientation(depth, orientation)
    encoded = cv2.imencode(".png", (depth * np.float32(65535)).round().astype(np.uint16))[1]
    write_atomically(folder / f"{photo.stem}.png", lambda file: file.write(encoded.tobytes()))


def predict_relative_depth(
    model: DepthModel, image: UInt8[np.ndarray, "h w 3"], name: str
) -> Float32[np.ndarray, "h2 w2"]:
    """Predict relative inverse depth of an RGB image, scaled to 0..1, in the image's aspect ratio.

    The shorter side measures that of the model's output; `name` is for the error message.
    """
    raw = model.predict(image)
    low, high = float(raw.min()), float(raw.max())
    if not np.isfinite(raw).all() or low == high:
        raise DataError(f"{name}: the model predicts no depth; remove the photo, or correct the model's JSON")
    shorter_px = min(raw.shape)
    scale = shorter_px / min(image.shape[:2])
    size = tuple(max(shorter_px, round(side * scale)) for side in image.shape[1::-1])
    depth = cv2.resize((raw - np.float32(low)) / np.float32(high - low), size, interpolation=cv2.INTER_LINEAR)
    return np.clip(depth, 0, 1)
