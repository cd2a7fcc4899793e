"""A trained model out of a run folder, ready to look at photos. Knows best/, neither Ray nor the search.

Loading runs no code: weights are safetensors, the rest is JSON.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from analysis.exceptions import AnalysisError, first_line
from data.loading.loaders import SMALLEST_STD
from data.pack.stats import Stats
from data.reading.depth import DepthScale
from models.build import build_model
from models.network import Network
from search.config.trial import TrialConfig

WEIGHTS, CONFIG = "model.safetensors", "config.json"
BATCH = 16

Photo = UInt8[np.ndarray, "h w 3"]
Map = Float32[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained network and what it needs to look at a photo.

    Attributes:
        network: In evaluation mode, on its device.
        config: What it was trained with.
        stats: Normalisation of its images.
        px: Side of the squares that it was trained on and is shown.
        trial_id: Its row in trials.csv.
        scale: What its depth means in metres; None where its data did not tell.
    """

    network: Network
    config: TrialConfig
    stats: Stats
    px: int
    trial_id: str
    scale: DepthScale | None = None

    def predict(self, rgb: Photo) -> tuple[Map, Map]:
        """Mask and depth of a photo, at its own size.

        The photo is squeezed into a square as the training images were, whatever its sides.

        Args:
            rgb: Red, green, blue in 0..255.

        Returns:
            Mask in [0, 1], 1 = foreground, and relative inverse depth in [0, 1], near = 1.

        Raises:
            AnalysisError: Not an array of that shape and type.
        """
        return next(self.predict_many([rgb]))

    def predict_many(self, photos: Iterable[Photo], *, batch_size: int = BATCH) -> Iterator[tuple[Map, Map]]:
        """Yield what `predict` returns for each photo; `batch_size` of them are held at once."""
        waiting = iter(photos)
        while batch := list(islice(waiting, batch_size)):
            maps = self.predict_squares(np.stack([self.to_square(rgb) for rgb in batch]))
            for rgb, (mask, depth) in zip(batch, maps, strict=True):
                yield resize_map(mask, rgb.shape[:2]), resize_map(depth, rgb.shape[:2])

    def metres(self, depth: Map) -> Map:
        """Distances of a predicted depth, on the scale of the data that the model was trained on.

        Raises:
            AnalysisError: The depth of those data was relative, or on several scales.
        """
        if self.scale is None:
            raise AnalysisError(f"{self.trial_id}: its data had no one scale in metres; its depth is relative")
        return self.scale.metres(depth)

    def to_square(self, rgb: Photo) -> UInt8[np.ndarray, "px px 3"]:
        """Shrink or stretch a photo to the square that the network is shown, as data.decode does.

        Raises:
            AnalysisError: Not (H, W, 3) of unsigned bytes.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
            raise AnalysisError(f"a photo is uint8 of shape (H, W, 3); this is {rgb.dtype} of shape {rgb.shape}")
        return cv2.resize(rgb, (self.px, self.px), interpolation=cv2.INTER_AREA)

    @torch.inference_mode()
    def predict_squares(self, squares: UInt8[np.ndarray, "b px px 3"]) -> Float32[np.ndarray, "b 2 px px"]:
        """Mask and depth of a batch of squares."""
        device = next(self.network.parameters()).device
        maps: np.ndarray = self.network(self._normalised(torch.from_numpy(squares).to(device))).float().cpu().numpy()
        return maps

    def _normalised(self, squares: Tensor) -> Tensor:
        mean = torch.tensor(self.stats.image_mean, device=squares.device)
        deviation = torch.tensor(self.stats.image_std, device=squares.device).clamp_min(SMALLEST_STD)
        return ((squares / 255 - mean) / deviation).permute(0, 3, 1, 2)


def resize_map(values: Map, shape: tuple[int, ...]) -> Map:
    """Resize a map to (height, width): between its values where it grows, by area averages where it shrinks."""
    grows = shape[0] * shape[1] > values.size
    return cv2.resize(values, shape[1::-1], interpolation=cv2.INTER_LINEAR if grows else cv2.INTER_AREA)


def load_model(path: str | Path, *, device: str | None = None) -> Model:
    """Load the model of a finished run.

    Args:
        path: A run folder, its best/ folder, or model.safetensors with config.json beside it.
        device: torch device; None takes a GPU where there is one.

    Raises:
        AnalysisError: No model there (yet), a damaged file, weights that do not fit the config, no such device.
    """
    weights = find_weights(Path(path))
    about = _read_config(weights.with_name(CONFIG))
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are not kept, nor are the caller's numbers used up
        network = build_model(about["config"].model)
    _fill(network, weights)
    network.eval().on(pick_device(device))
    return Model(network=network, **about)


def find_weights(path: Path) -> Path:
    """Return the weights file that `path` means.

    Raises:
        AnalysisError: There is none; says whether the run has none yet.
    """
    if path.is_file():
        if path.suffix != ".safetensors":
            raise AnalysisError(f"{path}: only .safetensors files are read; name the run folder or its best/{WEIGHTS}")
        return path
    if not path.is_dir():
        raise AnalysisError(f"{path}: no such file or folder; name a run folder, its best/ or a .safetensors file")
    for weights in (path / WEIGHTS, path / "best" / WEIGHTS):
        if weights.is_file():
            return weights
    if (path / "run.json").is_file():
        raise AnalysisError(f"{path}: this run has no model{_state(path)}; best/ appears when a run ends")
    raise AnalysisError(f"{path}: not a run folder, for it holds neither best/ nor {WEIGHTS}")


def pick_device(name: str | None) -> torch.device:
    """Return the device of that name; None takes a GPU where there is one.

    Raises:
        AnalysisError: torch cannot compute on it here.
    """
    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).cpu()  # a name may be known and the device absent
    except (RuntimeError, AssertionError) as error:
        raise AnalysisError(f"device {device!r} cannot be used here ({first_line(error)}); try cpu") from error
    return torch.device(device)


def _state(run: Path) -> str:
    try:
        return f" (run.json says {json.loads((run / 'run.json').read_text(encoding='utf-8'))['state']!r})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _read_config(path: Path) -> dict[str, Any]:
    """Return all of a Model but its network."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        scale = about.get("depth_scale")  # models of before it was recorded lack it
        return {
            "config": TrialConfig.from_dict(about["config"]),
            "stats": Stats.from_dict(about["stats"]),
            "px": int(about["px"]),
            "trial_id": str(about["trial_id"]),
            "scale": DepthScale(**scale) if scale else None,
        }
    except FileNotFoundError as error:
        raise AnalysisError(f"{path}: missing; it belongs beside the weights, as a run writes it") from error
    except KeyError as error:
        raise AnalysisError(f"{path}: not the config of a model, for it lacks {error}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AnalysisError(f"{path}: not the config of a model ({first_line(error)})") from error


def _fill(network: Network, weights: Path) -> None:
    """Put the weights of a file into the network."""
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise AnalysisError(
            f"{weights}: damaged or no safetensors file ({first_line(error)}); copy it again"
        ) from error
    if misfit := _misfit(network.state_dict(), tensors):
        raise AnalysisError(f"{weights}: does not fit {CONFIG} beside it ({misfit}); take both from the same run")
    network.load_state_dict(tensors)


def _misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return the first difference between the tensors a network has and those of a file, or ""."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            return f"{'lacks' if name not in found else 'has a stray'} {name}"
        if expected[name].shape != found[name].shape:
            return f"{name} is {tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
    return ""
