"""Depth that a teacher says: of photos, once each and kept; of single pictures. Knows neither models nor composites."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.compose.depth_models import Teacher
from data.dataset import DataError
from data.reading.decode import read_image
from data.runtime.files import cache_dir
from data.runtime.parallel import Workers, parallel_map
from data.runtime.progress import Progress


def teach(
    teacher: Teacher, photos: Sequence[Path], *, workers: Workers = None, progress: Progress | None = None
) -> Path:
    """Let a teacher see each photo once; its maps are kept in the user's cache for the next time.

    Args:
        teacher: Who says.
        photos: What it sees.
        workers: Who works.
        progress: Told (photos done, photos in all).

    Returns:
        Folder of 16-bit maps named as the photos, with a dataset.json that says what they mean.

    Raises:
        DataError: A photo that cannot be read, or that the teacher says nothing of.
    """
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in photos]
    digest = hashlib.blake2b(f"{teacher.identity()}{stats}".encode(), digest_size=12).hexdigest()
    folder = cache_dir() / "depth" / digest
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text('{"near": "bright", "depth_unit": "relative"}\n')
    left = [path for path in photos if not (folder / f"{path.stem}.png").is_file()]
    begun = len(photos) - len(left)
    results = parallel_map(partial(_teach_one, teacher, folder), left, workers, folder=folder)
    for done, _ in enumerate(results, start=begun + 1):
        if progress:
            progress(done, len(photos))
    return folder


def _teach_one(teacher: Teacher, folder: Path, photo: Path) -> None:
    depth = relative_depth(teacher, read_image(photo, cv2.IMREAD_COLOR_RGB), photo.name)
    encoded = cv2.imencode(".png", (depth * np.float32(65535)).round().astype(np.uint16))[1]
    partial_file = folder / f".{photo.stem}.partial"
    partial_file.write_bytes(encoded.data)
    partial_file.rename(folder / f"{photo.stem}.png")


def relative_depth(
    teacher: Teacher, image: UInt8[np.ndarray, "h w 3"], name: str, shorter_px: int | None = None
) -> Float32[np.ndarray, "h2 w2"]:
    """What a teacher says of a picture, as relative inverse depth over all of 0..1, in the picture's shape.

    Args:
        teacher: Who says.
        image: RGB.
        name: Of the picture, for the message.
        shorter_px: Shorter side of the result; that of what the teacher says if None.

    Raises:
        DataError: It says nothing: what is not a number, or the same everywhere.
    """
    raw = teacher.raw(image)
    low, high = float(raw.min()), float(raw.max())
    if not np.isfinite(raw).all() or low == high:
        raise DataError(
            f"{name}: the teacher sees no depth in it; remove it, or check how the model is used (its JSON)"
        )
    shorter_px = shorter_px or min(raw.shape)
    scale = shorter_px / min(image.shape[:2])
    size = tuple(max(shorter_px, round(side * scale)) for side in image.shape[1::-1])
    depth = cv2.resize((raw - np.float32(low)) / np.float32(high - low), size, interpolation=cv2.INTER_LINEAR)
    return np.clip(depth, 0, 1)
