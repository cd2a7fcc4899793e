"""Depth predicted by a pretrained model, cached once for each photo."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.depth_models import DepthModel
from data.dataset import DataError
from data.runtime.files import cache_dir, write_atomically
from data.runtime.parallel import Workers, parallel_map
from data.runtime.progress import Progress
from data.values.decode import read_image


def cache_depth_maps(
    model: DepthModel, photos: Sequence[Path], *, workers: Workers = None, progress: Progress | None = None
) -> Path:
    """Predict the depth of each photo that is not in the user's cache yet.

    Returns:
        Folder of 16-bit depth maps named as the photos, with a dataset.json.
    """
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in photos]
    digest = hashlib.blake2b(f"{model.cache_key()}{stats}".encode(), digest_size=12).hexdigest()
    folder = cache_dir() / "depth" / digest
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text('{"near": "bright", "depth_unit": "relative"}\n')
    left = [path for path in photos if not (folder / f"{path.stem}.png").is_file()]
    results = parallel_map(partial(_predict_file, model, folder), left, workers, folder=folder)
    for done, _ in enumerate(results, start=len(photos) - len(left) + 1):
        if progress:
            progress(done, len(photos))
    return folder


def _predict_file(model: DepthModel, folder: Path, photo: Path) -> None:
    depth = predict_relative_depth(model, read_image(photo), photo.name)
    encoded = cv2.imencode(".png", (depth * np.float32(65535)).round().astype(np.uint16))[1]
    write_atomically(folder / f"{photo.stem}.png", lambda file: file.write(encoded.tobytes()))


def predict_relative_depth(
    model: DepthModel, image: UInt8[np.ndarray, "h w 3"], name: str, shorter_px: int | None = None
) -> Float32[np.ndarray, "h2 w2"]:
    """Predict relative inverse depth of an RGB image, scaled to span 0..1, in the image's shape.

    The shorter side measures `shorter_px`, or that of the model's output; `name` is for the error message.
    """
    raw = model.predict(image)
    low, high = float(raw.min()), float(raw.max())
    if not np.isfinite(raw).all() or low == high:
        raise DataError(f"{name}: the model predicts no depth; remove the photo, or correct the model's JSON")
    shorter_px = shorter_px or min(raw.shape)
    scale = shorter_px / min(image.shape[:2])
    size = tuple(max(shorter_px, round(side * scale)) for side in image.shape[1::-1])
    depth = cv2.resize((raw - np.float32(low)) / np.float32(high - low), size, interpolation=cv2.INTER_LINEAR)
    return np.clip(depth, 0, 1)
