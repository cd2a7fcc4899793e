"""Load the trained model of a run folder and predict mask and depth.

Loading executes no code from the folder: weights are safetensors, everything else is JSON.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from analysis import AnalysisError
from analysis.predict.photos import FloatMap, RGBImage
from analysis.runs.files import RUN_WEIGHTS, find_run, find_weights
from data.loading.loaders import SMALLEST_STD
from data.pack.stats import Stats
from data.runtime.cli import first_line
from data.values.depth import DepthScale
from models.architectures.network import Network
from models.architectures.registry import build_model
from models.score import DEFAULT_WEIGHTS, Score
from search.config.plugins import PluginError, load_plugins
from search.config.trial import TrialConfig
from search.output.model_card import describe_origin

CONFIG = "config.json"
MAX_REASON = 200  # characters; torch lists all tensors that are missing
BATCH = 16
BATCH_PIXELS = 2**24  # pixels after which a batch is not enlarged, because its images are in memory at once
# Side of the mirror image, relative to that of the training images. Masks of images that are somewhat larger than in
# training are better; see the decisions in analysis/README.md.
MIRROR_SCALE = 1.2


Maps = Float32[np.ndarray, "b 2 px px"]  # masks and depths of a batch of square images
T = TypeVar("T")


class Normalisation(nn.Module):
    """Normalise images (b, 3, h, w) in 0..255 by the mean and std of the training data."""

    mean: Tensor
    std: Tensor

    def __init__(self, stats: Stats) -> None:
        super().__init__()
        mean, std = torch.tensor([stats.image_mean, stats.image_std]).view(2, 1, 3, 1, 1)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std.clamp_min(SMALLEST_STD))

    def forward(self, rgb: Tensor) -> Tensor:
        """Return the normalised images, in float32."""
        return (rgb.float() / 255 - self.mean) / self.std


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained network with its normalisation and image size."""

    network: Network  # in evaluation mode, on its device
    config: TrialConfig
    stats: Stats  # statistics of the training data, which normalise the images
    px: int  # side of the square images that it was trained on
    trial_id: str  # the model's row in trials.csv
    scale: DepthScale | None = None  # scale of the depth in metres; None if the training data had no common scale
    origin: str = ""  # one line about its training data
    fingerprints: tuple[str, ...] = ()  # of the data set folders that it was trained on
    score: Score = field(default_factory=lambda: Score(sigma=1.0))  # score of the model's run

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    @cached_property
    def normalise(self) -> Normalisation:
        """The normalisation of images, on the device of the network."""
        return Normalisation(self.stats).to(self.device)

    @property
    def mirror_px(self) -> int:
        """Side of the mirror image in pixels; a multiple of the network's stride, so that no pixels are padded."""
        stride = self.network.stride
        return round(MIRROR_SCALE * self.px / stride) * stride

    def predict(self, rgb: RGBImage) -> tuple[FloatMap, FloatMap]:
        """Predict foreground and relative inverse depth (near = 1) of an RGB image, in [0, 1], at the image's size.

        The image is resized to a square, as the training images were, whatever its aspect ratio.
        """
        _, _, mask, depth = next(self.predict_many([(None, rgb)]))
        return mask, depth

    def predict_many(self, images: Iterable[tuple[T, RGBImage]]) -> Iterator[tuple[T, RGBImage, FloatMap, FloatMap]]:
        """Yield mask and depth of each image, after the image and what comes with it.

        The images of one batch are in memory at once. A network that was trained on mirrored images too predicts each
        image, and its mirror image at MIRROR_SCALE times the size; the result is the mean (test-time augmentation).
        """
        for batch in _batch_images(images):
            maps = self._predict_at(self.px, batch)
            if self.config.augment.flip:
                larger = self._predict_at(self.mirror_px, batch, mirrored=True)
                maps = (np.stack([resize_maps(pair, larger.shape[2:]) for pair in maps]) + larger) / 2
            for (about, rgb), pair in zip(batch, maps, strict=True):
                mask, depth = resize_maps(pair, rgb.shape[:2])
                yield about, rgb, mask, depth

    def _predict_at(self, px: int, batch: Sequence[tuple[Any, RGBImage]], *, mirrored: bool = False) -> Maps:
        """Predict images resized to squares of side `px`, and mirrored if so requested; the maps are not mirrored."""
        squares = np.stack([self.to_square(rgb, px) for _, rgb in batch])
        if mirrored:
            return self.predict_squares(np.ascontiguousarray(squares[:, :, ::-1]))[..., ::-1]
        return self.predict_squares(squares)

    def metres(self, depth: FloatMap) -> FloatMap:
        """Convert predicted depth to metres; raise AnalysisError if the training data had no common scale."""
        if self.scale is None:
            raise AnalysisError(f"{self.trial_id}: its depth is relative; its training data had no scale in metres")
        return self.scale.metres(depth)

    def to_square(self, rgb: RGBImage, px: int | None = None) -> UInt8[np.ndarray, "px px 3"]:
        """Resize an image to a square of side `px`, by default that of the training images.

        Raise AnalysisError if the image is not uint8 of shape (H, W, 3).
        """
        side = px or self.px
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
            raise AnalysisError(f"an image must be uint8 of shape (H, W, 3), not {rgb.dtype} of shape {rgb.shape}")
        return cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)

    @torch.inference_mode()
    def predict_squares(self, squares: UInt8[np.ndarray, "b px px 3"]) -> Maps:
        """Predict mask and depth of a batch of square images of any side in one pass, without their mirror images."""
        images = torch.from_numpy(squares).to(self.device).permute(0, 3, 1, 2)
        maps: np.ndarray = self.network(self.normalise(images)).float().cpu().numpy()
        return maps


def _batch_images(images: Iterable[tuple[T, RGBImage]]) -> Iterator[list[tuple[T, RGBImage]]]:
    """Yield batches of BATCH images, or of fewer if they are large."""
    batch: list[tuple[T, RGBImage]] = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH or sum(rgb.size for _, rgb in batch) >= 3 * BATCH_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def resize_maps(maps: Float32[np.ndarray, "2 h w"], shape: tuple[int, ...]) -> Float32[np.ndarray, "2 h2 w2"]:
    """Resize a mask and a depth map to (height, width), by linear interpolation to enlarge, by area means to shrink."""
    grows = shape[0] * shape[1] > maps[0].size
    method = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return np.stack([cv2.resize(values, shape[1::-1], interpolation=method) for values in maps])


def load_model(path: str | Path, *, device: str | None = None) -> Model:
    """Load the model of a run folder, of its best/ folder, or of model.safetensors with config.json beside it.

    `path` may also be `latest`, the last run of this user with a model. Without a `device`, a GPU is used if
    there is one.
    """
    weights = find_weights(find_run(path, needs=RUN_WEIGHTS))
    attributes = _read_config(weights.with_name(CONFIG))
    with torch.random.fork_rng(devices=[]):  # initial weights are discarded; keep the caller's random state
        network = build_model(attributes["config"].model)
    _load_weights(network, weights)
    network.eval().move_to(pick_device(device))
    return Model(network=network, **attributes)


def pick_device(name: str | None) -> torch.device:
    """Return the named device, or for None a GPU if there is one; raise AnalysisError if torch cannot compute on it."""
    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).cpu()  # a valid name may refer to an absent device
    except (RuntimeError, AssertionError) as error:
        raise AnalysisError(f"device {device!r} is not available ({first_line(error)}); try cpu") from error
    return torch.device(device)


def _read_config(path: Path) -> dict[str, Any]:
    """Read the attributes of a Model except its network."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        load_plugins(about.get("plugins", {}), _find_run_of(path))
        scale = about.get("depth_scale")  # absent from models of older versions
        return {
            "config": TrialConfig.from_dict(about["config"]),
            "stats": Stats.from_dict(about["stats"]),
            "px": int(about["px"]),
            "trial_id": str(about["trial_id"]),
            "scale": DepthScale(**scale) if scale else None,
            "origin": describe_origin(about.get("trained_on", {})),
            "fingerprints": tuple(about.get("trained_on", {}).get("fingerprints", ())),
            "score": Score(sigma=about.get("sigma_depth", 1.0), weights=about.get("score_weights", DEFAULT_WEIGHTS)),
        }
    except FileNotFoundError as error:
        raise AnalysisError(f"{path}: missing; copy it from the run folder next to the weights") from error
    except PluginError as error:
        raise AnalysisError(f"{path}: {error}") from error
    except KeyError as error:
        raise AnalysisError(f"{path}: not the config of a model; it lacks {error}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AnalysisError(f"{path}: not the config of a model ({first_line(error)})") from error


def _find_run_of(config: Path) -> Path:
    """Return the run folder, which contains copies of the plugins, of a model in best/ or in a folder of front/."""
    above = (config if len(config.parents) > 1 else config.absolute()).parent.parent
    return above.parent if above.name == "front" else above


def _load_weights(network: Network, weights: Path) -> None:
    """Load the weights of a file into the network."""
    try:
        network.load_state_dict(load_file(weights))
    except (SafetensorError, OSError) as error:
        raise AnalysisError(
            f"{weights}: damaged or not a safetensors file ({first_line(error)}); copy it again"
        ) from error
    except RuntimeError as error:
        reason = shorten(str(error).splitlines()[1], MAX_REASON)  # the first line names the class of the network
        raise AnalysisError(
            f"{weights}: does not fit {CONFIG} beside it ({reason}); use two files from the same run"
        ) from error
