"""Measure photos per second of a model: from files to files, in memory, and of the network alone.

    python -m tests.benchmarks.predictions RUN_OR_MODEL --photos DIR

The photos are resized to squares of each size and repeated to the requested count. Processor time is summed over all
threads, so other work on the machine hardly changes it; memory is that of the process.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from analysis.predict.model import BATCH, Model, load_model
from analysis.predict.photos import Photo, find_photos, read_photo
from analysis.predict.predictor import PhotoPredictor
from data.runtime.progress import Progress, progress_bar

DIFFERENT = 20  # distinct photos; the others are copies
MIB = 2**20


def write_photos(sources: Sequence[Path], folder: Path, *, px: int, count: int) -> list[Photo]:
    """Write `count` JPEGs of px by px and return them.

    Args:
        sources: Photos, of which the first DIFFERENT are used.
        folder: Output folder.
        px: Side of the images.
        count: Number of images.
    """
    folder.mkdir(parents=True)
    different = []
    for path in sources[:DIFFERENT]:
        image = cv2.resize(read_photo(path), (px, px), interpolation=cv2.INTER_AREA)
        different.append(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
    for number in range(count):
        (folder / f"{number:06d}.jpg").write_bytes(different[number % len(different)])
    return find_photos([folder], folder.with_name("out"))


def resident_mib() -> float:
    """Return the resident memory of this process in MiB, or 0 if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    import resource

    return pages * resource.getpagesize() / MIB


def measure_files(
    model: Model, photos: Sequence[Photo], out: Path, *, progress: Progress | None = None
) -> tuple[float, float, float, float]:
    """Measure photos/s from files to files, processor ms per photo, and memory after a quarter and at the end."""
    memory: list[float] = []

    def record_memory(done: int, total: int) -> None:
        if done in (total // 4, total):
            memory.append(resident_mib())
        if progress:
            progress(done, total)

    begin, cpu = time.perf_counter(), time.process_time()
    PhotoPredictor(model, out, progress=record_memory).write(photos)
    cpu_ms = 1e3 * (time.process_time() - cpu) / len(photos)
    return len(photos) / (time.perf_counter() - begin), cpu_ms, memory[0], memory[-1]


def measure_arrays(model: Model, photos: Sequence[Photo]) -> float:
    """Measure photos/s from arrays to arrays."""
    arrays = [read_photo(photo.path) for photo in photos[:DIFFERENT]]
    begin = time.perf_counter()
    done = sum(1 for _ in model.predict_many((None, arrays[i % len(arrays)]) for i in range(len(photos))))
    return done / (time.perf_counter() - begin)


def measure_network(model: Model, passes: int) -> float:
    """Measure square images/s of the network in batches."""
    squares = np.random.default_rng(0).integers(0, 256, (BATCH, model.px, model.px, 3), np.uint8)
    model.predict_squares(squares)
    begin = time.perf_counter()
    for _ in range(passes):
        model.predict_squares(squares)
    return passes * BATCH / (time.perf_counter() - begin)


def measure_size(model: Model, sources: Sequence[Path], *, px: int, count: int) -> str:
    """Return the table row of one size."""
    folder = Path(tempfile.mkdtemp(prefix="one-look-predictions-"))
    try:
        photos = write_photos(sources, folder / "photos", px=px, count=count)
        in_memory = measure_arrays(model, photos)
        with progress_bar(f"{count:,} photos of {px} px") as progress:
            files, cpu_ms, quarter, end = measure_files(model, photos, folder / "out", progress=progress)
        mb = 1e-6 * sum(path.stat().st_size for path in (folder / "out").iterdir()) / count
    finally:
        shutil.rmtree(folder)
    return f"| {px:,} | {files:.1f} | {cpu_ms:.0f} | {in_memory:.1f} | {mb:.2f} | {quarter:,.0f} | {end:,.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="RUN_OR_MODEL", help="run folder, its best/ or a .safetensors file")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 1024], help="sides (default 224 1024)")
    parser.add_argument("--count", type=int, default=400, help="photos of each size (default 400)")
    parser.add_argument("--device", help="torch device; default: a GPU if there is one")
    args = parser.parse_args()
    model = load_model(args.model, device=args.device)
    sources = [photo.path for photo in find_photos([args.photos], args.photos / "out")]
    device = next(model.network.parameters()).device
    about = f"{model.config.model.arch}, width {model.config.model.width}, at {model.px} px on {device}"
    print(
        f"{about}, {torch.get_num_threads()} threads: {measure_network(model, 20):.0f} squares/s by the network alone\n"
    )
    columns = "px", "photos/s, files", "processor ms", "photos/s, memory", "MB written", "MiB, a quarter", "MiB, end"
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for px in args.sizes:
        print(measure_size(model, sources, px=px, count=args.count))


if __name__ == "__main__":
    main()
