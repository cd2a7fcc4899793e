"""Teachers: who estimates depth. Owns how a picture goes in and what comes out; knows no files of pictures."""

import json
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.placement import HORIZON, plane_depth
from data.dataset import DataError

READY = Path(__file__).parent / "presets"
HUB = "hf:"
GROUND = "ground"
NEAREST_M = 1e-3  # nearer distances are no distances
METRIC_KINDS = ("glpn", "zoedepth", "depth_pro", "prompt_depth_anything")  # of transformers: they say metres

Raw = Float32[np.ndarray, "h2 w2"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a model file does not tell; the fields of the JSON beside it.

    Attributes:
        width: Of the input, pixels.
        height: Of the input, pixels.
        mean: Taken from RGB in 0..1.
        std: What that is divided by.
        layout: `nchw` or `nhwc`.
        near: Are near things large (bright) or small (dark) in the output?
        depth_unit: `relative`, or `m` for distances, of which the reciprocal is taken.
        source: Where these come from.
    """

    width: int
    height: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: str = "nchw"
    near: str = "bright"
    depth_unit: str = "relative"
    source: str = ""

    def __post_init__(self) -> None:
        words = {"layout": ("nchw", "nhwc"), "near": ("bright", "dark"), "depth_unit": ("relative", "m")}
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise DataError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(allowed)}")
        for name in ("width", "height"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)!r}; it is a number of pixels")
        for name in ("mean", "std"):
            if not isinstance(getattr(self, name), tuple) or len(getattr(self, name)) != 3:
                raise DataError(f"{name} is {getattr(self, name)!r}; it is three numbers, for red, green and blue")
        if 0 in self.std:
            raise DataError(f"std is {self.std!r}; what is divided by is not 0")

    def batch(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "1 a b c"]:
        """An RGB picture as the model takes it; its shape is squeezed to the model's."""
        method = cv2.INTER_AREA if image.shape[1] > self.width else cv2.INTER_CUBIC
        resized = cv2.resize(image, (self.width, self.height), interpolation=method)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (resized.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1) if self.layout == "nchw" else scaled)[None]

    def inverse(self, raw: Raw) -> Raw:
        """The model's output as inverse depth, near things large."""
        if self.depth_unit == "m":
            return _reciprocal(raw)
        return raw if self.near == "bright" else -raw

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Read a JSON file.

        Raises:
            DataError: It is at fault.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise DataError("is no object of names and values")
            names = [field.name for field in fields(cls)]
            unknown = sorted(set(values) - set(names))
            if unknown:
                raise DataError(f"unknown key {unknown[0]!r}; keys are {', '.join(names)}")
            plain: dict[str, Any] = {
                name: tuple(map(float, value)) if isinstance(value, list) else value for name, value in values.items()
            }
            return cls(**plain)
        except (DataError, TypeError, ValueError) as error:
            raise DataError(f"{path}: {error}") from error


@dataclass(frozen=True)
class OnnxTeacher:
    """A model file that onnxruntime runs, on one thread."""

    model: Path
    preparation: Preprocessing

    def raw(self, image: UInt8[np.ndarray, "h w 3"]) -> Raw:
        """Inverse depth of an RGB picture in any unit, near things large, at the model's own size.

        Raises:
            DataError: onnxruntime is missing, or the model does not take or give what the JSON says.
        """
        session = _session(self.model)
        batch = self.preparation.batch(image)
        try:
            output = np.squeeze(session.run(None, {session.get_inputs()[0].name: batch})[0]).astype(np.float32)
        except Exception as error:  # onnxruntime's have no common base
            shape = " x ".join(map(str, batch.shape))
            raise DataError(f"{self.model}: does not take {shape} floats; correct its JSON ({_line(error)})") from error
        if output.ndim != 2:
            raise DataError(f"{self.model}: its output has shape {output.shape}; a depth map has height and width")
        return self.preparation.inverse(output)

    def identity(self) -> str:
        """All that its answers depend on, as text."""
        stat = self.model.stat()
        return f"{self.model.resolve()} {stat.st_size} {stat.st_mtime_ns} {self.preparation}"


@dataclass(frozen=True)
class HubTeacher:
    """A model of the Hugging Face hub, run by transformers."""

    name: str

    def raw(self, image: UInt8[np.ndarray, "h w 3"]) -> Raw:
        """Inverse depth of an RGB picture in any unit, near things large.

        Raises:
            DataError: transformers is missing, or the model cannot be loaded.
        """
        from PIL import Image

        pipeline = _pipeline(self.name)
        output: Raw = np.squeeze(np.asarray(pipeline(Image.fromarray(image))["predicted_depth"], np.float32))
        config = pipeline.model.config
        metric = config.model_type in METRIC_KINDS or getattr(config, "depth_estimation_type", "") == "metric"
        return _reciprocal(output) if metric else output

    def identity(self) -> str:
        """All that its answers depend on, as text."""
        return HUB + self.name


@dataclass(frozen=True)
class GroundTeacher:
    """No network: perspective alone. Level ground below a horizon, and all above it infinitely far."""

    def raw(self, image: UInt8[np.ndarray, "h w 3"]) -> Raw:
        """Inverse depth of level ground in a picture of that shape, whatever it shows."""
        height, width = image.shape[:2]
        return np.repeat(plane_depth(height), width, axis=1)

    def identity(self) -> str:
        """All that its answers depend on, as text."""
        return f"{GROUND} {HORIZON}"


Teacher = OnnxTeacher | HubTeacher | GroundTeacher


def find_teacher(stated: str, preparation: str | None = None) -> Teacher | None:
    """The teacher that a command line names, loaded once to see that it can be.

    Args:
        stated: `MODEL.onnx`, `hf:NAME` or `ground`; anything else is no teacher.
        preparation: Name of a ready preparation; if None it is read from `MODEL.json`.

    Raises:
        DataError: It cannot be used.
    """
    if stated.startswith(HUB):
        _pipeline(stated.removeprefix(HUB))
        return HubTeacher(stated.removeprefix(HUB))
    if not stated.endswith(".onnx"):
        if preparation is not None:
            raise DataError(f"--teacher {preparation}: says how a model file is used; --depth names none (MODEL.onnx)")
        return GroundTeacher() if stated == GROUND else None
    model = Path(stated)
    _session(model)
    return OnnxTeacher(model, Preprocessing.read(_preparation_of(model, preparation)))


def _preparation_of(model: Path, name: str | None) -> Path:
    path = model.with_suffix(".json") if name is None else READY / f"{name}.json"
    if not path.is_file():
        ready = ", ".join(ready_preparations())
        raise DataError(f"{path}: not there; write what the model takes into it, or state --teacher, one of {ready}")
    return path


def ready_preparations() -> list[str]:
    """Names of the preparations that come with the program."""
    return sorted(path.stem for path in READY.glob("*.json"))


@lru_cache(maxsize=1)
def _session(model: Path) -> Any:
    """A model of onnxruntime on one thread: there is a process for every core."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DataError(f"{model}: needs onnxruntime; pip install onnxruntime") from error
    if not model.is_file():
        raise DataError(f"{model}: no such file; --depth takes a model that onnxruntime runs")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no common base
        raise DataError(f"{model}: not a model that onnxruntime can load ({_line(error)})") from error


@lru_cache(maxsize=1)
def _pipeline(name: str) -> Any:
    try:
        from transformers import pipeline
    except ImportError as error:
        raise DataError(f"{HUB}{name}: needs transformers; pip install transformers, or name an ONNX file") from error
    try:
        return pipeline("depth-estimation", model=name, model_kwargs={"use_safetensors": True})  # nothing is unpickled
    except Exception as error:  # no network, no such name, no such kind: each its own
        raise DataError(f"{HUB}{name}: cannot be loaded; check the name and the network ({_line(error)})") from error


def _reciprocal(metres: Raw) -> Raw:
    inverse: Raw = np.float32(1) / np.maximum(metres, np.float32(NEAREST_M))
    return inverse


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
